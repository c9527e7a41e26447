"""What a training does in the user's environment: options, warnings, faults, a stop."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from cleanmarl import qmix, training
from cleanmarl.errors import EnvFault
from cleanmarl.training import memory
from cleanmarl.training.arguments import option_words, read_options, title_of
from cleanmarl.training.checkpoint import load_checkpoint
from cleanmarl.training.session import description
from tests.helpers import MODULES, ROOT, SMALL, equal_weights, every_script, small_args, trained

FAULTY = ("--env-type", "pz", "--env-family", "tests.games", "--env-name", "faulty")
SHORT = ("--total-timesteps", "60", "--batch-size", "2", "--hidden-dim", "8", "--hyper-dim", "4")
FOREVER = ("--total-timesteps", "1e8")


def game(**options) -> dict:
    names = {"env_type": "pz", "env_family": "tests.games", "env_name": "faulty"}
    return names | {"env_options": options}


def arguments(script: str, *words: str) -> list[str]:
    many = ["--num-envs", "2"] if script == "qmix_multienvs" else []
    return [*FAULTY, *SHORT, *many, *words]


def run_folder(path):
    (folder,) = path.glob("runs/*")
    return folder


# Faults


@every_script
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("observation", "red's observation: entry 1 (part 1) is nan"),
        ("reward", "red's reward is nan"),
        ("exit", "step() has called sys.exit(None)"),
    ],
)
def test_a_fault_in_the_first_episode_is_refused_and_nothing_is_saved(
    command, tmp_path, script, fault, words
):
    options = ("--env-options", f"fault={fault}", "at=2")
    status, out, err = command(script, *arguments(script, *options))
    *_, folder, message = err.splitlines()
    assert (status, out) == (2, "")
    assert folder == f"run folder: {run_folder(tmp_path).relative_to(tmp_path)}"
    assert message.startswith(f"{script}.py: error: ")
    assert words in message
    assert "episode 1 (seed " in message and "step 2" in message
    assert not (run_folder(tmp_path) / "checkpoint.pt").exists()


@every_script
def test_a_fault_in_a_later_episode_ends_the_run_after_saving(command, tmp_path, script):
    options = ("--env-options", "fault=observation", "at=8")
    status, out, err = command(script, *arguments(script, *options))
    assert (status, out) == (1, "")
    assert "Traceback" not in err
    assert "episode 3 (seed " in err and "step 2: red's observation: entry 1 (part 1) is nan" in err
    saved = load_checkpoint(run_folder(tmp_path), script, with_episodes=True)
    assert len(saved["episodes"]) == saved["progress"]["num_episodes"] >= 2


def test_many_environments_name_the_one_that_fails(command):
    options = ("--env-options", "fault=reward", "at=2")
    _, _, err = command("qmix_multienvs", *arguments("qmix_multienvs", *options))
    assert "error: environment 0: tests.games:faulty, episode 1" in err


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_an_error_of_the_users_code_keeps_its_traceback_below_a_line_that_names_the_call(
    tmp_path, script
):
    words = arguments(script, "--env-options", "fault=crash", "at=8")
    program = [sys.executable, str(ROOT / f"cleanmarl/{script}.py"), *words]
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(program, cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert done.returncode == 1
    line, _, rest = done.stderr.partition("Traceback")
    assert "error: step() of tests.games:faulty failed in episode 3 (seed " in line
    assert "), step 2:" in line
    assert "faulty.py" in rest
    assert rest.rstrip().endswith("IndexError: list index out of range")
    assert (run_folder(tmp_path) / "checkpoint.pt").exists()


def test_an_error_of_the_users_constructor_is_not_taken_for_a_refusal(tmp_path):
    package = tmp_path / "my_games"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.py").write_text("def parallel_env():\n    raise ValueError('my own')\n")
    program = [sys.executable, str(ROOT / "cleanmarl/qmix.py"), "--env-type", "pz"]
    program += ["--env-family", "my_games", "--env-name", "broken"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "qmix.py: error: opening my_games:broken failed" in done.stderr
    assert done.stderr.rstrip().endswith("ValueError: my own")


@pytest.mark.parametrize("line", ["sys.exit(0)", "argparse.ArgumentParser().parse_args()"])
def test_a_module_that_ends_the_program_is_refused(command, tmp_path, line):
    (tmp_path / "ends").mkdir()
    (tmp_path / "ends" / "at_once.py").write_text(f"import argparse, sys\n{line}\n")
    words = ("--env-type", "pz", "--env-family", "ends", "--env-name", "at_once")
    status, _, err = command("qmix", *words)
    assert status == 2
    assert "importing ends:at_once has called sys.exit(" in err.splitlines()[-1]


LEAVES = """
import multiprocessing, time
from tests.games.faulty import parallel_env as faulty

def parallel_env(**options):
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(1e4,)).start()
    return faulty(**options)
"""


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_a_program_does_not_wait_for_processes_that_an_environment_has_left(
    command, tmp_path, script
):
    (tmp_path / "games_of_mine").mkdir()
    (tmp_path / "games_of_mine" / "leaves.py").write_text(LEAVES)
    words = ("--env-type", "pz", "--env-family", "games_of_mine", "--env-name", "leaves", *SHORT)
    own = multiprocessing.active_children()
    status, _, err = command(script, *words)
    if script == "qmix":
        assert status == 0
    else:  # the processes of environments may not start others
        assert status == 2
        assert "died while it was opened" in err
    for process in multiprocessing.active_children():
        process.join(timeout=60)
    assert multiprocessing.active_children() == own


@pytest.mark.parametrize("name", ["env", "battle"])
def test_a_users_package_may_have_the_name_of_one_of_the_projects_folders(tmp_path, name):
    shutil.copytree(ROOT / "tests/games", tmp_path / name)
    words = ["--env-type", "pz", "--env-family", name, "--env-name", "two_step_game", *SHORT]
    program = [sys.executable, str(ROOT / "cleanmarl/qmix.py"), *words]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_used_up_memory_is_told_in_one_line_after_saving(command, tmp_path):
    options = ("--env-options", "fault=memory", "at=8")
    status, _, err = command("qmix", *arguments("qmix", *options))
    assert status == 1
    message = err.splitlines()[-1]
    assert message.startswith("qmix.py: error: out of memory: 2 of 5,000 episodes")
    assert message.endswith("lower --buffer-size")
    assert (run_folder(tmp_path) / "checkpoint.pt").exists()


def test_used_up_memory_of_a_gpu_is_no_matter_of_the_replay_buffer():
    message = memory.out_of_memory(torch.OutOfMemoryError("CUDA out of memory"), [], 5000)
    assert message == "out of memory on the GPU: lower --batch-size, or use smaller networks"


# Warnings before the training


def test_an_unknown_time_limit_is_warned_of(command):
    status, _, err = command("qmix", *arguments("qmix"))
    assert status == 0
    assert "warning: no time limit is known" in err and "--time-limit" in err


def test_a_known_time_limit_is_not_warned_of(command):
    _, _, err = command("qmix", *arguments("qmix", "--time-limit", "5"))
    assert "warning" not in err


def test_a_buffer_that_cannot_fit_is_warned_of(monkeypatch, capsys):
    monkeypatch.setattr(memory, "memory", lambda: 10**9)
    args = qmix.Args(**SMALL | game(pixels=1000) | {"time_limit": 200, "buffer_size": 5000})
    training.warn_about(args, qmix.open_env(args))
    (line,) = capsys.readouterr().err.splitlines()
    # 201 observations of 2 agents with 1000 numbers, id and clock, and 2001 numbers of the state
    size = 5000 * 201 * (2 * 1003 + 2001 + 2 * 2 + 8 * 2 + 8)
    assert f"up to {size / 1e9:.2g} GB in a buffer of 5,000 episodes of 200 steps" in line
    assert line.endswith("lower --buffer-size")


@pytest.mark.parametrize(
    ("clock", "bootstraps", "said"),
    [
        (True, False, ""),
        (False, True, ""),
        (True, True, "leave --bootstrap-truncated out"),
        (False, False, "add --bootstrap-truncated"),
    ],
)
def test_a_time_limit_that_agents_see_is_an_end_and_one_that_they_do_not_see_is_none(
    capsys, clock, bootstraps, said
):
    args = qmix.Args(clock=clock, bootstrap_truncated=bootstraps)
    training.warn_about(args, qmix.open_env(args))
    warned = capsys.readouterr().err
    assert said in warned and bool(said) == bool(warned)


def test_an_environment_of_a_copy_needs_no_clock(capsys):
    args = qmix.Args(bootstrap_truncated=True, clock=False)
    env = qmix.open_env(args).unwrapped
    del env.clock  # as in an environment that does not derive from TeamEnv
    training.warn_about(args, env)
    assert capsys.readouterr().err == ""
    assert description(args, env)["inputs"]["time_left"] == [33, 33]


def test_a_buffer_that_fits_is_not_warned_of(capsys):
    args = qmix.Args()
    training.warn_about(args, qmix.open_env(args))
    assert capsys.readouterr().err == ""


# A stop


@every_script
def test_a_stop_ends_an_endless_episode_and_keeps_what_was_stored(
    monkeypatch, tmp_path, script, capsys
):
    monkeypatch.setattr("cleanmarl.training.stopping.PATIENCE", 0.2)
    args = small_args(script, **game(endless=True, pause=0.001), total_timesteps=10**8)
    asked = []

    def ask(*_, real=training.stop_if_asked):
        if not asked:
            asked.append(time.monotonic())
            signal.raise_signal(signal.SIGTERM)
        real()

    monkeypatch.setattr(training, "stop_if_asked", ask)
    with pytest.raises(SystemExit) as end:
        MODULES[script].train(args, tmp_path / "run")
    assert end.value.code == 128 + signal.SIGTERM
    assert time.monotonic() - asked[0] < 5
    assert capsys.readouterr().out.startswith("stopped after ")
    assert (tmp_path / "run/checkpoint.pt").exists()


def test_a_run_that_was_stopped_within_an_episode_ends_like_one_that_was_not(monkeypatch, tmp_path):
    options = {"total_timesteps": 60, "eval_steps": 10**6} | game()
    wanted = trained("qmix", tmp_path / "wanted", **options)
    steps = []

    def stop_at_step_20():
        steps.append(0)
        if len(steps) == 20:
            signal.raise_signal(signal.SIGTERM)
            raise training.run.Stopped

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(training, "stop_if_asked", stop_at_step_20)
        trained("qmix", tmp_path / "run", **options)
    args = small_args("qmix", **options, resume=str(tmp_path / "run"))
    qmix.train(args)
    assert equal_weights(tmp_path / "run", wanted)


# Options of the task


def test_options_are_kept_and_named(command, tmp_path):
    status, _, _ = command("qmix", *arguments("qmix", "--env-options", "pixels=4", "fault=none"))
    assert status == 0
    folder = run_folder(tmp_path)
    kept = json.loads((folder / "args.json").read_text())["env_options"]
    assert kept == {"pixels": 4, "fault": "none"}
    assert folder.name.startswith("pz__faulty-pixels=4-fault=none__qmix__1__")


def test_evaluating_with_other_options_has_its_own_folder(command, tmp_path):
    command("qmix", *arguments("qmix"))
    folder = run_folder(tmp_path)
    status, _, err = command("qmix", "--evaluate", str(folder), "--env-options", "fault=none")
    assert status == 0, err
    assert (folder / "in_faulty-fault=none/evaluation.json").exists()


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["N=5", "x=0.5", "on=true"], {"N": 5, "x": 0.5, "on": True}),
        (["map_name=3m", 'size="5"'], {"map_name": "3m", "size": "5"}),
        (["sizes=[1, 2]", "at={a = 1}"], {"sizes": [1, 2], "at": {"a": 1}}),
        (["day=2020-01-01", "text=a=b", "none="], {"day": "2020-01-01", "text": "a=b", "none": ""}),
        ([], {}),
    ],
)
def test_values_of_options_are_tomls_or_plain_text(words, options):
    assert read_options(words) == options


@pytest.mark.parametrize(
    "options", [{"N": 5, "x": 0.5, "on": True, "text": "a b", "number": "5", "list": [1, "a"]}]
)
def test_options_as_words_are_read_as_the_same_options(options):
    assert read_options(option_words(options)) == options


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["5"], "must be like N=5"),
        (["N=5", "N=6"], "N is given twice"),
        (["time_limit=5"], "--time-limit"),
        (["render_mode=human"], "cannot be given"),
        (["fautl=x"], "unknown option of tests.games:faulty 'fautl'"),
    ],
)
def test_a_wrong_option_is_refused(command, tmp_path, words, message):
    status, out, err = command("qmix", *arguments("qmix", "--env-options", *words))
    assert (status, out) == (2, "")
    assert message in " ".join(err.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


def test_long_options_are_left_out_of_names():
    assert title_of("a:b_v1", {"N": 5}) == "b_v1-N=5"
    assert title_of("a:b_v1", {"text": "x" * 40}) == "b_v1"
    assert title_of("a:b_v1", {"path": "a/b"}) == "b_v1"


# Bytes


@every_script
def test_observations_declared_as_bytes_are_stored_as_bytes_and_learned(tmp_path, script):
    folder = trained(script, tmp_path / "run", **game(pixels=12))
    saved = load_checkpoint(folder, script, with_episodes=True)
    arrays = saved["episodes"][0]
    stored = [name for name in arrays if name.startswith(("obs", "state"))]
    assert {arrays[name].dtype for name in stored if not name.endswith("shape")} == {np.dtype("u1")}


def test_bytes_are_learned_as_numbers():
    args = small_args("qmix", **game(pixels=12))
    env = qmix.open_env(args)
    networks = qmix.Networks(args, env)
    for weights in networks.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    buffer = qmix.EpisodeBuffer(4)
    for number in range(4):
        episode, _ = qmix.collect_episode(env, networks.agent, args, number, 0)
        buffer.store(episode)
    assert buffer.episodes[0]["obs"].dtype == np.uint8
    batch = buffer.sample(args, 0)
    assert batch["obs"].dtype == batch["state"].dtype == torch.float32
    loss, _ = qmix.qmix_loss(networks, batch, args)
    assert torch.isfinite(loss)


def test_the_two_buffers_give_the_same_losses_for_bytes(tmp_path):
    one = trained("qmix", tmp_path / "one", **game(pixels=12))
    other = trained("qmix_memefficient", tmp_path / "other", **game(pixels=12))
    assert equal_weights(one, other)


def test_a_fault_is_an_error_that_a_program_can_catch():
    args = small_args("qmix", **game(fault="reward", at=1))
    env = qmix.open_env(args)
    env.reset(seed=5)
    with pytest.raises(EnvFault, match=r"faulty, episode 1 \(seed 5\), step 1: red's reward"):
        env.step([0, 0])


# A search


def test_the_search_of_the_documentation_runs(tmp_path):
    page = (ROOT / "docs/tuning.md").read_text()
    (program,) = re.findall(r"^```python\n(# search\.py\n.*?)^```$", page, re.M | re.S)
    shorter = program.replace("(500, 1000, 2000)", "(40, 80)").replace("400 / steps", "20 / steps")
    (tmp_path / "search.py").write_text(shorter)
    settings = os.environ | {"PYTHONPATH": str(ROOT)}
    words = {"cwd": tmp_path, "env": settings, "capture_output": True, "text": True}
    done = subprocess.run([sys.executable, "search.py"], **words)
    assert done.returncode == 0, done.stderr
    assert "'learning_rate': " in done.stdout.splitlines()[-1]


@every_script
def test_an_environment_may_change_the_current_folder(command, tmp_path, script):
    (tmp_path / "simulator").mkdir()
    options = ("--env-options", f"folder={tmp_path / 'simulator'}")
    status, out, err = command(script, *arguments(script, *options))
    assert status == 0, err
    folder = run_folder(tmp_path)
    assert f"run folder: runs/{folder.name}" in out
    assert {"model.pt", "checkpoint.pt"} <= {path.name for path in folder.iterdir()}
    assert not list((tmp_path / "simulator").iterdir())


@every_script
def test_an_environment_that_can_close_only_after_an_episode_is_fine(command, script):
    status, _, err = command(script, *arguments(script, "--env-options", "fault=close"))
    assert status == 0, err
