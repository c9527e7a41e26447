"""`qmix_memefficient.py` learns the same as `qmix.py`, from episodes stored without zeros."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from cleanmarl import qmix
from cleanmarl.qmix_memefficient import EpisodeBuffer, shrink, with_zeros, without_zeros
from tests.helpers import (
    LBF,
    SPREAD,
    equal_weights,
    numbered_episode,
    random_availability,
    scalars,
    seeds,
    small_args,
    trained,
)

TASKS = {"3m": {"env_name": "3m"}, "lbf": LBF, "simple_spread": SPREAD}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
properties = settings(deadline=None, max_examples=200, derandomize=True)


# The same losses


LEARNING = {
    "one_step": {},
    "lambda": {"td_lambda": 0.9, "double_q": True, "normalize_reward": True},
}


@pytest.mark.parametrize("learning", LEARNING.values(), ids=LEARNING)
@every_task
def test_a_training_equals_qmixs_bit_for_bit(tmp_path, task, learning):
    options = {"batch_size": 4, "buffer_size": 6, "log_every": 1, "total_timesteps": 700}
    reference = trained("qmix", tmp_path / "reference", **options, **task, **learning)
    lean = trained("qmix_memefficient", tmp_path / "lean", **options, **task, **learning)
    expected = scalars(reference)
    logged = scalars(lean)
    assert expected["train/num_updates"][-1][1] >= 8
    del expected["charts/SPS"], logged["charts/SPS"]
    assert logged == expected
    assert equal_weights(lean, reference)


# The buffer


def collected(task: dict, episodes: int) -> list[dict[str, np.ndarray]]:
    """Episodes of random actions."""
    args = small_args("qmix", **task)
    env = qmix.open_env(args)
    agent = qmix.Networks(args, env).agent
    return [qmix.collect_episode(env, agent, args, number, 0)[0] for number in range(episodes)]


def random_episode(number: int, length: int) -> dict[str, np.ndarray]:
    """An episode of zeros and of different numbers, whose reward is 100 number + t."""
    torch.manual_seed(number)
    episode = numbered_episode(number, length)
    for key in ("obs", "state"):
        shape = episode[key].shape
        episode[key] = (torch.randn(shape) * torch.randint(2, shape)).numpy()
    episode["actions"] = torch.randint(4, (length, 2)).numpy()
    episode["avail_actions"] = random_availability(length + 1, 2, 4).numpy()
    episode["terminated"][-1] = 1
    return episode


def stored(episode: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    buffer = EpisodeBuffer(1)
    buffer.store(episode)
    return buffer.episodes[0]


def size(episode: dict[str, np.ndarray]) -> int:
    """Bytes of its arrays."""
    return sum(array.nbytes for array in episode.values())


def assert_samples_are_qmixs(episodes: list[dict[str, np.ndarray]], batch_size: int):
    reference = qmix.EpisodeBuffer(len(episodes))
    lean = EpisodeBuffer(len(episodes))
    for episode in episodes:
        reference.store(episode)
        lean.store(episode)
    args = small_args("qmix", batch_size=batch_size)
    for number in range(3):
        expected = reference.sample(args, number)
        batch = lean.sample(args, number)
        assert batch.keys() == expected.keys()
        for key, part in expected.items():
            assert batch[key].dtype == part.dtype, key
            assert torch.equal(batch[key], part), key


@every_task
def test_a_sample_of_played_episodes_equals_qmixs(task):
    assert_samples_are_qmixs(collected(task, 5), batch_size=3)


@properties
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_a_sample_equals_qmixs_for_all_lengths(lengths, data):
    episodes = [random_episode(number, length) for number, length in enumerate(lengths)]
    assert_samples_are_qmixs(episodes, data.draw(st.integers(1, len(episodes))))


def test_episodes_whose_arrays_have_different_dtypes_are_sampled_together():
    episodes = [random_episode(number, 3) for number in range(3)]
    for episode, value in zip(episodes, (1, 300, 0.1), strict=True):
        episode["state"][:] = value
    assert len({stored(episode)["state_values"].dtype for episode in episodes}) == 3
    assert_samples_are_qmixs(episodes, batch_size=3)


def test_actions_availability_and_the_end_take_a_byte_each():
    lean = stored(collected(TASKS["3m"], 1)[0])
    assert [lean[key].itemsize for key in ("actions", "avail_actions", "terminated")] == [1, 1, 1]


def test_storing_copies_an_episode_and_does_not_change_it():
    episode = random_episode(0, 4)
    before = {key: array.copy() for key, array in episode.items()}
    lean = stored(episode)
    assert all(np.array_equal(episode[key], before[key]) for key in before)
    for key in ("obs", "state"):
        assert not np.shares_memory(lean[f"{key}_values"], episode[key])


def test_a_full_buffer_drops_its_oldest_episodes():
    buffer = EpisodeBuffer(3)
    for number in range(5):
        buffer.store(random_episode(number, 1))
    args = small_args("qmix", batch_size=1)
    sampled = {reward for n in range(30) for reward in buffer.sample(args, n)["reward"].tolist()}
    assert sampled == {200, 300, 400}


def test_changing_a_batch_does_not_change_the_buffer():
    buffer = EpisodeBuffer(1)
    buffer.store(random_episode(0, 3))
    args = small_args("qmix", batch_size=1)
    before = buffer.sample(args, 0)
    for part in buffer.sample(args, 0).values():
        part.fill_(0)
    after = buffer.sample(args, 0)
    assert all(torch.equal(after[key], part) for key, part in before.items())


# Memory


def memory_of(capacity: int, episodes: int) -> int:
    """Bytes of a buffer after some episodes of 20 steps."""
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


def test_memory_is_constant_once_the_buffer_is_full():
    assert memory_of(100, 400) == pytest.approx(memory_of(100, 100), rel=0.05)


@pytest.mark.parametrize(("env_name", "times"), [("3m", 1.8), ("MMM", 3)])
def test_a_battle_takes_a_fraction_of_the_memory_of_qmixs_buffer(env_name, times):
    episodes = collected({"env_name": env_name}, 10)
    assert times * sum(size(stored(one)) for one in episodes) < sum(size(one) for one in episodes)


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
at_the_bounds = [0.0, 1.0, -0.0, -1.0, 0.5, 255.0, 256.0, -128.0, -129.0, 2048.0, 2049.0, 65504.0]
few_numbers = st.sampled_from(at_the_bounds)
few = arrays.arrays(np.float32, shapes, elements=few_numbers)
whole_numbers = st.integers(-(2**53), 2**53) | st.integers(-300, 300)
integers = arrays.arrays(np.int64, shapes, elements=whole_numbers)


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
    fitting = [np.dtype(dtype) for dtype in (*SMALLER, array.dtype) if holds(dtype, array)]
    assert shrink(array).itemsize == min(dtype.itemsize for dtype in fitting)


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
def test_a_shrunk_array_has_the_smallest_number_size(values, itemsize):
    assert shrink(np.array(values, np.float32)).itemsize == itemsize


@given(seeds)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_dtype_depends_on_all_rows(seed):
    rows = np.zeros((50, 3), np.float32)
    place = np.random.default_rng(seed).integers((50, 3))
    rows[tuple(place)] = 0.1
    assert np.array_equal(shrink(rows), rows)


# Without zeros

rows_of = arrays.array_shapes(max_dims=2, max_side=3)
tall = st.builds(lambda length, row: (length, *row), st.integers(2, 5), rows_of)
numbers = st.floats(width=32) | few_numbers
sparse = arrays.arrays(np.float32, tall, elements=numbers, fill=st.just(0.0))
dense = arrays.arrays(np.float32, tall, elements=st.sampled_from([1.0, 255.0, -1.0, 0.1]))


@properties
@given(sparse | dense)
@example(np.zeros((3, 2), np.float32))
@example(np.ones((3, 2), np.float32))
@example(np.array([[0, 0], [0.1, 0], [2, 3]], np.float32))
@example(np.array([[2, 3], [0.1, 0], [0, 0]], np.float32))
@example(np.array([[-0.0, 1], [np.nan, -0.0]], np.float32))
@example(np.array([[np.inf, 0], [0, np.nan]], np.float32))
def test_an_array_stored_without_zeros_is_restored(array):
    back = with_zeros("obs", without_zeros("obs", array))
    assert back.dtype == np.float32
    assert same_values(back, array)
    assert not np.signbit(back[back == 0]).any()


@properties
@given(sparse | dense)
def test_an_array_is_stored_as_a_bit_per_value_and_its_nonzero_values(array):
    kept = without_zeros("obs", array)
    assert kept["obs_there"].nbytes == -(-array.size // 8)
    assert kept["obs_values"].dtype == shrink(array[array != 0]).dtype
    assert same_values(kept["obs_values"], array[array != 0])
