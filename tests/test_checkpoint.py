"""A training that was stopped, killed or damaged resumes as if nothing had happened."""

import errno
import functools
import io
import itertools
import json
import multiprocessing
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tracemalloc
import typing
import weakref
from collections import deque
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from cleanmarl import qmix
from cleanmarl.training import checkpoint, run
from cleanmarl.training.checkpoint import (
    FORMAT,
    load_checkpoint,
    pack,
    read_checkpoint,
    to_bytes,
    unpack,
    write_output,
    write_sealed,
)
from cleanmarl.training.errors import Refused, RunFailed
from cleanmarl.training.results import confidence
from cleanmarl.training.run import Run
from cleanmarl.training.stopping import Stopped
from docs.tools import kill_and_resume
from docs.tools.kill_and_resume import differences
from tests.helpers import (
    LBF,
    MODULES,
    SCRIPTS,
    SPREAD,
    TWO_STEPS,
    equal_weights,
    every_script,
    properties,
    scalars,
    small_args,
    trained,
)

# Checkpoints, evaluations and points of the curves come at different episodes
LONG = {"env_name": "3m", "total_timesteps": 1000, "batch_size": 4, "buffer_size": 12}
LONG |= {"eval_steps": 7, "log_every": 3, "checkpoint_every": 6, "torch_threads": 1}
LONG |= {"greedy_episodes": 0.5}
# An episode of the two-step game has two steps
SHORT = TWO_STEPS | {"total_timesteps": 40, "checkpoint_every": 6, "log_every": 3, "eval_steps": 4}
DICE = TWO_STEPS | {"env_name": "dice_game", "total_timesteps": 60, "checkpoint_every": 5}


# Other armies and places in each battle
RANDOM = {"env_name": "terran_3_vs_3", "time_limit": 30}


def resumed(script: str, folder: Path, **options) -> Path:
    """Resume a run; `options` change its arguments."""
    own = load_checkpoint(folder, script)["args"]
    MODULES[script].train(MODULES[script].Args(**own | {"resume": str(folder)} | options))
    return folder


def stopped(script: str, folder: Path, episodes: int, **options) -> Path:
    """Start or resume a run, and stop it after a number of episodes."""
    left = itertools.count(1)
    buffer = MODULES[script].EpisodeBuffer
    store = buffer.store

    def store_and_stop(self, episode):
        store(self, episode)
        if next(left) == episodes:
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="143"):
        patch.setattr(buffer, "store", store_and_stop)
        if folder.exists():
            resumed(script, folder)
        else:
            trained(script, folder, **options)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """`undisturbed(script, **options)`: the folder of a run that nothing disturbs."""

    def train(script: str, **options) -> Path:
        return trained(script, tmp_path_factory.mktemp(script) / "run", **options)

    return functools.cache(train)


@pytest.fixture
def copied(undisturbed, tmp_path):
    """`copied(script, **options)`: a copy of such a folder, which a test may change."""
    return lambda script, **options: shutil.copytree(
        undisturbed(script, **options), tmp_path / "run"
    )


def step_of(folder: Path, script: str = "qmix") -> int:
    """The step of the last complete checkpoint."""
    return load_checkpoint(folder, script, with_episodes=True)["progress"]["step"]


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def rewritten(folder: Path, change, script: str = "qmix"):
    """Change a checkpoint by `change(saved)`, and write it with a new checksum."""
    saved = load_checkpoint(folder, script)
    for name in ("episodes", "path", "faults"):
        del saved[name]
    change(saved)
    write_sealed(folder / "checkpoint.pt", to_bytes(saved))


# The comparison of runs


def test_runs_with_one_seed_do_not_differ(undisturbed, tmp_path):
    same = trained("qmix", tmp_path / "same", **LONG)
    assert differences(undisturbed("qmix", **LONG), same, "qmix") == []


def test_runs_with_different_seeds_differ_in_all_that_is_compared(undisturbed, tmp_path):
    other = trained("qmix", tmp_path / "other", **LONG, seed=2)
    different = differences(undisturbed("qmix", **LONG), other, "qmix")
    for part in ("/networks/agent", "/networks/target_mixer", "/optimizer", "/episodes", "/eval"):
        assert any(name.startswith(part) for name in different), part


def test_a_point_of_a_curve_that_is_logged_twice_is_a_difference(copied, undisturbed):
    folder = copied("qmix", **LONG)
    step, value = scalars(folder)["eval/ep_reward"][0]
    with SummaryWriter(str(folder)) as writer:
        writer.add_scalar("eval/ep_reward", value, step)
    different = differences(folder, undisturbed("qmix", **LONG), "qmix")
    assert any(name.startswith("/eval/ep_reward") for name in different)


# Episodes in files

DTYPES = arrays.boolean_dtypes() | arrays.integer_dtypes() | arrays.unsigned_integer_dtypes()
DTYPES |= arrays.floating_dtypes(sizes=(16, 32, 64))
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)
EPISODES = st.lists(
    st.dictionaries(st.text(max_size=4), arrays.arrays(DTYPES, SHAPES), max_size=3), max_size=3
)


def assert_same_bits(episodes, others):
    assert len(episodes) == len(others)
    for one, other in zip(episodes, others, strict=True):
        assert list(one) == list(other)
        for name, array in one.items():
            assert array.dtype == other[name].dtype
            assert array.shape == other[name].shape
            assert array.tobytes() == other[name].tobytes()


@properties
@given(EPISODES)
def test_unpacked_episodes_are_the_packed_ones_bit_for_bit(episodes):
    assert_same_bits(unpack(pack(episodes)), episodes)


def test_signs_of_zeros_and_bits_of_nans_are_kept():
    odd = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, 5e-324])
    nans = np.array([0x7FF00001, 0xFFC00002, 0x80000000], np.uint32).view(np.float32)
    episode = {"odd": odd, "nans": nans, "columns": np.asfortranarray(np.eye(3)), "part": odd[::2]}
    assert_same_bits(unpack(pack([episode])), [episode])


def test_an_unpacked_episode_can_be_changed():
    (episode,) = unpack(pack([{"reward": np.ones(3, np.float32)}]))
    episode["reward"] *= 2
    assert episode["reward"].tolist() == [2, 2, 2]


def test_packing_does_not_change_an_episode():
    reward = np.array([1.0, 1.0, 2.0])
    pack([{"reward": reward}])
    assert reward.tolist() == [1, 1, 2]


def test_episodes_of_mostly_zeros_take_little_space():
    rows = np.zeros((1000, 100), np.float32)
    rows[::10, 5] = 0.3
    assert len(pack([{"obs": rows}])) < rows.nbytes / 100


def files_of(path: Path) -> dict[str, int]:
    """The files of episodes that a checkpoint needs, and their numbers of episodes."""
    files = read_checkpoint(path, "qmix", with_episodes=False)["run"]["files"]
    return {name: count for name, count, _ in files}


def test_each_checkpoint_writes_only_the_new_episodes(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        run, "pack", lambda episodes: written.append(len(episodes)) or pack(episodes)
    )
    trained("qmix", tmp_path / "run", **SHORT)
    assert written == [
        6,
        6,
        6,
        2,
    ]  # of 20 episodes, with checkpoints after 6, 12, 18 and at the end


def test_files_of_episodes_that_no_checkpoint_needs_are_removed(tmp_path):
    folder = trained(
        "qmix", tmp_path / "run", **SHORT | {"total_timesteps": 200, "buffer_size": 10}
    )
    needed = files_of(folder / "checkpoint.pt") | files_of(folder / "checkpoint.old")
    there = {f"episodes/{path.name}" for path in (folder / "episodes").iterdir()}
    assert there == set(needed)
    assert sum(files_of(folder / "checkpoint.pt").values()) < 10 + 6


@every_script
def test_a_checkpoint_holds_the_replay_buffer(script, tmp_path, monkeypatch):
    buffer = MODULES[script].EpisodeBuffer
    stored, store = [], buffer.store

    def store_and_note(self, episode):
        store(self, episode)
        stored.append(self.episodes[-1])

    monkeypatch.setattr(buffer, "store", store_and_note)
    folder = trained(script, tmp_path / "run", **SHORT | {"buffer_size": 9})
    saved = load_checkpoint(folder, script, with_episodes=True)["episodes"]
    assert_same_bits(saved[-9:], stored[-9:])


# Stopped and resumed

OPTIONS = {"mixer": "vdn", "double_q": True, "normalize_reward": True, "optimizer": "RMSprop"}
OPTIONS |= {"train_freq": 2, "target_network_update_freq": 3, "polyak": 1.0, "td_lambda": 0.9}
STOPPED = [(script, {}) for script in SCRIPTS]
STOPPED += [(script, RANDOM) for script in SCRIPTS]
STOPPED += [("qmix", LBF), ("qmix", SPREAD), ("qmix", OPTIONS), ("qmix_lstm", {"tbptt": 3})]
STOPPED += [("qmix_multienvs", options | {"num_envs": 3}) for options in ({}, LBF, RANDOM)]


@pytest.mark.parametrize(("script", "options"), STOPPED, ids=str)
def test_a_training_that_was_stopped_ends_like_one_that_was_not(
    script, options, undisturbed, tmp_path
):
    options = LONG | options
    folder = stopped(script, tmp_path / "run", 9, **options)
    stopped(script, folder, 8)  # between two checkpoints, logs and evaluations
    resumed(script, folder)
    assert differences(folder, undisturbed(script, **options), script) == []


def test_a_training_with_many_environments_stops_in_the_middle_of_episodes(tmp_path):
    folder = stopped("qmix_multienvs", tmp_path / "run", 9, **LONG | {"end_e": 1.0}, num_envs=3)
    saved = load_checkpoint(folder, "qmix_multienvs", with_episodes=True)
    finished = sum(len(episode["reward"]) for episode in saved["episodes"])
    assert finished < saved["progress"]["step"]


@every_script
def test_a_training_that_is_over_is_not_changed_by_resuming_it(script, copied, undisturbed):
    folder = resumed(script, copied(script, **LONG))
    assert differences(folder, undisturbed(script, **LONG), script) == []


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_a_training_can_be_made_longer(script, undisturbed, tmp_path):
    options = LONG | {"start_e": 0.3, "end_e": 0.3}  # epsilon depends on total_timesteps
    folder = trained(script, tmp_path / "run", **options | {"total_timesteps": 400})
    resumed(script, folder, total_timesteps=1000)
    different = differences(folder, undisturbed(script, **options), script)
    # The shorter training was evaluated at its end, too
    assert [name for name in different if not name.startswith(("/eval", "/best_score"))] == []


def test_the_time_of_all_sessions_counts_as_training_time(tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    first = load_checkpoint(folder, "qmix")["run"]["seconds_before"]
    resumed("qmix", folder, total_timesteps=60)
    assert load_checkpoint(folder, "qmix")["run"]["seconds_before"] > first


# Without the replay buffer, and with an environment that is not deterministic


@every_script
def test_without_its_replay_buffer_a_run_is_resumed_with_a_new_one(script, tmp_path, capsys):
    options = LONG | {"checkpoint_buffer": False}
    folder = stopped(script, tmp_path / "run", 9, **options)
    assert not (folder / "episodes").exists()
    before = step_of(folder, script)
    capsys.readouterr()
    resumed(script, folder)
    assert "empty replay buffer" in capsys.readouterr().err
    assert step_of(folder, script) > before
    updates = {value for step, value in scalars(folder)["train/num_updates"] if step > before}
    assert len(updates) > 1


def test_a_run_that_saved_its_replay_buffer_can_resume_without_it(tmp_path, capsys, command):
    folder = stopped("qmix", tmp_path / "run", 9, **LONG)
    shutil.rmtree(folder / "episodes")
    status, _, err = command("qmix", "--resume", str(folder), "--no-checkpoint-buffer")
    assert status == 0
    assert "empty replay buffer" in err
    status, _, _ = command("qmix", "--resume", str(folder), "--total-timesteps", "1100")
    assert status == 0
    assert not (folder / "episodes").exists()


@every_script
def test_a_training_resumes_even_if_its_environment_is_not_deterministic(script, tmp_path):
    folder = stopped(script, tmp_path / "run", 7, **DICE)
    before = load_checkpoint(folder, script, with_episodes=True)
    resumed(script, folder)
    after = load_checkpoint(folder, script, with_episodes=True)
    assert before["progress"]["step"] < 60 <= after["progress"]["step"]
    assert_same_bits(after["episodes"][:7], before["episodes"][:7])


# Killed


class Killed(BaseException):
    """Raised to end a training at once, without cleaning up."""


class Finished(BaseException):
    """Raised when a training reaches its end."""


def kill_at(monkeypatch, moment: int):
    """Kill the training in `save`, when it syncs, moves or removes file number `moment`."""
    events = itertools.count()
    saving = []

    def unless_dead(call, path, *args, **options):
        there = isinstance(path, int) or Path(path).exists()  # an open file, or a path
        if saving and there and next(events) >= moment:
            raise Killed
        return call(path, *args, **options)

    def save(self, real=Run.save):
        saving.append(True)
        real(self)
        saving.pop()

    def end(self, kind, *_):
        self.writer.close()
        self.lock.release()
        if kind is None:
            raise Finished

    for name in ("fsync", "replace", "unlink"):
        monkeypatch.setattr(os, name, functools.partial(unless_dead, getattr(os, name)))
    monkeypatch.setattr(Run, "save", save)
    monkeypatch.setattr(Run, "__exit__", end)


def moments_to_die(attempt):
    """Kill `attempt(moment)` at every possible moment; yields the moment after each kill."""
    for moment in itertools.count():
        with pytest.MonkeyPatch.context() as patch, pytest.raises((Killed, Finished)) as end:
            kill_at(patch, moment)
            attempt(moment)
        if end.type is Finished:
            return
        yield moment


BRIEF = TWO_STEPS | {"total_timesteps": 28, "checkpoint_every": 6, "log_every": 3, "eval_steps": 9}


def test_a_kill_while_a_checkpoint_is_saved_leaves_a_complete_one(undisturbed, tmp_path):
    resumable = []
    for moment in moments_to_die(lambda moment: trained("qmix", tmp_path / str(moment), **BRIEF)):
        folder = tmp_path / str(moment)
        resumable.append(any(folder.glob("checkpoint.*[dt]")))
        if resumable[-1]:
            resumed("qmix", folder)
            assert differences(folder, undisturbed("qmix", **BRIEF), "qmix") == []
    first = resumable.index(True)
    assert 0 < first < len(resumable) / 2
    assert all(resumable[first:])


@pytest.mark.parametrize("what", ["the checkpoint", "its episodes"])
def test_a_kill_after_a_checkpoint_was_damaged_leaves_the_older_one(what, undisturbed, tmp_path):
    shorter = stopped("qmix", tmp_path / "stopped", 9, **BRIEF)
    newest = max(files_of(shorter / "checkpoint.pt"))
    assert newest not in files_of(shorter / "checkpoint.old")
    damaged = shorter / {"the checkpoint": "checkpoint.pt", "its episodes": newest}[what]
    damaged.write_bytes(flipped(damaged.read_bytes()))
    step = step_of(shorter)

    def attempt(moment):
        resumed("qmix", shutil.copytree(shorter, tmp_path / str(moment)))

    for moment in moments_to_die(attempt):
        folder = tmp_path / str(moment)
        assert step_of(folder) >= step
        resumed("qmix", folder)
        assert differences(folder, undisturbed("qmix", **BRIEF), "qmix") == []


def test_a_failing_save_after_a_checkpoint_was_damaged_leaves_the_older_one(
    undisturbed, tmp_path, monkeypatch
):
    folder = stopped("qmix", tmp_path / "run", 9, **BRIEF)
    damaged = folder / "checkpoint.pt"
    damaged.write_bytes(flipped(damaged.read_bytes()))
    step = step_of(folder)

    def full(path, content, real=checkpoint.write_atomically):
        if path.name.startswith("checkpoint"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    with monkeypatch.context() as patch, pytest.raises(RunFailed):
        patch.setattr(checkpoint, "write_atomically", full)
        resumed("qmix", folder)
    assert step_of(folder) == step
    resumed("qmix", folder)
    assert differences(folder, undisturbed("qmix", **BRIEF), "qmix") == []


def test_a_file_is_written_where_a_link_leads_and_not_over_a_pipe_or_a_folder(tmp_path):
    link, goal = tmp_path / "link.html", tmp_path / "goal.html"
    link.symlink_to(goal)
    for text in (b"one", b"two"):
        write_output(link, text)
        assert (link.is_symlink(), goal.read_bytes()) == (True, text)
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    for path in (pipe, folder, Path("/dev/null")):
        with pytest.raises(OSError, match="it is no file"):
            write_output(path, b"three")
    assert pipe.is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "folder",
        "goal.html",
        "link.html",
        "pipe",
    ]


def test_a_run_goes_on_where_a_folder_has_the_name_of_a_file_of_episodes(tmp_path, capsys):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    last = max((folder / "episodes").glob("*.packed"))
    last.unlink()
    last.mkdir()
    resumed("qmix", folder, total_timesteps=60)
    assert "nothing was saved" not in capsys.readouterr().err
    assert load_checkpoint(folder, "qmix", with_episodes=True)["faults"] == []


def test_a_training_that_is_killed_at_random_ends_like_an_undisturbed_one():
    # Seed 118 kills late, and again when the resumed training saves for the first time
    command = [sys.executable, kill_and_resume.__file__, "--kills", "2", "--seed", "118"]
    command += ["--scripts", "qmix_multienvs"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.count("resumed from checkpoint") >= 1
    assert process.stdout.count("bit for bit") == 1


@pytest.mark.parametrize("different", [[], ["/networks/mixer.w1.weight"]])
def test_the_command_that_kills_fails_if_anything_differs(monkeypatch, capsys, different):
    monkeypatch.setattr(kill_and_resume, "check", lambda *_: different)
    monkeypatch.setattr(sys, "argv", ["kill_and_resume.py"])
    with pytest.raises(SystemExit) as end:
        kill_and_resume.main()
    assert bool(end.value.code) == bool(different)
    assert all(name in capsys.readouterr().out for name in different)


def test_a_training_resumes_after_the_process_of_an_environment_was_killed(
    undisturbed, tmp_path, monkeypatch
):
    options = LONG | LBF | {"num_envs": 3}

    def advance(self, step, real=Run.advance):
        real(self, step)
        if step == 60 * 3:
            children = multiprocessing.active_children()
            os.kill(max(child.pid for child in children), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", advance)
        with pytest.raises(RuntimeError, match=r"environment .* died"):
            trained("qmix_multienvs", tmp_path / "run", **options)
    assert step_of(tmp_path / "run", "qmix_multienvs") == 60 * 3
    resumed("qmix_multienvs", tmp_path / "run")
    wanted = undisturbed("qmix_multienvs", **options)
    assert differences(tmp_path / "run", wanted, "qmix_multienvs") == []


# Damaged, foreign, missing


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def sealed(content: bytes) -> bytes:
    return sha256(content).digest() + content


def torch_saved(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "truncated": lambda content: content[:-1],
    "shorter than its seal": lambda content: content[:20],
    "empty": lambda content: b"",
    "bit-flipped": flipped,
    "text": lambda content: b"not a checkpoint" * 100,
    "a pickle": lambda content: sealed(pickle.dumps(Malicious(), protocol=2)),
    "a pickle in a file of torch": lambda content: sealed(torch_saved({"script": Malicious()})),
    "another file of torch": lambda content: sealed(torch_saved([1, 2, 3])),
}
every_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@every_damage
def test_if_a_checkpoint_is_damaged_the_previous_one_is_loaded(
    command, copied, undisturbed, tmp_path, damage
):
    folder = copied("qmix", **SHORT)
    content = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(damage(content))
    status, _, err = command("qmix", "--resume", "run")
    assert status == 0
    assert "checkpoint.pt is damaged" in err
    assert err.count("warning: ") == 1
    assert differences(folder, undisturbed("qmix", **SHORT), "qmix") == []
    assert not (tmp_path / "unpickled").exists()


@pytest.mark.parametrize("lost", [False, True], ids=["damaged", "missing"])
def test_if_a_checkpoints_episodes_are_missing_the_previous_one_is_loaded(
    command, copied, undisturbed, lost
):
    folder = copied("qmix", **SHORT)
    newest = folder / max(files_of(folder / "checkpoint.pt"))
    if lost:
        newest.unlink()
    else:
        newest.write_bytes(flipped(newest.read_bytes()))
    status, _, err = command("qmix", "--resume", "run")
    assert status == 0
    assert newest.name in err
    assert differences(folder, undisturbed("qmix", **SHORT), "qmix") == []


@pytest.mark.parametrize("foreign", [False, True], ids=["swapped", "foreign"])
def test_other_episodes_than_those_of_a_checkpoint_are_found(command, copied, undisturbed, foreign):
    folder = copied("qmix", **SHORT)
    first, *_, last = sorted(files_of(folder / "checkpoint.pt"))
    other = undisturbed("qmix", **SHORT | {"seed": 2}) / first if foreign else folder / first
    (folder / last).write_bytes(other.read_bytes())
    status, _, err = command("qmix", "--resume", "run")
    assert status == 0
    assert f"{Path(last).name} is not the file that was saved with the checkpoint" in err
    assert differences(folder, undisturbed("qmix", **SHORT), "qmix") == []


def test_if_no_checkpoint_has_its_own_episodes_a_run_is_refused(refused, copied):
    folder = copied("qmix", **SHORT)
    first, second, *_ = sorted(files_of(folder / "checkpoint.pt"))
    (folder / first).write_bytes((folder / second).read_bytes())
    assert "is not the file that was saved" in refused("qmix", "--resume", "run")


def test_checkpoints_without_the_seals_of_their_episodes_are_read_and_counted(refused, copied):
    folder = copied("qmix", **SHORT)

    def forget(saved):
        saved["run"]["files"] = [file[:2] for file in saved["run"]["files"]]

    rewritten(folder, forget)
    shutil.copy(folder / "checkpoint.pt", folder / "checkpoint.old")
    resumed("qmix", folder, total_timesteps=50)
    rewritten(folder, forget)
    shutil.copy(folder / "checkpoint.pt", folder / "checkpoint.old")
    *_, last = sorted((folder / "episodes").iterdir())
    write_sealed(last, pack(unpack(last.read_bytes()[32:])[1:]))
    assert "episodes instead of" in refused("qmix", "--resume", "run")


def test_no_bit_of_a_checkpoint_can_be_flipped_unnoticed(copied):
    folder = copied("qmix", **SHORT)
    content, step = (folder / "checkpoint.pt").read_bytes(), step_of(folder)
    bits = np.random.default_rng(0).integers(8 * len(content), size=50).tolist()
    for bit in [*bits, *range(0, 256, 16)]:
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / "checkpoint.pt").write_bytes(damaged)
        assert step_of(folder) < step


@pytest.fixture
def refused(command, tmp_path):
    """`refused(script, *arguments)`: the script's error, one line. The script changes no file."""

    def refuse(script: str, *arguments: str) -> str:
        before = contents(tmp_path)
        status, out, err = command(script, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"{script}.py: error: ")
        assert contents(tmp_path) == before
        assert not (tmp_path / "unpickled").exists()
        return err

    return refuse


every_purpose = pytest.mark.parametrize("purpose", ["--resume", "--evaluate"])


@every_damage
def test_two_damaged_checkpoints_are_refused(refused, copied, damage):
    folder = copied("qmix", **SHORT)
    for path in folder.glob("checkpoint.*"):
        path.write_bytes(damage(path.read_bytes()))
    assert "damaged" in refused("qmix", "--resume", "run")


@every_purpose
def test_what_is_no_run_folder_is_refused(refused, tmp_path, purpose):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    for name in ("empty", "file", "missing", "missing/too", "x" * 300, "empty/../empty"):
        said = refused("qmix", purpose, name)
        assert name in said
        assert "expected the folder of a run" in said


@every_purpose
def test_a_run_of_another_script_is_refused(refused, copied, purpose):
    copied("qmix_lstm", **SHORT)
    assert "qmix_lstm.py" in refused("qmix", purpose, "run")


def test_a_checkpoint_of_another_format_is_refused(refused, copied):
    folder = copied("qmix", **SHORT)
    for other in (FORMAT - 1, FORMAT + 1):
        saved = {"format": other, "script": "qmix", "args": {"argument": "of then"}}
        write_sealed(folder / "checkpoint.pt", to_bytes(saved))
        assert f"format {other}" in refused("qmix", "--resume", "run")


@every_purpose
@pytest.mark.parametrize(
    ("change", "about"),
    [
        (lambda args: args.update(momentum=0.9), "--momentum"),
        (lambda args: args.pop("gamma"), "--gamma"),
        (lambda args: args.update(hidden_dim="many"), "--hidden-dim"),
        (lambda args: args.update(hidden_dim=8.5), "--hidden-dim"),
        (lambda args: args.update(hidden_dim=None), "--hidden-dim"),
        (lambda args: args.update(hidden_dim=[8]), "--hidden-dim"),
        (lambda args: args.update(hidden_dim=65536), "--hidden-dim"),
        (lambda args: args.update(double_q=1), "--double-q"),
        (lambda args: args.update(gamma=float("nan")), "--gamma"),
    ],
    ids=["unknown", "missing", "a word", "a part", "None", "a list", "huge", "no bool", "nan"],
)
def test_invalid_arguments_of_a_run_are_refused(refused, copied, purpose, change, about):
    """To resume, they are those of the checkpoint; to evaluate, those of args.json."""
    folder = copied("qmix", **SHORT)
    if purpose == "--resume":
        rewritten(folder, lambda saved: change(saved["args"]))
    else:
        args = json.loads((folder / "args.json").read_text())
        change(args)
        (folder / "args.json").write_text(json.dumps(args))
    assert about in refused("qmix", purpose, "run")


@every_script
def test_an_environment_whose_sizes_have_changed_is_refused(script, refused, copied):
    folder = copied(script, **SHORT)
    rewritten(folder, lambda saved: saved["args"].update(LBF, env_family="mpe"), script)
    assert "do not fit" in refused(script, "--resume", "run")


OTHERS = ["--env-name MMM", "--env-type lbf", "--no-agent-ids", "--no-env-state", "--time-limit 9"]
OTHERS += ["--no-clock", "--bootstrap-truncated", "--normalize-reward", "--seed 2"]
OTHERS += ["--hidden-dim 9", "--num-layers 2", "--mixer vdn", "--hyper-dim 9"]
OTHERS += ["--hypernet-layers 1", "--optimizer SGD"]


@pytest.mark.parametrize("other", OTHERS)
def test_a_change_that_does_not_fit_a_run_is_refused_with_its_own_value(refused, copied, other):
    copied("qmix", **LONG)
    name = other.split()[0].replace("--no-", "--")
    own = getattr(small_args("qmix", **LONG), name[2:].replace("-", "_"))
    assert f"{name} {own}" in refused("qmix", "--resume", "run", *other.split())


@every_script
def test_a_training_is_resumed_from_python_with_its_own_arguments(script, undisturbed, tmp_path):
    folder = stopped(script, tmp_path / "run", 9, **LONG)
    args = small_args(script, **LONG, resume=str(folder))
    assert MODULES[script].train(args)["rollout/num_episodes"] > 9
    assert differences(folder, undisturbed(script, **LONG), script) == []


@every_script
def test_a_change_that_does_not_fit_a_run_is_refused_from_python_too(script, copied):
    folder = copied(script, **SHORT)
    before = contents(folder)
    with pytest.raises(Refused, match=r"own arguments: --hidden-dim 8, --seed 1$"):
        resumed(script, folder, hidden_dim=9, seed=2)
    with pytest.raises(Refused, match=r"--total-timesteps .* 40"):
        resumed(script, folder, total_timesteps=39)
    with pytest.raises(Refused, match="no complete checkpoint"):
        resumed(script, folder, resume=str(folder / "episodes"))
    assert contents(folder) == before


@every_script
def test_a_training_can_be_made_longer_from_python(script, copied):
    folder = resumed(script, copied(script, **SHORT), total_timesteps=60)
    assert step_of(folder, script) >= 60


def test_all_changes_that_do_not_fit_a_run_are_named(refused, copied):
    copied("qmix_multienvs", **SHORT)
    said = refused("qmix_multienvs", "--resume", "run", "--num-envs", "5", "--seed", "2")
    assert "--num-envs 2" in said
    assert "--seed 1" in said


def test_a_run_cannot_be_made_shorter(refused, copied):
    copied("qmix", **SHORT)
    assert "--total-timesteps" in refused("qmix", "--resume", "run", "--total-timesteps", "39")


def test_resuming_and_evaluating_at_once_is_refused(refused, copied):
    copied("qmix", **SHORT)
    said = refused("qmix", "--resume", "run", "--evaluate", "run")
    assert "--resume" in said
    assert "--evaluate" in said


def test_a_resumed_run_refuses_what_is_out_of_range(refused, copied):
    copied("qmix", **SHORT)
    assert "--checkpoint-every" in refused("qmix", "--resume", "run", "--checkpoint-every", "0")


def test_a_run_folder_that_cannot_be_written_is_refused(refused, copied):
    folder = copied("qmix", **SHORT)
    (folder / "args.json.tmp").mkdir()  # it blocks the file to be written
    assert "args.json" in refused("qmix", "--resume", "run")


def test_numpys_numbers_in_a_state_are_saved_as_pythons():
    saved = to_bytes({"won": [np.bool_(True), np.float32(0.5)], "by": {"step": np.int64(3)}})
    loaded = torch.load(io.BytesIO(saved), weights_only=True)
    assert loaded == {"won": [True, 0.5], "by": {"step": 3}}


@pytest.mark.parametrize("value", [np.zeros(2), deque([1]), {1}, (np.zeros(2),)])
def test_a_state_that_could_not_be_loaded_is_not_saved(value):
    with pytest.raises(TypeError, match="a checkpoint holds"):
        to_bytes({"progress": {"best": value}})


# What the run did not write


def test_resuming_changes_no_file_that_the_run_did_not_write(copied, tmp_path):
    folder = copied("qmix", **SHORT)
    outside = tmp_path / "outside"
    outside.mkdir()
    (own,) = folder.glob("events.*")
    links = ["args.json", "status.json", "run.json", "model.pt", "best.pt", "checkpoint.old"]
    links += ["checkpoint.pt.tmp", "model.pt.tmp", "args.json.tmp", "link"]
    for name in links:
        there = folder / name
        content = there.read_bytes() if there.exists() else b"mine"
        there.unlink(missing_ok=True)
        (outside / name).write_bytes(content)
        there.symlink_to(outside / name)
    for name in ("events.out.tfevents.1.mine", "notes.txt", "episodes/mine.packed"):
        (folder / name).write_text("mine")
    before = contents(outside) | {
        path: found
        for path, found in contents(folder).items()
        if path == own or (found[0] == b"mine" and not path.is_symlink())
    }
    resumed("qmix", folder, total_timesteps=60)
    after = contents(outside) | contents(folder)
    assert len(before) == len(links) + 4
    assert {path: after.get(path) for path in before} == before


# Evaluated


def play(script: str, folder: Path, name: str = "model.pt", **options) -> list[dict]:
    """Results of greedy episodes with the networks in a file."""
    module = MODULES[script]
    args = small_args(script, **options)
    env = module.open_env(args)
    networks = module.Networks(args, env)
    networks.agent.load_state_dict(torch.load(folder / name, weights_only=True)["target_agent"])
    return module.evaluate(env, networks.agent, args, "test")


def evaluation_of(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())


TASKS = [*((script, LONG) for script in SCRIPTS), ("qmix", SHORT | SPREAD | {"env_family": "mpe"})]


@pytest.mark.parametrize(("script", "options"), TASKS, ids=str)
def test_an_evaluation_reports_how_the_saved_agents_play(script, options, command, copied):
    folder = copied(script, **options)
    status, out, _ = command(script, "--evaluate", "run", "--num-eval-ep", "4")
    assert status == 0
    evaluation = evaluation_of(folder)
    results = play(script, folder, **options | {"num_eval_ep": 4})
    for name in results[0]:
        expected = confidence(np.array([one[name] for one in results]))
        if evaluation["alike"]:  # 3m: battles without intervals
            expected = {"mean": expected["mean"]}
        assert evaluation[name] == expected
        assert re.search(rf"^{name}: (mean )?{expected['mean']:.3f}", out, re.MULTILINE)
    about = {name: evaluation[name] for name in ("episodes", "seed", "which", "step")}
    step = step_of(folder, script)
    assert about == {"episodes": 4, "seed": 1, "which": "last", "step": step}


def test_the_best_networks_are_those_of_the_best_evaluation(tmp_path, monkeypatch):
    scores = {5: (0.0, 1.0), 10: (0.5, 0.0), 15: (0.5, 2.0), 20: (0.5, 1.0), 25: (0.0, 9.0)}
    seen = {}

    def evaluate(env, agent, args, purpose, number):
        seen[number] = {name: value.clone() for name, value in agent.state_dict().items()}
        return [dict(zip(("battle_won", "ep_reward"), scores[number], strict=True))]

    monkeypatch.setattr(qmix, "evaluate", evaluate)
    folder = trained("qmix", tmp_path / "run", **SHORT | {"total_timesteps": 50, "eval_steps": 5})
    best = torch.load(folder / "best.pt", weights_only=True)
    assert best["step"] == 30
    assert all(torch.equal(best["target_agent"][name], value) for name, value in seen[15].items())
    last = torch.load(folder / "model.pt", weights_only=True)
    assert last["step"] == 50
    assert last.keys() == best.keys()


def test_a_resumed_run_knows_its_best_evaluation(tmp_path, monkeypatch):
    rewards = itertools.count(9, -1)
    monkeypatch.setattr(qmix, "evaluate", lambda *_: [{"ep_reward": next(rewards)}])
    folder = stopped("qmix", tmp_path / "run", 9, **SHORT)
    best = (folder / "best.pt").read_bytes()
    resumed("qmix", folder)
    assert (folder / "best.pt").read_bytes() == best


def test_a_resumed_run_frees_the_episodes_that_the_buffer_drops(copied, monkeypatch):
    loaded, alive = [], []

    def load(*args, real=run.load_checkpoint):
        saved = real(*args)
        loaded.extend(weakref.ref(episode["reward"]) for episode in saved["episodes"])
        return saved

    def save(self, real=Run.save):
        alive.append(sum(reference() is not None for reference in loaded))
        real(self)

    monkeypatch.setattr(run, "load_checkpoint", load)
    monkeypatch.setattr(Run, "save", save)
    resumed("qmix", copied("qmix", **SHORT), total_timesteps=60)
    assert len(loaded) == 20  # as many as the buffer holds
    assert alive[-1] == 10  # after 10 more


@every_purpose
def test_a_run_continues_on_another_device(command, copied, purpose):
    folder = copied("qmix", **SHORT)
    rewritten(folder, lambda saved: saved["args"].update(device="mps"))
    status, _, err = command("qmix", purpose, "run", "--device", "cpu")
    assert (status, "Traceback" in err) == (0, False), err


@pytest.mark.parametrize(("which", "name"), [("best", "best.pt"), ("last", "model.pt")])
def test_the_best_and_the_last_networks_can_be_evaluated(which, name, command, copied):
    folder = copied("qmix", **LONG)
    status, out, _ = command("qmix", "--evaluate", "run", "--which", which)
    assert status == 0
    evaluation = evaluation_of(folder)
    saved = torch.load(folder / name, weights_only=True)
    assert (evaluation["which"], evaluation["step"]) == (which, saved["step"])
    (reward,) = [one["ep_reward"] for one in play("qmix", folder, name, **LONG)]
    assert evaluation["ep_reward"]["mean"] == reward
    assert "run/evaluation.json" in out


@pytest.mark.parametrize(("which", "name"), [("best", "best.pt"), ("last", "model.pt")])
def test_missing_networks_are_refused(which, name, refused, copied):
    (copied("qmix", **SHORT) / name).unlink()
    assert name in refused("qmix", "--evaluate", "run", "--which", which)


@pytest.mark.parametrize("content", [b"", b"text", pickle.dumps(Malicious(), protocol=2)])
def test_damaged_networks_are_refused(refused, copied, content):
    (copied("qmix", **SHORT) / "model.pt").write_bytes(content)
    assert "model.pt" in refused("qmix", "--evaluate", "run")


def test_an_evaluation_changes_nothing_else_in_the_run_folder(command, copied):
    folder = copied("qmix", **LONG | {"time_limit": 9, "total_timesteps": 100})
    before = contents(folder)
    status, _, _ = command("qmix", "--evaluate", "run", "--num-eval-ep", "2", "--capture-video")
    assert status == 0
    after = contents(folder)
    added = {path.name for path in after.keys() - before.keys()}
    assert added == {"evaluation.json", "worst.gif", "median.gif", "best.gif"}
    assert {path: after[path] for path in before} == before
    for path in folder.glob("*.gif"):
        with Image.open(path) as picture:
            assert picture.n_frames > 1


def test_evaluations_with_one_seed_are_the_same(command, copied):
    folder = copied("qmix", **SHORT | SPREAD | {"env_family": "mpe"})
    rewards = []
    for seed in "556":
        status, _, _ = command("qmix", "--evaluate", "run", "--seed", seed)
        assert status == 0
        rewards.append(evaluation_of(folder)["ep_reward"]["mean"])
    assert rewards[0] == rewards[1] != rewards[2]


def test_the_worst_the_median_and_the_best_episode_are_captured(command, copied, monkeypatch):
    copied("qmix", **SHORT)
    numbers = {}
    rewards = [3.0, 1.0, 5.0, 2.0, 4.0]
    monkeypatch.setattr(qmix, "evaluate", lambda *_: [{"ep_reward": r} for r in rewards])
    monkeypatch.setattr(qmix, "save_video", lambda *args: numbers.update({args[2].stem: args[3]}))
    status, _, _ = command("qmix", "--evaluate", "run", "--capture-video")
    assert status == 0
    captured = {name: rewards[number] for name, number in numbers.items()}
    assert captured == {"worst": 1, "median": 3, "best": 5}


def test_an_evaluation_without_battles_has_reward_and_length(command, copied):
    folder = copied("qmix", **SHORT)
    status, _, err = command("qmix", "--evaluate", "run", "--capture-video")
    assert status == 0
    evaluation = evaluation_of(folder)
    means = {name for name, value in evaluation.items() if isinstance(value, dict)}
    assert means - {"env_options"} == {"ep_reward", "ep_length"}
    assert evaluation["ep_length"] == {"mean": 2}  # one episode has no interval
    assert err.count("warning: no video") == 3


FIGHT = RANDOM | {"total_timesteps": 100}


@every_script
def test_agents_are_evaluated_in_another_scenario_of_the_same_sizes(script, command, copied):
    folder = copied(script, **FIGHT)
    before = contents(folder)
    other = ("--evaluate", "run", "--env-name", "zerg_3_vs_3", "--num-eval-ep", "2")
    status, out, _ = command(script, *other, "--capture-video")
    assert (status, "run/in_zerg_3_vs_3/evaluation.json" in out) == (0, True)
    expected = play(script, folder, **FIGHT | {"env_name": "zerg_3_vs_3", "num_eval_ep": 2})
    evaluation = evaluation_of(folder / "in_zerg_3_vs_3")
    assert (evaluation["env_type"], evaluation["env_name"]) == ("smaclite", "zerg_3_vs_3")
    mean = evaluation["ep_reward"]["mean"]
    assert mean == pytest.approx(np.mean([one["ep_reward"] for one in expected]))
    added = {str(path.relative_to(folder)) for path in contents(folder).keys() - before.keys()}
    names = ("evaluation.json", "worst.gif", "median.gif", "best.gif")
    assert added == {f"in_zerg_3_vs_3/{name}" for name in names}
    assert {path: contents(folder)[path] for path in before} == before


@pytest.mark.parametrize("text", [None, "no JSON", "{}"])
def test_a_run_whose_arguments_are_unknown_is_not_evaluated(text, refused, copied):
    folder = copied("qmix", **SHORT)
    (folder / "args.json").unlink()
    if text:
        (folder / "args.json").write_text(text)
    assert "args.json" in refused("qmix", "--evaluate", "run")


def test_a_scenario_of_other_sizes_is_refused_with_both_sizes(refused, copied):
    copied("qmix", **FIGHT)
    # Observations have 4 + 5 x 8 + 4 + 2 numbers, 3 of the agent and the clock; protoss has shields
    message = refused("qmix", "--evaluate", "run", "--env-name", "protoss_3_vs_3")
    assert "does not fit" in message
    assert "54 inputs and 9 outputs" in message and "60 inputs and 9 outputs" in message


OTHER_NETWORKS = ["--hidden-dim 9", "--env-name MMM", "--num-layers 2"]


@pytest.mark.parametrize("other", OTHER_NETWORKS)
def test_agents_do_not_play_with_arguments_that_do_not_fit_them(refused, copied, other):
    copied("qmix", **LONG)
    assert "does not fit" in refused("qmix", "--evaluate", "run", *other.split())


def test_an_evaluation_that_cannot_be_written_says_so(command, copied):
    (copied("qmix", **SHORT) / "evaluation.json.tmp").mkdir()
    status, _, err = command("qmix", "--evaluate", "run")
    assert status == 2
    assert "evaluation.json" in err.splitlines()[-1]


# Forged: odd contents behind a right checksum


def forged(layout: bytes, size: int) -> bytes:
    """Packed bytes that begin with this layout and go on with zeros."""
    return zstandard.ZstdCompressor().compress(layout + bytes(size))


BOMBS = [
    b'{"a": ["<f4", [4000000000]]}\n',
    b'{"a": ["<f4", [-1]]}\n',
    b'{"a": ["O", [2]]}\n',
    b"",
    b"5\n",
]


@pytest.mark.parametrize("layout", BOMBS)
def test_a_bomb_of_packed_bytes_is_refused_with_little_memory(layout, refused, copied):
    folder = copied("qmix", **SHORT)
    content = forged(layout, 10**8)
    tracemalloc.start()
    with pytest.raises((ValueError, TypeError, AttributeError)):
        unpack(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 10**7

    def forge(saved):
        name, count, _ = saved["run"]["files"][0]
        saved["run"]["files"][0] = (name, count, write_sealed(folder / name, content))

    rewritten(folder, forge)
    assert "is damaged" in refused("qmix", "--resume", "run")


FORGED = {
    "nan": lambda saved: saved["progress"].update(step=float("nan")),
    "a word": lambda saved: saved["progress"].update(step="x"),
    "no results": lambda saved: saved["progress"].update(results=5),
    "unknown progress": lambda saved: saved["progress"].update(other=5),
    "args": lambda saved: saved.update(args=[1]),
    "run": lambda saved: saved.update(run=[1]),
    "no run": lambda saved: saved.pop("run"),
    "step": lambda saved: saved["run"].update(step=float("nan")),
    "another attribute": lambda saved: saved["run"].update(folder="elsewhere"),
    "files": lambda saved: saved["run"].update(files=[("../args.json", 1)]),
    "logged": lambda saved: saved["run"].update(logged=[5]),
    "no optimizer": lambda saved: saved.pop("optimizer"),
    "networks": lambda saved: saved.update(networks=[1]),
    "format": lambda saved: saved.update(format=torch.zeros(2)),
    "names of args": lambda saved: saved["args"].update({1: 2}),
    "best score": lambda saved: saved["run"].update(best_score=["x"]),
    "latest": lambda saved: saved["run"].update(latest={"rollout/ep_reward": "x"}),
    "points": lambda saved: saved["run"].update(logged=[({"eval/ep_reward": None}, 3)]),
    "count": lambda saved: saved["progress"].update(num_episodes=-1),
    "part of a count": lambda saved: saved["progress"].update(num_updates=1.5),
    "reward": lambda saved: saved["progress"].update(largest_reward=float("nan")),
    "results": lambda saved: saved["progress"].update(results=[None]),
    "learning": lambda saved: saved["progress"].update(learning={"train/loss": "x"}),
    "rate": lambda saved: saved["optimizer"]["param_groups"][0].update(lr="x"),
    "eps": lambda saved: saved["optimizer"]["param_groups"][0].update(initial_eps="x"),
    "betas": lambda saved: saved["optimizer"]["param_groups"][0].update(betas=("x", 0.9)),
    "no moment": lambda saved: saved["optimizer"]["state"][0].pop("exp_avg"),
    "shape": lambda saved: saved["optimizer"]["state"][1].update(exp_avg=torch.zeros(3, 3)),
    "steps": lambda saved: saved["optimizer"]["state"][1].update(step=torch.zeros(3)),
    "number": lambda saved: saved["optimizer"]["state"][1].update(exp_avg_sq="x"),
}


@pytest.mark.parametrize("change", FORGED.values(), ids=FORGED)
def test_forged_checkpoints_are_refused_in_one_line(refused, copied, change):
    folder = copied("qmix", **SHORT)
    rewritten(folder, change)
    shutil.copy(folder / "checkpoint.pt", folder / "checkpoint.old")
    refused("qmix", "--resume", "run")


def test_a_folder_in_the_place_of_the_checkpoint_is_told(refused, copied):
    folder = copied("qmix", **SHORT)
    (folder / "checkpoint.pt").unlink()
    (folder / "checkpoint.pt").mkdir()
    assert "checkpoint.pt is a folder" in refused("qmix", "--resume", "run")


@pytest.mark.parametrize("optimizer", typing.get_args(qmix.Optimizer))
def test_the_state_of_each_optimizer_is_loaded(tmp_path, optimizer):
    folder = trained("qmix", tmp_path / "run", **SHORT, optimizer=optimizer)
    resumed("qmix", folder, total_timesteps=60)
    assert load_checkpoint(folder, "qmix")["progress"]["step"] == 60


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
@pytest.mark.parametrize("name", ["args.json", "team.json", "model.pt", "checkpoint.pt"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang(command, copied, name):
    folder = copied("qmix", **SHORT)
    for path in (folder / name, folder / "checkpoint.old"):
        path.unlink()
        os.mkfifo(path)
    purpose = "--resume" if name == "checkpoint.pt" else "--evaluate"
    status, _, err = command("qmix", purpose, "run")
    assert (status, err.count("\n")) == (2, 1)
    assert name in err


@pytest.mark.parametrize(
    "model", [{"step": 1.5}, {"step": 1, "agent": 5}, {"step": 1, "a": {"b": 5}}]
)
def test_networks_of_another_form_are_refused(refused, copied, model):
    folder = copied("qmix", **SHORT)
    torch.save(model, folder / "model.pt")
    assert "has no networks of a run" in refused("qmix", "--evaluate", "run")


@every_script
def test_a_run_that_is_stopped_in_its_last_evaluation_evaluates_when_it_resumes(
    script, tmp_path, monkeypatch
):
    def stop(*_):
        signal.raise_signal(signal.SIGTERM)
        raise Stopped

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="143"):
        patch.setattr(MODULES[script], "evaluate", stop)
        trained(script, tmp_path / "run", **SHORT | {"eval_steps": 1000})
    assert "eval/ep_reward" not in scalars(tmp_path / "run")
    resumed(script, tmp_path / "run")
    undisturbed = trained(script, tmp_path / "other", **SHORT | {"eval_steps": 1000})
    assert scalars(tmp_path / "run")["eval/ep_reward"] == scalars(undisturbed)["eval/ep_reward"]
    assert equal_weights(tmp_path / "run", undisturbed)


def test_episodes_of_objects_cannot_be_saved():
    with pytest.raises(Refused, match="the note of an episode holds no numbers"):
        pack([{"note": np.array([None, "x"])}])
