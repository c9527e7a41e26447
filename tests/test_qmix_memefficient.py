"""`qmix_memefficient.py`: what `qmix.py` learns, from a buffer that stores everything once, small and without zeros."""

import tracemalloc
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cleanmarl import qmix, qmix_memefficient
from cleanmarl.qmix_memefficient import EpisodeBuffer, Packed, shrink
from tests.test_qmix import SMALL, equal_weights, numbered_episode, random_availability, sampled, scalars, seeds

TASKS = {
    "3m": {"env_name": "3m"},
    "lbf": {"env_type": "lbf", "env_name": "Foraging-8x8-2p-3f-v3"},
    "simple_spread": {"env_type": "pz", "env_name": "simple_spread_v3"},
}
STORED = {"obs", "actions", "reward", "states", "done", "avail_actions"}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
properties = settings(deadline=None, max_examples=200, derandomize=True)


# Same losses


def trained(script, folder: Path, **options):
    folder.mkdir()
    args = script.Args(**SMALL | {"batch_size": 4, "buffer_size": 6, "log_every": 1} | options)
    script.train(args, script.open_env(args), script.open_env(args), folder, Event())


@pytest.mark.parametrize("learning", [{}, {"td_lambda": 0.9, "double_q": True, "normalize_reward": True}], ids=str)
@every_task
def test_a_training_is_qmixs_bit_for_bit(tmp_path, task, learning):
    for script, name in ((qmix, "reference"), (qmix_memefficient, "lean")):
        trained(script, tmp_path / name, **task, total_timesteps=700, **learning)
    reference, lean = scalars(tmp_path / "reference"), scalars(tmp_path / "lean")
    assert reference["train/num_updates"][-1][1] >= 8
    del reference["charts/SPS"], lean["charts/SPS"]
    assert lean == reference
    assert equal_weights(tmp_path / "lean", tmp_path / "reference")


# The buffer


def collected(task, episodes: int) -> list[dict[str, np.ndarray]]:
    args = qmix.Args(**SMALL, **task)
    env = qmix.open_env(args)
    agent = qmix.Networks(args, env).agent
    return [qmix.collect_episode(env, agent, args, number, 0)[0] for number in range(episodes)]


def random_episode(number: int, length: int) -> dict[str, np.ndarray]:
    """An episode whose observations and states are half zeros, half different numbers; rewards are 100 number + t."""
    torch.manual_seed(number)
    shapes = (length + 1, 2, 3), (length + 1, 7)
    obs, states = ((torch.randn(shape) * torch.randint(2, shape)).numpy() for shape in shapes)
    actions = np.random.default_rng(number).integers(4, size=(length, 2))
    own = {"obs": obs, "states": states, "actions": actions, "done": np.eye(length, dtype=np.float32)[-1]}
    availability = random_availability(length + 1, 2, 4).numpy()
    return numbered_episode(number, length) | own | {"avail_actions": availability}


def stored(episode: dict[str, np.ndarray]) -> dict[str, np.ndarray | Packed]:
    buffer = EpisodeBuffer(1)
    buffer.store(episode)
    return buffer.episodes[0]


def stored_bytes(episode: dict[str, np.ndarray | Packed]) -> int:
    packed = [array for kept in episode.values() if isinstance(kept, Packed) for array in (kept.there, kept.values)]
    return sum(array.nbytes for array in (*packed, *episode.values()) if isinstance(array, np.ndarray))


def unpacked(packed: Packed, dtype=np.float32) -> np.ndarray:
    """[2, T, ...]: all rows but the last, and all but the first."""
    rows = np.zeros((2, packed.shape[0] - 1, *packed.shape[1:]), dtype)
    packed.unpack_into(*rows)
    return rows


def assert_samples_are_qmixs(episodes: list[dict[str, np.ndarray]], batch_size: int):
    reference, lean = qmix.EpisodeBuffer(len(episodes)), EpisodeBuffer(len(episodes))
    for episode in episodes:
        reference.store(episode)
        lean.store(episode)
    for seed in range(3):
        expected, batch = sampled(reference, batch_size, seed), sampled(lean, batch_size, seed)
        assert batch.keys() == expected.keys()
        for key in expected:
            assert batch[key].dtype == expected[key].dtype, key
            assert torch.equal(batch[key], expected[key]), key


@every_task
def test_a_sample_of_played_episodes_is_qmixs(task):
    assert_samples_are_qmixs(collected(task, 5), batch_size=3)


@properties
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_a_sample_is_qmixs_whatever_the_lengths(lengths, data):
    episodes = [random_episode(number, length) for number, length in enumerate(lengths)]
    assert_samples_are_qmixs(episodes, data.draw(st.integers(1, len(episodes))))


def test_episodes_whose_arrays_have_different_dtypes_are_sampled_together():
    episodes = [random_episode(number, 3) for number in range(3)]
    for episode, scale in zip(episodes, (1, 300, 0.1), strict=True):  # bool, int16 and float32 as stored
        episode["states"] = np.array([0, 1, 1, 0], np.float32)[:, None] * np.full(7, scale, np.float32)
    assert len({stored(episode)["states"].values.dtype for episode in episodes}) == 3
    assert_samples_are_qmixs(episodes, batch_size=3)


@every_task
def test_an_episode_is_stored_under_six_names(task):
    assert stored(collected(task, 1)[0]).keys() == STORED


@every_task
def test_what_is_stored_has_the_rows_and_the_values_of_the_episode(task):
    (episode,) = collected(task, 1)
    lean = stored(episode)
    assert {key: kept.shape for key, kept in lean.items()} == {key: array.shape for key, array in episode.items()}
    for key in ("obs", "states"):
        assert np.array_equal(unpacked(lean[key]), (episode[key][:-1], episode[key][1:]))


def test_actions_availability_and_the_end_take_a_byte_each():
    lean = stored(collected(TASKS["3m"], 1)[0])
    assert {key: lean[key].itemsize for key in ("actions", "avail_actions", "done")} == {
        "actions": 1,
        "avail_actions": 1,
        "done": 1,
    }


def test_storing_an_episode_leaves_it_as_it_was_and_keeps_nothing_of_it():
    episode = random_episode(0, 4)
    before = {key: value.copy() for key, value in episode.items()}
    lean = stored(episode)
    assert all(np.array_equal(episode[key], before[key]) for key in before)
    assert not any(np.shares_memory(lean[key].values, episode[key]) for key in ("obs", "states"))


def test_a_full_buffer_drops_its_oldest_episodes():
    buffer = EpisodeBuffer(3)
    for number in range(5):
        buffer.store(random_episode(number, 1))
    assert {reward for seed in range(30) for reward in sampled(buffer, 1, seed)["reward"].tolist()} == {200, 300, 400}


def test_a_sample_leaves_the_buffer_as_it_was():
    buffer = EpisodeBuffer(1)
    buffer.store(random_episode(0, 3))
    first = sampled(buffer, 1)
    expected = first["obs"].clone()
    for value in first.values():
        value.fill_(0)
    assert torch.equal(sampled(buffer, 1)["obs"], expected)


def memory_of(capacity: int, episodes: int) -> int:
    """Bytes that a buffer holds after so many episodes of 20 steps."""
    made = [random_episode(number, 20) for number in range(5)]
    tracemalloc.start()
    buffer = EpisodeBuffer(capacity)
    for number in range(episodes):
        buffer.store(made[number % 5])
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return used


def test_memory_does_not_depend_on_the_capacity():
    assert memory_of(10**9, 0) < 10_000
    assert memory_of(10**9, 50) == pytest.approx(memory_of(50, 50), rel=0.05)


def test_memory_grows_with_the_episodes_stored():
    assert memory_of(1000, 400) == pytest.approx(4 * memory_of(1000, 100), rel=0.05)


def test_memory_stays_as_it_is_once_the_buffer_is_full():
    assert memory_of(100, 400) == pytest.approx(memory_of(100, 100), rel=0.05)


@pytest.mark.parametrize(("env_name", "times"), [("3m", 1.8), ("MMM", 3)])
def test_a_battle_takes_a_fraction_of_the_memory_of_qmixs_buffer(env_name, times):
    (episode,) = collected({"env_name": env_name}, 1)
    assert times * stored_bytes(stored(episode)) < stored_bytes(episode)


# The smallest dtype

SMALLER = [np.bool_, np.uint8, np.int8, np.int16, np.float16]


def same_values(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one.astype(other.dtype), other, equal_nan=other.dtype.kind == "f")


def holds(dtype, array: np.ndarray) -> bool:
    with np.errstate(all="ignore"):
        return bool((array.astype(dtype).astype(array.dtype) == array).all())


shapes = arrays.array_shapes(min_dims=1, max_dims=2, max_side=4)
whole = st.integers(-(2**18), 2**18)
floats = arrays.arrays(np.float32, shapes, elements=st.floats(width=32) | whole.map(float))
small_numbers = st.sampled_from([0.0, 1.0, -0.0, -1.0, 0.5, 255.0, 256.0, -128.0, -129.0, 2048.0, 2049.0, 65504.0])
few = arrays.arrays(np.float32, shapes, elements=small_numbers)
integers = arrays.arrays(np.int64, shapes, elements=st.integers(-(2**53), 2**53) | st.integers(-300, 300))


@properties
@given(floats | few | integers | arrays.arrays(np.int8, shapes))
@example(np.array([np.nan, 1, 0], np.float32))
@example(np.array([1, np.nan], np.float32))
@example(np.array([0, np.inf, -np.inf], np.float32))
@example(np.array([2**15, 2**16, -(2**15) - 1], np.float32))
@example(np.array([2**31, 2**32, 2**63], np.float32))
@example(np.array([1e-45, 3.4e38], np.float32))
@example(np.array([2**40, 2**53, 256, 65536, -1], np.int64))
@example(np.array([2**53 + 1, -(2**53) - 1], np.int64))
def test_shrinking_keeps_every_value(array):
    assert same_values(shrink(array), array)


@properties
@given(floats | few | integers)
def test_a_shrunk_array_is_never_larger(array):
    assert shrink(array).nbytes <= array.nbytes


@properties
@given(few | integers | arrays.arrays(np.float32, shapes, elements=whole.map(float)))
@example(np.array([2**15], np.int64))
def test_no_smaller_one_of_the_usual_dtypes_holds_the_values(array):
    assert shrink(array).itemsize == min(np.dtype(d).itemsize for d in (*SMALLER, array.dtype) if holds(d, array))


@pytest.mark.parametrize(
    ("values", "itemsize"),
    [
        ([0, 1, 1], 1),
        ([0, 255], 1),
        ([-128, 127], 1),
        ([-1, 255], 2),
        ([-32768, 32767], 2),
        ([0, 0.5, 1], 2),
        ([1 / 3], 4),
        ([2049.5], 4),
    ],
    ids=str,
)
def test_the_size_of_a_number_in_an_array_of(values, itemsize):
    assert shrink(np.array(values, np.float32)).itemsize == itemsize


@given(seeds)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_first_row_does_not_decide_alone(seed):
    rows = np.zeros((5, 3), np.float32)
    place = np.random.default_rng(seed).integers((5, 3))
    rows[tuple(place)] = 0.1
    assert np.array_equal(shrink(rows), rows)


# Without zeros

tall = st.builds(lambda length, row: (length, *row), st.integers(2, 5), arrays.array_shapes(max_dims=2, max_side=3))
sparse = arrays.arrays(np.float32, tall, elements=st.floats(width=32) | small_numbers, fill=st.just(0.0))
sparse_integers = arrays.arrays(np.int64, tall, elements=st.integers(-(2**53), 2**53), fill=st.just(0))
dense = arrays.arrays(np.float32, tall, elements=st.sampled_from([1.0, 255.0, -1.0, 0.1]))


@properties
@given(sparse | dense | sparse_integers)
@example(np.zeros((3, 2), np.float32))
@example(np.ones((3, 2), np.float32))
@example(np.array([[0, 0], [0.1, 0], [2, 3]], np.float32))
@example(np.array([[2, 3], [0.1, 0], [0, 0]], np.float32))
@example(np.array([[-0.0, 1], [np.nan, -0.0]], np.float32))
@example(np.array([[np.inf, 0], [0, np.nan]], np.float32))
@example(np.array([[300, 0], [0, -300]]))
def test_unpacking_gives_back_the_rows_and_the_next_rows(array):
    rows = unpacked(Packed.of(array), array.dtype)
    assert same_values(rows, np.array([array[:-1], array[1:]]))
    assert not np.signbit(rows[rows == 0]).any()


@properties
@given(sparse | dense | sparse_integers)
def test_packed_are_a_bit_per_value_and_those_that_are_not_0_in_no_larger_dtype(array):
    packed = Packed.of(array)
    assert packed.there.nbytes == -(-array.size // 8)
    assert packed.values.shape == (np.count_nonzero(array),)
    assert packed.values.dtype == shrink(array[array != 0]).dtype
    assert packed.values.itemsize <= array.itemsize
