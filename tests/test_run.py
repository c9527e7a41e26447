"""What every run needs: its folder, lock, curves, progress; signals, errors, a full disk."""

import contextlib
import errno
import fcntl
import gc
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
import weakref
from collections import deque
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from tensorboard.compat.tensorflow_stub.io import gfile
from torch import nn

from cleanmarl import qmix, training
from cleanmarl.env.padded import PaddedTeam
from cleanmarl.training import checkpoint, errors, run, session
from cleanmarl.training.checkpoint import load_checkpoint
from cleanmarl.training.errors import Refused, RunFailed
from cleanmarl.training.exploring import ExplorationCheck
from cleanmarl.training.results import Progress
from cleanmarl.training.run import Run
from cleanmarl.training.stopping import Stopped
from cleanmarl.training.values import ValueCheck
from docs.tools.kill_and_resume import differences
from tests.helpers import LBF, MODULES, ROOT, SMALL, TWO_STEPS, small_args, trained, weights

# Of 20 episodes, with checkpoints after 6, 12, 18 and at the end
SHORT = TWO_STEPS | {"total_timesteps": 40, "checkpoint_every": 6, "log_every": 3, "eval_steps": 4}
FOREVER = TWO_STEPS | {"total_timesteps": 10**9, "checkpoint_every": 100}


def words(**options) -> list[str]:
    """A command line that gives these arguments."""
    found = []
    for name, value in options.items():
        option = name.replace("_", "-")
        if isinstance(value, bool):
            found.append(f"--{option}" if value else f"--no-{option}")
        else:
            found += [f"--{option}", str(value)]
    return found


def resumed(folder: Path, **options) -> Path:
    own = load_checkpoint(folder, "qmix")["args"]
    qmix.train(qmix.Args(**own | {"resume": str(folder)} | options))
    return folder


def step_of(folder: Path) -> int:
    return load_checkpoint(folder, "qmix", with_episodes=True)["progress"]["step"]


def sessions(folder: Path) -> list[dict]:
    return json.loads((folder / "run.json").read_text())


def let_ctrl_c_work():
    """For a new process: it would ignore Ctrl-C if the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def started(folder: Path, script: str, *arguments: str, before: str = "", **options):
    """A script as a process; at the end, it and all its children are killed."""
    path = MODULES[script].__file__
    code = f"{before}\nimport runpy, sys\nsys.argv = sys.argv[1:]\n"
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code] if before else [sys.executable]
    python_path = os.pathsep.join((str(folder), str(ROOT)))
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": folder}
    settings |= {"env": os.environ | {"PYTHONPATH": python_path}, "preexec_fn": let_ctrl_c_work}
    words = [*command, path, *arguments]
    process = subprocess.Popen(words, start_new_session=True, **settings | options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition, process, seconds: float = 60):
    """Wait until a condition is true; returns its value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    pytest.fail("nothing came")


# The run folder


def test_the_run_folder_is_named_after_environment_script_seed_and_time(command, tmp_path):
    status, out, _ = command("qmix", *words(**SMALL | SHORT | {"seed": 4}))
    assert status == 0
    (folder,) = tmp_path.glob("runs/*")
    assert f"runs/{folder.name}" in out
    *name, _time = folder.name.split("__")
    assert name == ["pz", "two_step_game", "qmix", "4"]


def test_runs_of_processes_that_start_together_have_different_folders(tmp_path):
    arguments = words(**SMALL | SHORT)
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(started(tmp_path, "qmix", *arguments)) for _ in range(2)]
        outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    folders = list(tmp_path.glob("runs/*"))
    assert len(folders) == 2
    assert [len(sessions(folder)) for folder in folders] == [1, 1]
    assert all(f"runs/{folder.name}\n" in str(outputs).replace("\\n", "\n") for folder in folders)


def test_runs_that_start_in_the_same_second_have_different_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run.time, "strftime", lambda *_: "now")
    for _ in range(3):
        qmix.train(small_args("qmix", **SHORT))
    assert len(list(tmp_path.glob("runs/*"))) == 3


def test_args_json_holds_the_arguments(tmp_path):
    options = SHORT | {"seed": 3, "time_limit": 9, "optimizer": "RMSprop"}
    folder = trained("qmix", tmp_path / "run", **options)
    args = json.loads((folder / "args.json").read_text())
    assert qmix.Args(**args) == small_args("qmix", **options)


def test_status_json_has_the_progress_of_the_run(tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    status = json.loads((folder / "status.json").read_text())
    assert 0 < status["step"] <= status["total_timesteps"] == 40
    assert status["seconds"] > 0
    assert any(name.startswith("rollout/") for name in status)


@pytest.mark.parametrize("mixer", ["qmix", "vdn"])
@pytest.mark.parametrize("name", ["model.pt", "best.pt"])
def test_the_saved_networks_can_be_loaded(tmp_path, mixer, name):
    folder = trained("qmix", tmp_path / "run", **SHORT | {"mixer": mixer})
    args = small_args("qmix", **SHORT | {"mixer": mixer})
    networks = qmix.Networks(args, qmix.open_env(args))
    networks.load_state_dict(weights(folder, name))


def test_no_networks_are_saved_with_no_save_model(tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT | {"save_model": False})
    assert not (folder / "model.pt").exists()
    assert not (folder / "best.pt").exists()
    assert step_of(folder) == 40


def test_nothing_unfinished_is_left_in_the_run_folder(tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    assert not list(folder.rglob("*.tmp"))


def test_a_greedy_episode_is_captured_as_a_gif(tmp_path):
    options = {"env_name": "3m", "time_limit": 10, "capture_video": True}
    folder = trained("qmix", tmp_path / "run", **options)
    (gif,) = folder.glob("*.gif")
    with Image.open(gif) as picture:
        assert picture.n_frames > 1


def test_an_environment_that_cannot_be_drawn_costs_only_the_video(tmp_path, capsys):
    folder = trained("qmix", tmp_path / "run", **SHORT | {"capture_video": True})
    assert "warning: no video" in capsys.readouterr().err
    assert (folder / "model.pt").exists()
    assert not list(folder.glob("*.gif"))


def test_a_run_folder_that_cannot_be_made_is_refused(command, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder is to be")
    status, out, err = command("qmix", *words(**SMALL | SHORT))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "runs" in err


# Sessions


def test_run_json_has_the_command_the_versions_and_the_ending(tmp_path):
    (session,) = sessions(trained("qmix", tmp_path / "run", **SHORT))
    assert session["command"].startswith("python ")
    assert f"torch {torch.__version__.partition('+')[0]}" in session["versions"]
    assert f"numpy {np.__version__}" in session["versions"]
    assert f"{os.cpu_count()} cores" in session["machine"]
    assert session["began"] <= session["ended"]
    assert session["ending"] == "done"
    assert session["version"] == version("cleanmarl-qmix")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    assert commit.stdout.startswith(session["commit"].removesuffix("-dirty"))


def test_a_package_that_stands_in_another_repository_and_is_not_part_of_it_has_no_commit(
    tmp_path, monkeypatch
):
    git = ["git", "-c", "user.name=me", "-c", "user.email=me@example.org"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "mine"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    installed = tmp_path / "venv/session.py"
    installed.parent.mkdir()
    monkeypatch.setattr(session, "__file__", str(installed))
    assert session.commit.__wrapped__() == ""
    installed.touch()
    subprocess.run([*git, "add", "."], cwd=tmp_path, check=True)
    assert session.commit.__wrapped__().endswith("-dirty")


def test_each_session_of_a_run_is_in_run_json(tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    resumed(folder, total_timesteps=60)
    first, second = sessions(folder)
    assert (first["ending"], second["ending"]) == ("done", "done")
    assert first["ended"] <= second["began"]


def test_a_session_that_was_killed_has_no_end(tmp_path):
    with started(tmp_path, "qmix", *words(**SMALL | FOREVER)) as process:
        wait_for(lambda: list(tmp_path.glob("runs/*/checkpoint.old")), process)
        process.kill()
        process.wait()
    (folder,) = tmp_path.glob("runs/*")
    (session,) = sessions(folder)
    assert (session["ended"], session["ending"]) == (None, None)


# One process at a time


def test_a_folder_in_which_a_process_trains_cannot_be_resumed(command, tmp_path):
    with started(tmp_path, "qmix", *words(**SMALL | FOREVER)) as process:
        wait_for(lambda: list(tmp_path.glob("runs/*/checkpoint.old")), process)
        (folder,) = tmp_path.glob("runs/*")
        status, out, err = command("qmix", "--resume", str(folder))
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "another process" in err
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert out.startswith("stopped after ")
    assert f"runs/{folder.name}" in out
    (session,) = sessions(folder)
    assert session["ending"] == "stopped"


def test_a_refused_process_leaves_the_folder_to_the_other(tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    with FileLock(folder / "lock"), pytest.raises(Refused, match="another process"):
        resumed(folder)
    assert len(sessions(folder)) == 1
    resumed(folder)
    assert len(sessions(folder)) == 2


# Signals

every_signal = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


def stop_at(monkeypatch, step: int, number: int = signal.SIGTERM):
    """Send a signal when the training reaches a step."""

    def advance(self, to, real=Run.advance):
        real(self, to)
        if to == step:
            signal.raise_signal(number)

    monkeypatch.setattr(Run, "advance", advance)


@every_signal
def test_a_signal_ends_a_training_with_128_and_its_number(number, command, tmp_path, monkeypatch):
    stop_at(monkeypatch, 8, number)
    status, out, err = command("qmix", *words(**SMALL | SHORT))
    assert status == 128 + number
    assert out.startswith("stopped after 8 steps")
    assert "Traceback" not in err
    (folder,) = tmp_path.glob("runs/*")
    assert step_of(folder) == 8
    assert sessions(folder)[0]["ending"] == "stopped"


@every_signal
def test_a_second_signal_ends_the_process_at_once(number, tmp_path, monkeypatch):
    handlers = []
    stop_at(monkeypatch, 8, number)
    save = Run.save
    monkeypatch.setattr(
        Run, "save", lambda self: handlers.append(signal.getsignal(number)) or save(self)
    )
    with pytest.raises(SystemExit):
        trained("qmix", tmp_path / "run", **SHORT)
    assert handlers == [signal.SIG_DFL]


def test_after_a_training_the_old_signal_handlers_are_back(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    stop_at(monkeypatch, 8, signal.SIGINT)
    with pytest.raises(SystemExit):
        trained("qmix", tmp_path / "run", **SHORT)
    assert signal.getsignal(signal.SIGINT) == before


SLEEPY = """
import time
from pathlib import Path
from tests.games.two_step_game import TwoStepGame

class SleepyGame(TwoStepGame):
    def step(self, actions):
        Path("asleep").touch()
        time.sleep(600)

parallel_env = SleepyGame
"""


def game(folder: Path, name: str, source: str) -> dict:
    """A package with an environment; the arguments that choose it."""
    package = folder / f"package_of_{name}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"{name}.py").write_text(source)
    return {"env_type": "pz", "env_family": package.name, "env_name": name}


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_a_second_ctrl_c_ends_a_script_at_once(script, tmp_path):
    arguments = words(**SMALL | game(tmp_path, "sleepy_game", SLEEPY))
    with started(tmp_path, script, *arguments) as process:
        wait_for((tmp_path / "asleep").exists, process)
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(10) == -signal.SIGINT
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the environments are still asleep
        assert "Traceback" not in process.stderr.read()


TELLS_WHEN = """
import sys

class Tells:
    def find_spec(self, name, *_):
        if name == "{module}":
            print("imports it", flush=True)

sys.meta_path.insert(0, Tells())
"""
MOMENTS = [("qmix", "cleanmarl", seconds) for seconds in (0, 0.1, 0.6, 1.4)]
# Python imports the first when a script creates an environment, the second when it starts processes
MOMENTS += [("qmix_multienvs", "lbforaging", 0.1)]
MOMENTS += [("qmix_multienvs", "multiprocessing.popen_forkserver", seconds) for seconds in (0, 0.5)]


@pytest.mark.parametrize(("script", "module", "seconds"), MOMENTS)
def test_ctrl_c_while_a_script_starts_shows_no_traceback(script, module, seconds, tmp_path):
    task = LBF if script == "qmix_multienvs" else {}
    arguments = words(**SMALL | FOREVER | task)
    with started(tmp_path, script, *arguments, before=TELLS_WHEN.format(module=module)) as process:
        assert process.stdout.readline() == "imports it\n"
        time.sleep(seconds)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "Traceback" not in err


IMPORTS = """
import signal, sys
def reactions():
    return [signal.getsignal(number) for number in signal.valid_signals()], sys.excepthook
before = reactions()
import cleanmarl.battle, cleanmarl.env, cleanmarl.training
import cleanmarl.qmix, cleanmarl.qmix_lstm, cleanmarl.qmix_memefficient, cleanmarl.qmix_multienvs
assert reactions() == before
"""
CTRL_C = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("caught")
"""


def test_a_program_that_imports_the_package_reacts_to_signals_and_errors_as_before():
    code = IMPORTS + CTRL_C
    settings = {"capture_output": True, "text": True, "preexec_fn": let_ctrl_c_work}
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, **settings)
    assert (found.returncode, found.stdout) == (0, "caught\n"), found.stderr


# What is not learned

LAYERS = ("actor", "critic", "unused", "forgotten")


@pytest.fixture
def two_optimizers(tmp_path):
    """`two_optimizers()`: a run with four layers and two optimizers, of actor and critic."""

    @contextlib.contextmanager
    def start():
        networks = nn.ModuleDict({name: nn.Linear(2, 2) for name in LAYERS})
        state = {"networks": networks, "progress": Progress()}
        for name in ("actor", "critic"):
            state[name] = torch.optim.SGD(networks[name].parameters(), lr=0.1)
        args = small_args("qmix", **TWO_STEPS)
        with Run(args, qmix.open_env(args), state, deque(), tmp_path / "run") as run:
            yield run, state

    return start


def learn(state: dict, optimizer: str, *layers: str):
    """A step of an optimizer, with a loss that depends on some layers."""
    sum(state["networks"][name](torch.ones(2)).sum() for name in layers).backward()
    state[optimizer].step()


def test_each_optimizer_may_have_its_own_loss(two_optimizers):
    with two_optimizers() as (run, state):
        learn(state, "actor", "actor")
        run.log({"train/loss": 1.0})
        learn(state, "critic", "critic")
        run.log({"train/loss": 1.0})
    assert run.latest["train/loss"] == 1


@pytest.mark.parametrize("first", ["actor", "critic"])
def test_each_optimizer_refuses_a_parameter_without_a_gradient(two_optimizers, first):
    with two_optimizers() as (_, state):
        state["critic"].add_param_group({"params": state["networks"]["unused"].parameters()})
        if first == "actor":
            learn(state, "actor", "actor")
        with pytest.raises(Refused, match=r" unused\.weight, unused\.bias:"):
            learn(state, "critic", "critic")


@pytest.mark.parametrize("optimizer", ["actor", "critic"])
def test_a_gradient_that_no_optimizer_applies_is_refused(two_optimizers, optimizer):
    refused = pytest.raises(Refused, match=r" forgotten\.weight, forgotten\.bias:")
    with two_optimizers() as (_, state), refused:
        learn(state, optimizer, "actor", "critic", "forgotten")


def test_a_loss_without_a_step_of_any_optimizer_is_refused(two_optimizers):
    with two_optimizers() as (run, _), pytest.raises(Refused, match="optimizer"):
        run.log({"train/loss": 1.0})


def test_a_resumed_run_is_checked_again(tmp_path, monkeypatch):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    monkeypatch.setattr(qmix.QMixer, "forward", lambda self, q, state: q.sum(-1))
    with pytest.raises(Refused, match=r" mixer\.w1\.0\.weight, "):
        resumed(folder, total_timesteps=60)
    assert step_of(folder) == 40


# Errors of an environment

FRAGILE = """
from pathlib import Path
from tests.games.two_step_game import TwoStepGame

class FragileGame(TwoStepGame):
    steps = 0

    def step(self, actions):
        FragileGame.steps += 1
        if FragileGame.steps > 31 and Path(__file__).with_name("broken").exists():
            raise RuntimeError("the game is broken")
        return super().step(actions)

parallel_env = FragileGame
"""


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_after_an_error_of_an_environment_the_training_is_saved(script, tmp_path, monkeypatch):
    options = SHORT | {"total_timesteps": 80, "eval_steps": 10**6}
    chosen = options | game(tmp_path, "fragile_game", FRAGILE)
    broken = tmp_path / chosen["env_family"] / "broken"
    broken.touch()
    extra = {"num_envs": 2} if script == "qmix_multienvs" else {}
    arguments = words(**SMALL | extra | {"torch_threads": 1} | chosen)
    with started(tmp_path, script, *arguments) as process:
        out, err = process.communicate(timeout=60)
    time.sleep(1)  # TensorBoard orders the files of a run by the second in which they were made
    assert (process.returncode, out) == (1, "")
    assert "Traceback" in err
    assert "RuntimeError: the game is broken" in err
    (folder,) = tmp_path.glob("runs/*")
    assert f"run folder: runs/{folder.name}" in err
    assert "the game is broken" in sessions(folder)[0]["ending"]
    saved = load_checkpoint(folder, script, with_episodes=True)
    assert saved["progress"]["step"] >= 30  # all steps of complete episodes

    broken.unlink()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    MODULES[script].train(MODULES[script].Args(**saved["args"] | {"resume": str(folder)}))
    wanted = trained(script, tmp_path / "wanted", **options | extra | {"torch_threads": 1})
    assert differences(folder, wanted, script) == []


def test_an_update_that_is_not_finite_ends_the_run_and_keeps_the_last_checkpoint(
    command, tmp_path, monkeypatch
):
    def overflow(networks, optimizer, batch, args, real=qmix.update):
        if len(updates) == 9:
            batch["reward"][:] = torch.inf
        updates.append(batch)
        return real(networks, optimizer, batch, args)

    updates = []
    with monkeypatch.context() as patch:
        patch.setattr(qmix, "update", overflow)
        status, _, err = command("qmix", *words(**SMALL | SHORT))
    assert status == 1
    assert "not finite" in err
    assert "Traceback" not in err
    (folder,) = tmp_path.glob("runs/*")
    assert step_of(folder) == 12
    resumed(folder)
    wanted = trained("qmix", tmp_path / "wanted", **SHORT)
    assert differences(folder, wanted, "qmix") == []


# A full disk

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
# TensorBoard's, which writes the curves
failing_thread = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def fill_disk(monkeypatch, when):
    """Writing a file fails while `when()` is true."""

    def write(path, content, real=checkpoint.write_atomically):
        if when():
            raise FULL
        real(path, content)

    monkeypatch.setattr(checkpoint, "write_atomically", write)
    monkeypatch.setattr(run, "write_atomically", write)


def count_saves(monkeypatch) -> list:
    saves = []
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda self: saves.append(self.step) or save(self))
    return saves


def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path, monkeypatch, capsys):
    wanted = trained("qmix", tmp_path / "wanted", **SHORT)
    saves = count_saves(monkeypatch)
    fill_disk(monkeypatch, lambda: len(saves) in (2, 3))
    folder = trained("qmix", tmp_path / "run", **SHORT)
    err = capsys.readouterr().err
    assert err.count("warning: ") == 2
    assert "nothing was saved at step 24" in err
    assert "No space left" in err
    assert differences(folder, wanted, "qmix") == []


def test_the_best_networks_are_saved_when_the_disk_has_space_again(tmp_path, monkeypatch):
    evaluations = []

    def evaluate(*_):
        evaluations.append(1)
        return [{"ep_reward": 1.0}]

    monkeypatch.setattr(qmix, "evaluate", evaluate)
    fill_disk(monkeypatch, lambda: len(evaluations) == 1)
    folder = trained("qmix", tmp_path / "run", **SHORT | {"eval_steps": 5})
    assert len(evaluations) > 1
    assert (folder / "best.pt").is_file()


def test_an_error_in_the_last_save_does_not_hide_the_first(tmp_path, monkeypatch, capsys):
    def advance(self, step):
        self.state["progress"].results = np.zeros(2)
        raise KeyError("mine")

    monkeypatch.setattr(Run, "advance", advance)
    with pytest.raises(KeyError, match="mine"):
        trained("qmix", tmp_path / "run", **SHORT)
    assert "a checkpoint holds" in capsys.readouterr().err
    assert "mine" in sessions(tmp_path / "run")[-1]["ending"]


def test_a_run_whose_end_cannot_be_saved_says_so_and_fails(command, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        saves = count_saves(patch)
        fill_disk(patch, lambda: len(saves) > 2)
        status, out, err = command("qmix", *words(**SMALL | SHORT))
    assert status == 1
    assert out.startswith("done after 40 steps")
    assert "No space left" in err
    assert "could not be saved" in err.splitlines()[-1]
    assert "Traceback" not in err
    (folder,) = tmp_path.glob("runs/*")
    assert step_of(folder) == 24
    resumed(folder)
    wanted = trained("qmix", tmp_path / "wanted", **SHORT)
    assert differences(folder, wanted, "qmix") == []


@failing_thread
def test_a_run_whose_folder_was_removed_says_so_and_fails(command, tmp_path, monkeypatch):
    def advance(self, step, real=Run.advance):
        real(self, step)
        if step == 20:
            self.writer.flush()  # so that its thread writes no file meanwhile
            shutil.rmtree(self.folder)

    monkeypatch.setattr(Run, "advance", advance)
    status, _, err = command("qmix", *words(**SMALL | SHORT))
    assert status == 1
    assert "could not be saved" in err.splitlines()[-1]
    assert "Traceback" not in err


def fill_disk_of_curves(monkeypatch, when):
    """While `when()` is true, only half of each write to TensorBoard's files succeeds."""
    write = gfile.LocalFileSystem._write

    def limited(self, name, content, mode):
        if when():
            write(self, name, content[: len(content) // 2], mode)
            raise FULL
        write(self, name, content, mode)

    monkeypatch.setattr(gfile.LocalFileSystem, "_write", limited)


@failing_thread
def test_a_disk_that_is_full_for_a_while_loses_no_point_of_a_curve(tmp_path, monkeypatch):
    wanted = trained("qmix", tmp_path / "wanted", **SHORT)
    with monkeypatch.context() as patch:
        saves = count_saves(patch)
        fill_disk_of_curves(patch, lambda: len(saves) == 2)
        folder = trained("qmix", tmp_path / "run", **SHORT)
    assert len(saves) == 4
    assert differences(folder, wanted, "qmix") == []


@failing_thread
def test_curves_that_cannot_be_written_at_the_end_fail_the_run(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(RunFailed):
        saves = count_saves(patch)
        fill_disk_of_curves(patch, lambda: len(saves) >= 3)
        trained("qmix", tmp_path / "run", **SHORT)
    folder = tmp_path / "run"
    assert step_of(folder) == 24
    resumed(folder)
    wanted = trained("qmix", tmp_path / "wanted", **SHORT)
    assert differences(folder, wanted, "qmix") == []


LIMITED = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
"""


def test_a_checkpoint_above_the_largest_file_size_leaves_the_last_one(tmp_path):
    folder = trained("qmix", tmp_path / "run", **SHORT)
    content = (folder / "checkpoint.pt").read_bytes()
    limited = LIMITED.format(limit=len(content) // 2)
    arguments = ["--resume", str(folder), "--total-timesteps", "60"]
    with started(tmp_path, "qmix", *arguments, before=limited) as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "File too large" in err
    assert "Traceback" not in err
    assert content in [path.read_bytes() for path in folder.glob("checkpoint.*")]
    assert step_of(folder) == 40


# Progress


def test_without_a_terminal_a_line_is_printed_for_evaluations_10_seconds_apart(
    tmp_path, monkeypatch, capsys
):
    clock = [100.0]
    fake = SimpleNamespace(perf_counter=lambda: clock[0], strftime=time.strftime)
    monkeypatch.setattr(run, "time", fake)

    def evaluate(env, agent, args, purpose, number):
        clock[0] += 4
        return [{"ep_reward": number}]

    monkeypatch.setattr(qmix, "evaluate", evaluate)
    trained("qmix", tmp_path / "run", **SHORT | {"eval_steps": 1})
    err = capsys.readouterr().err
    assert "\r" not in err
    lines = err.splitlines()
    evaluations = [int(re.search(r"eval (\d+)", line)[1]) for line in lines]
    assert evaluations == [1, 4, 7, 10, 13, 16, 19]
    steps = [float(line.partition("/")[0]) for line in lines]
    assert steps == [2 * number for number in evaluations]


def test_without_a_terminal_nothing_is_printed_between_evaluations(tmp_path, capsys):
    trained("qmix", tmp_path / "run", **SHORT | {"eval_steps": 10**6, "log_every": 1})
    assert len(capsys.readouterr().err.splitlines()) <= 1  # of the evaluation at the end


def on_terminal(folder: Path, *arguments: str, columns: int = 80) -> tuple[int, str]:
    """Exit status and output of qmix.py, run on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with started(folder, "qmix", *arguments, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = b""
        with contextlib.suppress(OSError):  # at the end
            while part := os.read(ours, 10000):
                output += part
        status = process.wait(60)
    os.close(ours)
    return status, output.decode()


def test_on_a_terminal_a_bar_of_80_columns_grows_to_100_percent(tmp_path):
    options = {"env_name": "3m", "total_timesteps": 3000, "batch_size": 4, "eval_steps": 5}
    status, output = on_terminal(tmp_path, *words(**SMALL | options))
    assert status == 0, output
    output = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", output)
    bars = [line for line in re.split(r"[\r\n]+", output) if "%|" in line]
    assert len(bars) > 2
    assert max(map(len, bars)) <= 80
    assert bars[-1].startswith("100%|")
    assert re.search(r" left, reward -?[\d.]+, won [\d.]+ *$", bars[-1]), bars[-1]
    assert "done after" in output


# Exploration that finds nothing


def said_of(capsys, first: list[tuple], after: list[float], **options) -> str:
    """What is said of a team whose exploration ends at step 100.

    `first` are steps and rewards of episodes, `after` rewards of evaluations.
    """
    args = small_args("qmix", total_timesteps=1000, exploration_fraction=0.1, **options)
    check = ExplorationCheck(args)
    for step, reward in first:
        check.look({"rollout/ep_reward": reward}, step)
    check.look({"eval/ep_reward": 0.0}, step=100)
    for step, reward in enumerate(after):
        check.look({"eval/ep_reward": reward}, 101 + step)
        check.look({"rollout/ep_reward": 50.0}, 101 + step)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "first",
    [
        [(10, 0.2), (20, 0.0), (21, 50.0)],
        [(70, 0.1), (90, 50.0)],  # long episodes
    ],
)
def test_a_run_says_once_if_its_team_is_no_better_than_at_first(capsys, first):
    said = said_of(capsys, first, [0.0, 0.3, 0.0, 0.0, 0.0, 0.0])
    assert said.count("\n") == 1
    says = "after exploration earn 0.1, the first episodes earned 0.1: explore longer (--explo"
    assert says in said


@pytest.mark.parametrize(
    ("first", "after", "options"),
    [
        ([(10, 0.2), (20, 0.0)], [0.0, 0.3, 0.1], {}),
        ([(10, -80.0), (20, -90.0)], [-84.0, -84.0, -84.0, -500.0], {}),
        ([(10, 0.2)], [0.0, 0.0], {}),  # too few evaluations
        ([(101, 0.2)], [0.0, 0.0, 0.0], {}),  # no episode ended while agents explored
        ([(10, 0.2)], [0.0, 0.0, 0.0], {"resume": "run"}),
    ],
)
def test_a_team_that_is_better_or_not_yet_known_is_not_mentioned(capsys, first, after, options):
    assert said_of(capsys, first, after, **options) == ""


def test_a_training_in_which_no_action_matters_says_so(tmp_path, capsys):
    options = {"env_name": "faulty", "total_timesteps": 600, "exploration_fraction": 0.5}
    options |= {"log_every": 1, "eval_steps": 10}
    trained("qmix", tmp_path / "run", **TWO_STEPS | options)
    assert (
        "evaluations after exploration earn 6, the first episodes earned 6"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ({"eval/battle_won": [0.0] * 20}, "none of 20 evaluations was won or a success: train lon"),
        ({"eval/success": [0.0] * 25}, "none of 25 evaluations was won or a success: train longer"),
        ({"eval/battle_won": [0.0] * 19}, ""),
        ({"eval/battle_won": [0.0] * 19 + [0.1]}, ""),
        ({}, ""),
    ],
)
def test_a_training_that_wins_no_evaluation_says_so_at_its_end(capsys, rates, says):
    check = ExplorationCheck(small_args("qmix", total_timesteps=1000, exploration_fraction=0.1))
    for name, values in rates.items():
        check.look({"eval/ep_reward": 1.0, name: 0.0}, step=100)  # agents still explore
        for step, value in enumerate(values):
            check.look({"eval/ep_reward": 1.0, name: value}, 101 + step)
    check.warn_at_end()
    said = capsys.readouterr().err
    assert (says in said) if says else (said == "")


def test_a_run_without_a_won_battle_ends_with_advice(tmp_path, capsys):
    options = {"total_timesteps": 2000, "exploration_fraction": 0.0, "start_e": 0.0}
    options |= {"time_limit": 5, "eval_steps": 2, "num_eval_ep": 1, "greedy_episodes": 1.0}
    trained("qmix", tmp_path / "run", **options)
    said = capsys.readouterr().err
    assert "evaluations was won or a success: train longer, explore longer" in said


# Values that cannot be


def episodes_that_earned(*returns: float) -> list[dict]:
    return [{"reward": np.array([one / 2, one / 2], np.float32)} for one in returns]


def test_rewards_that_are_small_beside_the_first_values_are_named(capsys):
    ValueCheck(small_args("qmix"), deque(episodes_that_earned(0.001))).look(0.05)
    says = "add up to 0.001 at most: so small rewards are learned slowly, multiply them"
    assert says in capsys.readouterr().err


def test_a_run_says_once_if_all_rewards_are_small(capsys):
    episodes = deque(episodes_that_earned(*[0, 0.02] * 100))
    check = ValueCheck(small_args("qmix"), episodes)
    for _ in range(3):
        check.look(0.003)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "the rewards of an episode add up to 0.02 at most: so small rewards are learned" in said


@pytest.mark.parametrize("returns", [[0] * 200, [0, 0.02] * 99, [*[0.02] * 199, 0.2]])
def test_rewards_that_are_not_known_to_be_small_are_not_mentioned(capsys, returns):
    ValueCheck(small_args("qmix"), deque(episodes_that_earned(*returns))).look(0.003)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("q_tot", [41.0, -41.0])
def test_a_run_says_once_if_q_tot_is_far_beyond_the_rewards(capsys, q_tot):
    episodes = deque(episodes_that_earned(0, -4, 1))
    check = ValueCheck(small_args("qmix"), episodes)
    check.look(q_tot)
    check.look(2 * q_tot)
    said = capsys.readouterr().err
    assert said.count("diverge") == 1
    assert f"Q_tot is {q_tot:.3g}, but the rewards of an episode add up to 4 at most" in said


@pytest.mark.parametrize(
    ("returns", "q_tot", "options"),
    [
        ((0, -4, 1), 39.0, {}),
        ((0, 0), 41.0, {}),  # nobody knows yet what can be earned
        ((), 41.0, {}),
        ((1,), 41.0, {"normalize_reward": True}),
    ],
)
def test_values_that_may_be_right_are_not_mentioned(capsys, returns, q_tot, options):
    check = ValueCheck(small_args("qmix", **options), deque(episodes_that_earned(*returns)))
    check.look(q_tot)
    assert capsys.readouterr().err == ""


def test_a_run_says_if_a_team_no_longer_earns_what_it_expects(capsys):
    episodes = deque(episodes_that_earned(20), maxlen=5000)
    check = ValueCheck(small_args("qmix"), episodes)
    check.look(14.0)
    episodes.extend(episodes_that_earned(*[4] * 199))
    check.look(14.0)
    assert capsys.readouterr().err == ""
    episodes.extend(episodes_that_earned(4))
    check.look(14.0)
    said = capsys.readouterr().err
    assert "Q_tot is 14, but the newest 200 episodes earned 4 at most: agents may wait" in said


@pytest.mark.parametrize(
    ("newest", "q_tot"),
    [
        (5, 14.0),  # a team that has become worse
        (4, -14.0),
        (0, 4.0),  # little beside the 20 of the best episode
    ],
)
def test_a_team_that_earns_about_what_it_expects_is_not_mentioned(capsys, newest, q_tot):
    check = ValueCheck(small_args("qmix"), deque(episodes_that_earned(20, *[newest] * 199)))
    check.look(q_tot)
    check.episodes.extend(episodes_that_earned(*[newest] * 10))
    check.look(q_tot)
    assert capsys.readouterr().err == ""


def test_episodes_that_a_copy_stores_in_another_way_are_not_checked(capsys):
    check = ValueCheck(small_args("qmix"), deque([{"rewards": np.ones(2)}]))
    check.look(1e6)
    assert capsys.readouterr().err == ""


def test_a_training_whose_values_diverge_says_so(tmp_path, monkeypatch, capsys):
    loss = qmix.qmix_loss
    monkeypatch.setattr(qmix, "qmix_loss", lambda *a: (loss(*a)[0], torch.tensor([1e6])))
    trained("qmix", tmp_path / "run", **SHORT)
    assert "Q_tot is 1e+06, but" in capsys.readouterr().err


def test_lines_for_a_reader_that_has_gone_are_dropped():
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as file:
        errors.say("a line", file)
        errors.say("another line", file)


@failing_thread
def test_curves_that_cannot_be_written_are_told_in_one_line(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        saves = count_saves(patch)
        fill_disk_of_curves(patch, lambda: len(saves) == 2)
        trained("qmix", tmp_path / "run", **SHORT)
    err = capsys.readouterr().err
    assert "warning: the curves cannot be written: [Errno 28]" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("rewards", "won", "wanted"),
    [
        ([1, 3, 2, 2, 2], None, "step 16; eval/ep_reward 3.00"),
        ([2, 2, 1, 2, 2], [0, 1, 1, 0, 0], "step 16; eval/battle_won 1.00, eval/ep_reward 2.00"),
        ([1, 2, 3, 3, 3], None, None),
        ([1, 3.001, 3, 3, 3], None, None),  # the same in two digits
        ([-1, -3, -2, -1, -2], None, "step 8; eval/ep_reward -1.00"),
    ],
)
def test_the_end_tells_of_a_better_evaluation(rewards, won, wanted, tmp_path, monkeypatch, capsys):
    results = [{"ep_reward": reward} for reward in rewards]
    if won:
        results = [one | {"battle_won": rate} for one, rate in zip(results, won, strict=True)]
    monkeypatch.setattr(qmix, "evaluate", lambda *_: [results.pop(0)])
    folder = trained("qmix", tmp_path / "run", **SHORT)
    done, *best, last = capsys.readouterr().out.splitlines()
    assert done.startswith("done after 40 steps")
    assert best == ([f"best evaluation (--which best): {wanted}"] if wanted else [])
    assert last == f"run folder: {folder}"


@pytest.mark.parametrize("lost", ["removed", "not saved"])
def test_the_end_tells_of_no_networks_that_are_not_there(lost, tmp_path, monkeypatch, capsys):
    results = [{"ep_reward": reward} for reward in (3, 2, 2, 2, 2)]

    def evaluate(*_):
        (tmp_path / "run" / "best.pt").unlink(missing_ok=True)
        return [results.pop(0)]

    monkeypatch.setattr(qmix, "evaluate", evaluate)
    trained("qmix", tmp_path / "run", **SHORT | {"save_model": lost == "removed"})
    assert "best evaluation" not in capsys.readouterr().out


def test_a_lost_best_team_is_told(tmp_path, monkeypatch, capsys):
    evaluations = []
    monkeypatch.setattr(qmix, "evaluate", lambda *_: evaluations.append(1) or [{"ep_reward": 1.0}])
    fill_disk(monkeypatch, lambda: len(evaluations) == 1)
    trained("qmix", tmp_path / "run", **SHORT | {"eval_steps": 5})
    assert "best.pt is not written at step 10: [Errno 28]" in capsys.readouterr().err


def test_environments_are_closed_at_the_end(tmp_path, monkeypatch, capsys):
    closed = []
    close = PaddedTeam.close
    monkeypatch.setattr(PaddedTeam, "close", lambda env: (closed.append(env), close(env)))
    trained("qmix", tmp_path / "run", **TWO_STEPS)
    assert len(set(map(id, closed))) == 2
    assert "warning" not in capsys.readouterr().err


def test_an_environment_that_cannot_be_closed_is_a_warning(capsys):
    def fail():
        raise RuntimeError("no viewer")

    with training.closing(SimpleNamespace(close=fail)):
        pass
    assert capsys.readouterr().err == "warning: an environment cannot be closed: no viewer\n"


def test_a_program_that_trains_several_times_frees_the_networks(tmp_path, monkeypatch):
    made = []
    networks = qmix.Networks

    def make(*given):
        made.append(weakref.ref(one := networks(*given)))
        return one

    monkeypatch.setattr(qmix, "Networks", make)
    trained("qmix", tmp_path / "run", **TWO_STEPS)
    gc.collect()
    assert [one() for one in made] == [None]


def test_a_stop_is_no_failed_video(capsys):
    with pytest.raises(Stopped), errors.warn_on_error("no video"):
        raise Stopped
    assert capsys.readouterr().err == ""


def test_errors_of_other_threads_go_where_they_went(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    for _ in range(2):  # of two runs
        errors.tell_of_curves()
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    assert [type(one.exc_value) for one in told] == [ZeroDivisionError]
