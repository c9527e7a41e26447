"""What is stopped, killed, damaged or out of disk goes on as if nothing had been: checkpoints, --resume, --evaluate."""

import contextlib
import errno
import functools
import inspect
import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.compat.tensorflow_stub.io import gfile

from cleanmarl import qmix
from docs import kill_and_resume
from docs.kill_and_resume import differences
from tests.test_qmix import TWO_STEPS
from tests.test_scripts import MODULES, ROOT, SCRIPTS, every_script

LBF = {"env_type": "lbf", "env_name": "Foraging-8x8-2p-3f-v3"}
SPREAD = {"env_type": "pz", "env_name": "simple_spread_v3"}
SMALL = {"env_name": "3m", "total_timesteps": 1000, "hidden_dim": 8, "hyper_dim": 8, "batch_size": 4, "buffer_size": 12}
SMALL |= {"eval_steps": 7, "log_every": 3, "num_eval_ep": 1, "checkpoint_every": 6, "torch_threads": 1}


def trained(script: str, folder: Path, saved: dict | None = None, stop: Event | None = None, **options) -> Path:
    """Train in a run folder, from a checkpoint if given."""
    module = MODULES[script]
    args = module.Args(**SMALL | options)
    folder.mkdir(exist_ok=True)
    env = getattr(module, "open_envs", module.open_env)(args)
    with contextlib.closing(env):
        module.train(args, env, module.open_env(args), folder, stop or Event(), saved)
    return folder


def resumed(script: str, folder: Path, **options) -> Path:
    return trained(script, folder, MODULES[script].load_checkpoint(folder), **options)


def stop_after(monkeypatch, script: str, episodes: int) -> Event:
    """Set while episode number `episodes` from now on is logged."""
    stop, left, log = Event(), itertools.count(1), MODULES[script].Log.episode

    def episode(*args):
        log(*args)
        if next(left) == episodes:
            stop.set()

    monkeypatch.setattr(MODULES[script].Log, "episode", episode)
    return stop


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """`undisturbed(script, **options)`: the run folder of a training that nothing disturbs."""
    return functools.cache(lambda script, **options: trained(script, tmp_path_factory.mktemp(script), **options))


@pytest.fixture
def copied(undisturbed, tmp_path):
    """`copied(script, **options)`: a run folder to do with as one likes."""
    return lambda script, **options: shutil.copytree(undisturbed(script, **options), tmp_path / "run")


def episodes_in(folder: Path) -> int:
    return qmix.load_checkpoint(folder)["progress"]["num_episodes"]


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# The measure of it all


def test_two_trainings_differ_in_nothing_if_their_seed_is_the_same(undisturbed, tmp_path):
    assert differences(undisturbed("qmix"), trained("qmix", tmp_path / "same")) == []
    different = differences(undisturbed("qmix"), trained("qmix", tmp_path / "other", seed=2))
    for name in ("/networks/agent.layers.0.weight", "/networks/target_mixer.w1.weight", "/rollout/ep_reward"):
        assert name in different
    assert any(name.startswith("/optimizer/state/") for name in different)


def test_a_step_that_is_logged_twice_is_a_difference(copied, undisturbed):
    folder = copied("qmix")
    (events,) = folder.glob("events.*")
    shutil.copy(events, events.with_name(f"{events.name}.2"))
    assert "/eval/ep_reward" in differences(folder, undisturbed("qmix"))


# Stopped and resumed

OPTIONS = {"mixer": "vdn", "double_q": True, "normalize_reward": True, "optimizer": "RMSprop", "train_freq": 2}
OPTIONS |= {"target_network_update_freq": 3, "polyak": 1.0, "td_lambda": 0.0}
STOPPED = [(script, {}) for script in SCRIPTS]
STOPPED += [("qmix", LBF), ("qmix", SPREAD), ("qmix", OPTIONS), ("qmix_lstm", {"rnn": "lstm", "tbptt": 3})]
STOPPED += [("qmix_multienvs", options | {"num_envs": 3}) for options in ({}, LBF, SPREAD)]


@pytest.mark.parametrize(("script", "options"), STOPPED, ids=str)
def test_a_training_that_was_stopped_ends_as_if_it_had_not_been(script, options, undisturbed, tmp_path, monkeypatch):
    saved = None
    for episodes in (9, 8, None):  # the second stop comes between two checkpoints, logs and evaluations
        with monkeypatch.context() as patch:
            trained(script, tmp_path, saved, stop_after(patch, script, episodes), **options)
        saved = MODULES[script].load_checkpoint(tmp_path)
    assert differences(tmp_path, undisturbed(script, **options)) == []


def test_episodes_are_under_way_where_trainings_with_many_environments_are_stopped(tmp_path, monkeypatch):
    trained("qmix_multienvs", tmp_path, stop=stop_after(monkeypatch, "qmix_multienvs", 9), num_envs=3)
    under_way = MODULES["qmix_multienvs"].load_checkpoint(tmp_path)["played"]["under_way"]
    assert sorted(map(len, under_way["actions"]))[-1] > 0


@every_script
def test_a_training_that_was_stopped_at_once_ends_as_if_it_had_not_been(script, undisturbed, tmp_path):
    stop = Event()
    stop.set()
    trained(script, tmp_path, stop=stop)
    assert differences(resumed(script, tmp_path), undisturbed(script)) == []


@every_script
def test_a_training_that_was_over_is_not_changed_by_being_resumed(script, copied, undisturbed):
    assert differences(resumed(script, copied(script)), undisturbed(script)) == []


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_raising_total_timesteps_gives_the_longer_training(script, undisturbed, tmp_path, command):
    longer = undisturbed(script, start_e=0.3, end_e=0.3)  # epsilon does not fall with total_timesteps
    trained(script, tmp_path / "run", start_e=0.3, end_e=0.3, total_timesteps=400)
    status, _, _ = command(script, "--resume", "run", "--total-timesteps", "1000")
    assert status == 0
    assert differences(tmp_path / "run", longer) == []


def test_a_stop_while_the_episodes_are_replayed_leaves_everything_as_it_was(copied):
    folder, stop = copied("qmix"), Event()
    before = contents(folder)
    stop.set()
    with pytest.raises(qmix.TrainingFailed, match="stopped"):
        resumed("qmix", folder, stop=stop)
    assert contents(folder) == before


every_signal = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@every_signal
def test_a_signal_while_the_episodes_are_replayed_ends_the_run_with_128_and_its_number(
    number, command, copied, monkeypatch
):
    copied("qmix")
    replay = qmix.replay
    monkeypatch.setattr(qmix, "replay", lambda *args: os.kill(os.getpid(), number) or replay(*args))
    status, out, err = command("qmix", "--resume", "run")
    assert (status, out) == (128 + number, "")
    assert "Traceback" not in err and "stopped" in err


@every_signal
def test_a_signal_ends_a_training_with_128_and_its_number(number, command, monkeypatch, tmp_path):
    monkeypatch.setattr(qmix.Log, "training", lambda *_: os.kill(os.getpid(), number))
    arguments = "--env-type pz --env-family tests.games --env-name two_step_game --batch-size 2 --log-every 4"
    status, out, _ = command("qmix", *arguments.split())
    (folder,) = tmp_path.glob("runs/*")
    assert status == 128 + number
    assert out.startswith("stopped after 8 steps, 4 episodes")
    assert episodes_in(folder) == 4


# Killed


class Killed(BaseException):
    """Nothing catches it, and what is to be cleaned up is not."""


def test_a_kill_before_the_first_checkpoint_after_a_stop_at_once_repeats_no_step(undisturbed, tmp_path, monkeypatch):
    stop = Event()
    stop.set()
    trained("qmix", tmp_path, stop=stop)
    with monkeypatch.context() as patch:
        patch.setattr(qmix.Log, "close", lambda log: log.writer.close())
        patch.setattr(qmix, "save", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            resumed("qmix", tmp_path)
    assert differences(resumed("qmix", tmp_path), undisturbed("qmix")) == []


def test_a_kill_at_any_step_of_writing_leaves_what_a_training_goes_on_from(undisturbed, tmp_path, monkeypatch):
    options = TWO_STEPS | {"total_timesteps": 24, "checkpoint_every": 6}
    for moment in itertools.count():
        folder, left = tmp_path / str(moment), itertools.count()

        def killed(call, *args, moment=moment, left=left):
            if next(left) >= moment:
                raise Killed
            return call(*args)

        with monkeypatch.context() as patch:
            for name in ("fsync", "replace"):
                patch.setattr(os, name, functools.partial(killed, getattr(os, name)))
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            try:
                trained("qmix", folder, **options)
                break
            except Killed:
                pass
        if moment >= 4:  # the model and the first checkpoint are written and put in their places
            assert differences(resumed("qmix", folder, **options), undisturbed("qmix", **options)) == []
    assert moment == 3 * 5 - 1  # of the first checkpoint there is none to keep


def test_trainings_that_are_killed_at_random_moments_end_as_if_they_had_not_been():
    command = [sys.executable, kill_and_resume.__file__, "--kills", "3", "--seed", "3"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stdout + process.stderr
    *kills, one, other = process.stdout.splitlines()
    assert one.startswith("qmix: the same ") and other.startswith("qmix_multienvs: the same ")
    for script in ("qmix", "qmix_multienvs"):
        lines = [line for line in kills if line.startswith(f"{script}: kill ")]
        assert len(lines) == 3
        assert any("goes on from checkpoint" in line for line in lines)


@pytest.mark.parametrize("differ", [[], ["/networks/mixer.w1.weight"]])
def test_the_command_that_kills_fails_if_anything_differs(monkeypatch, capsys, differ):
    monkeypatch.setattr(kill_and_resume, "check", lambda *_: differ)
    with pytest.raises(SystemExit) as end:
        kill_and_resume.main(kill_and_resume.Args())
    assert bool(end.value.code) == bool(differ)
    assert [name for name in differ if name not in capsys.readouterr().out] == []


# Damaged, foreign, missing


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def with_digest(content: bytes) -> bytes:
    return sha256(content).digest() + content


def torch_saved(content) -> bytes:
    file = BytesIO()
    torch.save(content, file)
    return file.getvalue()


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGES = {
    "truncated": lambda content: content[:-1],
    "shorter than its digest": lambda content: content[:20],
    "empty": lambda content: b"",
    "bit-flipped": flipped,
    "text": lambda content: b"not a checkpoint" * 100,
    "a pickle": lambda content: with_digest(pickle.dumps(Malicious(), protocol=2)),
    "a pickle in a file of torch": lambda content: with_digest(torch_saved({"script": "qmix", "args": Malicious()})),
    "another file of torch": lambda content: with_digest(torch_saved([1, 2, 3])),
}
every_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


@every_damage
def test_a_damaged_checkpoint_gives_way_to_the_one_before(command, copied, undisturbed, tmp_path, damage):
    folder = copied("qmix")
    content = (folder / "checkpoint.pt").read_bytes()
    (folder / "checkpoint.pt").write_bytes(damage(content))
    status, _, err = command("qmix", "--resume", "run")
    assert status == 0
    assert err.count("checkpoint.pt is damaged") == 1 and err.count("warning: ") == 1
    assert differences(folder, undisturbed("qmix")) == []
    assert not (tmp_path / "unpickled").exists()


def test_no_bit_of_a_checkpoint_can_be_flipped_unnoticed(copied):
    folder = copied("qmix")
    content, before = (folder / "checkpoint.pt").read_bytes(), qmix.load_checkpoint(folder)
    (folder / "checkpoint.pt").unlink()
    older = episodes_in(folder)
    assert older < before["progress"]["num_episodes"]
    for bit in np.random.default_rng(0).integers(8 * len(content), size=50).tolist() + list(range(0, 256, 16)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (folder / "checkpoint.pt").write_bytes(damaged)
        assert episodes_in(folder) == older


@pytest.fixture
def refused(command, tmp_path, monkeypatch):
    """`refused(script, *arguments)`: the one line that the script says before it gives up and leaves all as it was."""

    def refuse(script: str, *arguments: str) -> str:
        monkeypatch.setattr(MODULES[script], "train", lambda *_: pytest.fail("trains with it"))
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
@every_purpose
def test_two_damaged_checkpoints_are_refused(refused, copied, damage, purpose):
    folder = copied("qmix")
    for path in folder.glob("checkpoint.*"):
        path.write_bytes(damage(path.read_bytes()))
    assert "damaged" in refused("qmix", purpose, "run")


@every_script
@every_purpose
def test_a_folder_without_a_checkpoint_is_refused(refused, tmp_path, script, purpose):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    for name in ("empty", "file", "missing", "missing/too", "x" * 300, "empty/../empty"):
        assert f"no checkpoint in {name}" in refused(script, purpose, name)


@every_purpose
@pytest.mark.parametrize(("script", "other"), list(itertools.permutations(SCRIPTS, 2)))
def test_a_run_of_another_script_is_refused(refused, copied, script, other, purpose):
    copied(other)
    assert f"{other}.py" in refused(script, purpose, "run")


@every_purpose
def test_a_checkpoint_of_a_newer_format_is_refused(refused, copied, purpose):
    folder = copied("qmix")
    newer = torch_saved(qmix.load_checkpoint(folder) | {"format": 3, "args": {"argument": "of the future"}})
    (folder / "checkpoint.pt").write_bytes(with_digest(newer))
    assert "format 3" in refused("qmix", purpose, "run")


OTHERS = ["--gamma 0.9", "--env-name MMM", "--seed 2", "--buffer-size 13", "--no-agent-ids", "--eval-steps 8"]
OTHERS += ["--time-limit 9", "--mixer vdn", "--env-type lbf", "--learning-rate 0.1", "--log-every 4", "--num-eval-ep 2"]


@pytest.mark.parametrize("other", OTHERS)
def test_resuming_with_another_argument_that_matters_is_refused_and_told_which(refused, copied, other):
    copied("qmix")
    name = other.split()[0].replace("--no-", "--")
    said = refused("qmix", "--resume", "run", *other.split())
    assert [word for word in said.split(", which are ")[1].split() if word.startswith("--")] == [name]
    assert str(getattr(qmix.Args(**SMALL), name[2:].replace("-", "_"))) in said


def test_all_arguments_that_are_other_ones_are_named(refused, copied):
    copied("qmix_multienvs")
    said = refused("qmix_multienvs", "--resume", "run", "--num-envs", "5", "--n-epochs", "3", "--td-lambda", "0.5")
    assert said.endswith(", which are --num-envs 4, --n-epochs 2, --td-lambda 0.9\n")


def test_lowering_total_timesteps_is_refused(refused, copied):
    copied("qmix")
    assert "--total-timesteps" in refused("qmix", "--resume", "run", "--total-timesteps", "999")


@every_script
def test_resuming_and_evaluating_at_once_is_refused(refused, copied, script):
    copied(script)
    said = refused(script, "--resume", "run", "--evaluate", "run")
    assert "--resume" in said and "--evaluate" in said


def test_a_value_that_is_out_of_range_is_refused_on_resuming_too(refused, copied):
    copied("qmix")
    assert "--checkpoint-every" in refused("qmix", "--resume", "run", "--checkpoint-every", "0")


def test_a_run_folder_that_cannot_be_written_is_refused(refused, copied):
    folder = copied("qmix")
    (folder / "args.json.tmp").mkdir()  # in the way of what is to be written
    assert "cannot write the run folder run" in refused("qmix", "--resume", "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the test above has another obstacle")
def test_a_read_only_run_folder_is_refused(refused, copied):
    folder = copied("qmix")
    folder.chmod(0o555)
    assert "cannot write the run folder run" in refused("qmix", "--resume", "run")


# Not finite


def as_arguments(**options) -> list[str]:
    return [word for name, value in (SMALL | options).items() for word in (f"--{name.replace('_', '-')}", str(value))]


@every_script
def test_an_update_that_is_not_finite_ends_the_run_and_leaves_the_checkpoint_of_before(
    script, command, undisturbed, tmp_path, monkeypatch
):
    numbers, update = itertools.count(1), MODULES[script].update

    def overflowing(networks, optimizer, batch, args):
        infinite = {"reward": torch.full_like(batch["reward"], torch.inf)} if next(numbers) == 9 else {}
        return update(networks, optimizer, batch | infinite, args)

    with monkeypatch.context() as patch:
        patch.setattr(MODULES[script], "update", overflowing)
        status, _, err = command(script, *as_arguments())
    (folder,) = tmp_path.glob("runs/*")
    assert status == 1
    assert f"{script}.py: error: update 9 is not finite: train/loss " in err
    assert err.endswith(f"; run folder: runs/{folder.name}\n")
    assert "Traceback" not in err
    assert command(script, "--resume", f"runs/{folder.name}")[0] == 0
    assert differences(folder, undisturbed(script)) == []


@every_script
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["train/loss", "train/grads"])
def test_a_loss_or_a_gradient_that_is_not_finite_is_noticed(script, name, value):
    learning = {"train/loss": torch.tensor(1.0), "train/grads": torch.tensor(1.0)}
    progress = MODULES[script].Progress(num_updates=7, learning=learning)
    MODULES[script].check_finite(progress)
    learning[name] = torch.tensor(value)
    with pytest.raises(MODULES[script].TrainingFailed, match=f"update 7 is not finite.*{name} {value}"):
        MODULES[script].check_finite(progress)


# A full disk


def test_a_full_disk_costs_checkpoints_and_nothing_else(undisturbed, tmp_path, monkeypatch, capsys):
    last, save, fsync = [], qmix.save, os.fsync

    def full_for_a_while(*args):
        if len(last) in (1, 2):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(*args)

    with monkeypatch.context() as patch:
        patch.setattr(qmix, "save", lambda folder, *rest: save(folder, *rest) or last.append(episodes_in(folder)))
        patch.setattr(os, "fsync", full_for_a_while)
        trained("qmix", tmp_path)
    assert last[:3] == [6, 6, 6]
    assert last[3] > 18
    err = capsys.readouterr().err
    assert err.count("warning: ") == 2
    assert all(f"warning: going on without saving after {n} episodes: No space left" in err for n in (12, 18))
    assert not list(tmp_path.glob("*.tmp"))
    assert differences(tmp_path, undisturbed("qmix")) == []


def test_a_run_on_a_disk_that_stays_full_is_resumed_from_the_last_checkpoint(undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop = stop_after(patch, "qmix", 12)
        trained("qmix", tmp_path, stop=stop)
        patch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        resumed("qmix", tmp_path)
    assert episodes_in(tmp_path) == 12
    assert differences(resumed("qmix", tmp_path), undisturbed("qmix")) == []


def full_disk(monkeypatch, when):
    """Of what is written to the files of TensorBoard, half is, while `when()`."""
    write = gfile.LocalFileSystem._write

    def limited(self, name, content, mode):
        if when():
            write(self, name, content[: len(content) // 2], mode)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, name, content, mode)

    monkeypatch.setattr(gfile.LocalFileSystem, "_write", limited)


failing_thread = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@failing_thread
def test_a_disk_that_is_full_for_a_while_costs_no_step_of_the_curves(undisturbed, tmp_path, monkeypatch):
    logged, training = [], qmix.Log.training
    with monkeypatch.context() as patch:
        patch.setattr(qmix.Log, "training", lambda *args: logged.append(args) or training(*args))
        full_disk(patch, lambda: 3 <= len(logged) <= 5)  # a checkpoint comes with the fourth
        trained("qmix", tmp_path)
    assert differences(tmp_path, undisturbed("qmix")) == []


@failing_thread
def test_a_disk_that_stays_full_leaves_what_a_run_goes_on_from(undisturbed, tmp_path, monkeypatch, capsys):
    logged, training = [], qmix.Log.training
    with monkeypatch.context() as patch:
        patch.setattr(qmix.Log, "training", lambda *args: logged.append(args) or training(*args))
        full_disk(patch, lambda: len(logged) >= 5)
        trained("qmix", tmp_path)
    assert "warning: the curves end before the training: No space left on device" in capsys.readouterr().err
    assert episodes_in(tmp_path) == 12
    assert differences(resumed("qmix", tmp_path), undisturbed("qmix")) == []


LIMITED = """
import resource, runpy, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit, *sys.argv = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_checkpoint_that_is_larger_than_a_file_can_be_leaves_the_last_one(copied, tmp_path):
    folder = copied("qmix", total_timesteps=300)
    content = (folder / "checkpoint.pt").read_bytes()
    command = [sys.executable, "-c", LIMITED, str(len(content) // 2), qmix.__file__, "--resume", str(folder)]
    command += ["--total-timesteps", "600"]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0
    assert process.stdout.startswith("done after ")
    assert "warning: going on without saving after " in process.stderr
    assert "File too large" in process.stderr and "Traceback" not in process.stderr
    assert (folder / "checkpoint.old").read_bytes() == content


# Environments that fail

FRAGILE = """
from pathlib import Path
from tests.games.two_step_game import TwoStepGame

class FragileGame(TwoStepGame):
    steps = 0

    def step(self, actions):
        FragileGame.steps += 1
        if FragileGame.steps > 40 and Path(__file__).with_name("broken").exists():
            raise RuntimeError("the game is broken")
        return super().step(actions)

parallel_env = FragileGame
"""


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_an_environment_that_raises_ends_the_run_which_goes_on_when_it_is_repaired(
    script, command, undisturbed, tmp_path, monkeypatch
):
    package = tmp_path / f"games_of_{script}"
    package.mkdir()
    for name, content in (("__init__.py", ""), ("fragile.py", FRAGILE), ("broken", "")):
        (package / name).write_text(content)
    options = {"env_type": "pz", "env_family": package.name, "env_name": "fragile", "total_timesteps": 300}
    arguments = [sys.executable, MODULES[script].__file__, *as_arguments(**options)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))}
    process = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert process.returncode == 1
    assert "RuntimeError: the game is broken" in process.stderr
    (folder,) = tmp_path.glob("runs/*")
    assert 0 < MODULES[script].load_checkpoint(folder)["progress"]["num_episodes"] < 150

    (package / "broken").unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert command(script, "--resume", str(folder))[0] == 0
    assert differences(folder, undisturbed(script, **TWO_STEPS | {"total_timesteps": 300})) == []


OTHER_ENVIRONMENTS = {"rewards": (SPREAD, {"seed": 2})}
for kind, time_limit in (("shorter episodes", 14), ("longer episodes", 16)):
    OTHER_ENVIRONMENTS[kind] = ({"time_limit": 15}, {"time_limit": time_limit})


@every_script
@pytest.mark.parametrize(("options", "other"), OTHER_ENVIRONMENTS.values(), ids=OTHER_ENVIRONMENTS)
def test_an_environment_that_does_not_repeat_itself_ends_the_run(script, copied, options, other):
    folder, module = copied(script, total_timesteps=100, **options), MODULES[script]
    before, saved = contents(folder), module.load_checkpoint(folder)
    with pytest.raises(module.TrainingFailed, match="repeat"):
        trained(script, folder, saved, total_timesteps=100, **options | other)
    assert contents(folder) == before


@every_script
def test_an_environment_that_does_not_allow_what_was_done_ends_the_run(script, undisturbed, tmp_path):
    saved = MODULES[script].load_checkpoint(undisturbed(script))
    saved["played"]["actions"].zero_()  # nothing, which only the dead can do
    with pytest.raises(MODULES[script].TrainingFailed, match="repeat"):
        trained(script, tmp_path, saved)


# Evaluated


@pytest.mark.parametrize(
    ("won", "low", "high"),
    [(10, 0.7225, 1.0), (0, 0.0, 0.2775), (5, 0.2366, 0.7634), (1, 0.0179, 0.4042)],
)
def test_the_confidence_interval_of_a_part_is_wilsons(won, low, high):
    interval = qmix.confidence(np.repeat([1.0, 0.0], [won, 10 - won]))
    assert interval == pytest.approx({"mean": won / 10, "low": low, "high": high}, abs=1e-4)


def test_the_confidence_interval_of_a_proportion_in_the_literature():
    """81 of 263: Newcombe (1998), Statistics in Medicine 17, table I."""
    interval = qmix.confidence(np.repeat([1.0, 0.0], [81, 263 - 81]))
    assert (interval["low"], interval["high"]) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@pytest.mark.parametrize("values", [[0.0] * 7, [1.0] * 7, [0.0, 1.0]])
def test_a_part_is_between_0_and_1(values):
    interval = qmix.confidence(np.array(values))
    assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1


def test_the_confidence_interval_of_other_values_is_the_normal_one():
    half = 1.96 * (5 / 3) ** 0.5 / 2
    assert qmix.confidence(np.array([1.0, 2, 3, 4])) == pytest.approx(
        {"mean": 2.5, "low": 2.5 - half, "high": 2.5 + half}
    )


def test_the_confidence_interval_of_a_single_value_is_that_value():
    assert qmix.confidence(np.array([3.5])) == {"mean": 3.5, "low": 3.5, "high": 3.5}


@pytest.fixture
def evaluated(command, copied, tmp_path, monkeypatch):
    """`evaluated(script, *arguments, **options)`: the evaluation of a run, and what was said."""

    def evaluate(script: str, *arguments: str, **options) -> tuple[dict, str, str]:
        folder = tmp_path / "run"
        folder = folder if folder.exists() else copied(script, **options)
        monkeypatch.setattr(MODULES[script], "train", lambda *_: pytest.fail("trains"))
        status, out, err = command(script, "--evaluate", "run", *arguments)
        assert status == 0
        return json.loads((folder / "evaluation.json").read_text()), out, err

    return evaluate


@pytest.mark.parametrize(("script", "task"), [*((script, {}) for script in SCRIPTS), ("qmix", SPREAD)], ids=str)
def test_an_evaluation_is_that_of_greedy_episodes_of_the_final_model(script, task, copied, evaluated, monkeypatch):
    module, epsilons, folder = MODULES[script], set(), copied(script, **task)
    act, signature = module.act, inspect.signature(module.act)

    def noted(*args):
        epsilons.add(signature.bind(*args).arguments["epsilon"])
        return act(*args)

    monkeypatch.setattr(module, "act", noted)
    evaluation, out, _ = evaluated(script, "--num-eval-ep", "6")
    assert epsilons == {0.0}

    args = module.Args(**SMALL | task)
    env = module.open_env(args)
    networks = module.Networks(args, env)
    networks.agent.load_state_dict(torch.load(folder / "model.pt", weights_only=True)["agent"])
    streams = [module.random_stream(args, "test", number) for number in range(6)]
    columns = np.array([module.play(env, networks.agent, args, rng) for rng in streams], float).T
    names = ("ep_reward", "ep_length", "battle_won") if not task else ("ep_reward", "ep_length")
    expected = dict(zip(names, map(module.confidence, columns), strict=False))
    step = module.load_checkpoint(folder)["progress"]["step"]
    assert evaluation == expected | {"episodes": 6, "seed": 1, "step": step}
    for name, interval in expected.items():
        assert f"{name}: mean {interval['mean']:.3f}" in out


def test_an_evaluation_changes_nothing_else_in_the_run_folder(evaluated, undisturbed, tmp_path):
    options = {"time_limit": 9, "total_timesteps": 100}
    evaluated("qmix", "--num-eval-ep", "2", "--capture-video", **options)
    before, after = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (undisturbed("qmix", **options), tmp_path / "run")
    )
    added = {"evaluation.json", "worst.gif", "median.gif", "best.gif"}
    assert after.keys() - before.keys() == added
    assert {name: content for name, content in after.items() if name not in added} == before
    for name in added - {"evaluation.json"}:
        with Image.open(tmp_path / "run" / name) as picture:
            assert picture.format == "GIF" and picture.n_frames > 1


def test_evaluations_with_one_seed_are_the_same(evaluated):
    first, again, other = (
        evaluated("qmix", "--num-eval-ep", "4", "--seed", seed, total_timesteps=100, **SPREAD)[0] for seed in "556"
    )
    assert first == again
    assert first["ep_reward"] != other["ep_reward"]


def test_the_worst_the_median_and_the_best_episode_are_captured(copied, evaluated, monkeypatch):
    copied("qmix", total_timesteps=100, **SPREAD)
    rewards, numbers, play = [], {}, qmix.play
    monkeypatch.setattr(qmix, "play", lambda *args: rewards.append(play(*args)[0]) or (rewards[-1], 1, np.nan))
    monkeypatch.setattr(qmix, "save_video", lambda *args: numbers.update({args[2].stem: args[3]}))
    evaluated("qmix", "--num-eval-ep", "5", "--capture-video")
    assert len(set(rewards)) == 5
    captured = {name: rewards[number] for name, number in numbers.items()}
    assert captured == dict(zip(("worst", "median", "best"), sorted(rewards)[::2], strict=True))


def test_a_captured_episode_is_the_one_that_was_evaluated(undisturbed, monkeypatch, tmp_path):
    args = qmix.Args(**SMALL | SPREAD)
    env, episodes, play = qmix.open_env(args), [], qmix.play
    agent = qmix.Networks(args, env).agent
    expected = play(env, agent, args, qmix.random_stream(args, "test", 3))
    monkeypatch.setattr(qmix, "play", lambda *args: episodes.append(play(*args[:4])))  # it need not be drawn
    qmix.save_video(args, agent, tmp_path / "episode.gif", 3)
    assert np.array_equal(episodes, [expected], equal_nan=True)


def test_an_evaluation_of_what_is_no_battle_is_of_reward_and_length(evaluated):
    evaluation, _, err = evaluated("qmix", "--capture-video", **TWO_STEPS | {"total_timesteps": 40})
    assert evaluation.keys() == {"ep_reward", "ep_length", "episodes", "seed", "step"}
    assert evaluation["ep_length"] == {"mean": 2, "low": 2, "high": 2}
    assert err.count("warning: no video") == 3


@pytest.mark.parametrize("other", ["--hidden-dim 9", "--env-name MMM", "--mixer vdn", "--num-layers 2"])
def test_arguments_that_do_not_fit_the_networks_are_refused(refused, copied, other):
    copied("qmix")
    refused("qmix", "--evaluate", "run", *other.split())


def test_an_evaluation_that_cannot_be_written_says_so(command, copied):
    (copied("qmix") / "evaluation.json.tmp").mkdir()
    status, _, err = command("qmix", "--evaluate", "run")
    assert status == 2
    assert "Traceback" not in err and "evaluation.json" in err.splitlines()[-1]


@every_signal
def test_an_evaluation_can_be_interrupted(number, command, copied, monkeypatch):
    copied("qmix")
    handlers = []
    monkeypatch.setattr(qmix, "evaluate_run", lambda *_: handlers.append(signal.getsignal(number)))
    command("qmix", "--evaluate", "run")
    assert handlers == [signal.SIG_DFL]


# An environment whose process died


@pytest.mark.parametrize(("after", "first"), [(60, True), (60, False), (251, False)])  # 251: after total_timesteps
def test_a_training_goes_on_where_the_process_of_an_environment_died(undisturbed, tmp_path, monkeypatch, after, first):
    """In the first step of an episode, in a later one, and where an episode that ends the training is waited for."""
    module, steps = MODULES["qmix_multienvs"], itertools.count()
    advance = module.Collector.advance

    def dying(self, actions):
        begins = any(len(steps) == 0 for steps in self.steps)
        if next(steps) >= after and begins == first:
            raise module.EnvironmentDied
        return advance(self, actions)

    with monkeypatch.context() as patch, pytest.raises(module.EnvironmentDied):
        patch.setattr(module.Collector, "advance", dying)
        trained("qmix_multienvs", tmp_path)
    assert differences(resumed("qmix_multienvs", tmp_path), undisturbed("qmix_multienvs")) == []
