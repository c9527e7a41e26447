"""`python cleanmarl/qmix.py ...` as a user has it: what runs, what is refused and how, Ctrl-C, Weights & Biases."""

import contextlib
import dataclasses
import io
import os
import signal
import string
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cleanmarl import qmix
from tests.test_qmix import TWO_STEPS
from tests.test_scripts import MODULES, SCRIPTS

SCRIPT = Path(__file__).parents[1] / "cleanmarl" / "qmix.py"
SMALL = ["--hidden-dim", "8", "--hyper-dim", "8", "--batch-size", "2", "--num-eval-ep", "1"]


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env=os.environ | {"COLUMNS": "200"} | environment, **pipes)


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)"""
    process = start(folder, *arguments, **environment)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


@pytest.fixture
def refusal(command, tmp_path, monkeypatch):
    """`refusal(*arguments)`: what the script, in this process, says before it gives up."""

    def refuse(*arguments: str) -> str:
        monkeypatch.setattr(qmix, "train", lambda *_: pytest.fail("trains with it"))
        status, out, err = command("qmix", *arguments)
        assert (status, out) == (2, "")
        assert err.startswith("qmix.py: error: ")
        assert err.count("\n") == 1
        assert not (tmp_path / "runs").is_dir()
        return err

    return refuse


# What runs


def test_help_lists_all_arguments(tmp_path):
    status, stdout, _ = run(tmp_path, "--help")
    assert status == 0
    for field in dataclasses.fields(qmix.Args):
        assert f"--{field.name.replace('_', '-')}" in stdout
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "environment",
    [
        ["--env-type", "lbf", "--env-name", "Foraging-8x8-2p-3f-v3"],  # with dashes ...
        ["--env_type", "pz", "--env_name", "simple_spread_v3"],  # ... and with underscores
    ],
    ids=["lbf", "pz"],
)
def test_a_short_training_says_where_its_results_are(tmp_path, environment):
    status, stdout, stderr = run(tmp_path, *environment, "--total-timesteps", "300", *SMALL)
    assert (status, "Traceback" in stderr) == (0, False)
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"runs/{folder.name}" in stdout
    assert "eval/ep_reward" in stdout
    assert (folder / "model.pt").exists()


def test_a_users_own_environment_is_found_where_python_finds_its_package(tmp_path):
    package = tmp_path / "mine" / "games"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    game = Path(__file__).parent / "games" / "two_step_game.py"
    (package / "my_game.py").write_text(game.read_text())
    arguments = ["--env-type", "pz", "--env-family", "mine.games", "--env-name", "my_game", "--total-timesteps", "20"]
    status, stdout, _ = run(tmp_path, *arguments, *SMALL, PYTHONPATH=str(tmp_path))
    assert status == 0
    assert "eval/ep_length 2" in stdout


# What is refused


def test_a_misspelt_map_is_one_line_and_exit_status_2(tmp_path):
    status, stdout, stderr = run(tmp_path, "--env-name", "2s3x")
    assert (status, stdout, stderr.count("\n")) == (2, "", 1)
    assert stderr.startswith("qmix.py: error: ")
    assert "2s3x" in stderr and "2s3z" in stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("environment", "nearest"),
    [
        (["--env-name", "3s5x"], "3s5z"),
        (["--env-name", "coridor"], "corridor"),
        (["--env-type", "lbf", "--env-name", "Foragin-8x8-2p-3f-v3"], "Foraging-8x8-2p-3f"),
        (["--env-type", "pz", "--env-name", "simple_spred_v3"], "simple_spread_v3"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_name_nearest_to_a_misspelt_one_is_shown(refusal, environment, nearest):
    assert nearest in refusal(*environment)


@pytest.mark.parametrize(
    "environment",
    [
        ["--env-type", "smac"],
        ["--env-name", ""],
        ["--env-name", "missing.toml"],
        ["--env-type", "lbf", "--env-name", "3m"],
        ["--env-type", "lbf", "--env-name", "CartPole-v1"],
        ["--env-type", "pz", "--env-name", "simple_spread_v3", "--env-family", "mpee"],
        ["--env-type", "pz", "--env-name", "simple_spread_v3", "--env-family", ""],
        ["--env-type", "pz", "--env-name", "simple_spread_v3", "--env-family", "."],
        ["--env-type", "pz", "--env-name", "simple_spread_v3", "--env-family", "os"],
        ["--env-type", "pz", "--env-name", "games", "--env-family", "tests"],
    ],
    ids=" ".join,
)
def test_an_environment_that_does_not_exist_is_refused(refusal, environment):
    refusal(*environment)


def test_an_unknown_environment_type_is_told_the_known_ones(refusal):
    message = refusal("--env-type", "smac")
    assert all(name in message for name in ("smaclite", "smaclite-upstream", "lbf", "pz"))


SIZES = ["buffer_size", "total_timesteps", "train_freq", "batch_size", "hidden_dim", "hyper_dim", "hypernet_layers"]
SIZES += ["target_network_update_freq", "log_every", "eval_steps", "num_eval_ep", "time_limit", "torch_threads"]
SIZES += ["checkpoint_every"]


@pytest.mark.parametrize("value", ["0", "-3", "9" * 30, "9" * 400])
@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_is_not_positive_or_that_nothing_has_is_refused(refusal, name, value):
    option = f"--{name.replace('_', '-')}"
    message = refusal(option, value)
    assert option in message and value in message


@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan"])
@pytest.mark.parametrize("name", ["start-e", "end-e", "exploration-fraction", "gamma", "polyak", "td-lambda"])
def test_what_lies_between_0_and_1_is_refused_elsewhere(refusal, name, value):
    message = refusal(f"--{name}", value)
    assert f"--{name}" in message and value in message


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["--buffer-size", "5", "--batch-size", "6"], "--batch-size"),
        (["--num-layers", "-1"], "--num-layers"),
        (["--hypernet-layers", "3"], "--hypernet-layers"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--learning-rate", "inf"], "--learning-rate"),
        (["--learning-rate", "0"], "--learning-rate"),
        (["--clip-gradients", "nan"], "--clip-gradients"),
        (["--seed", "-1"], "--seed"),
        (["--seed", str(2**64)], "--seed"),
        (["--optimizer", "Adamm"], "--optimizer"),
        (["--optimizer", "nn"], "--optimizer"),
        (["--optimizer", "lr_scheduler"], "--optimizer"),
        (["--optimizer", "Optimizer"], "--optimizer"),
        (["--device", "tpu"], "--device"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_with_which_nothing_could_be_learned_is_refused(refusal, arguments, about):
    assert about in refusal(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available here")
def test_a_device_that_is_not_there_is_refused(refusal):
    message = refusal("--device", "cuda")
    assert "--device" in message and "cuda" in message and "cpu" in message


def test_a_batch_as_large_as_the_buffer_is_accepted():
    qmix.check_args(qmix.Args(buffer_size=5, batch_size=5))


def test_the_ends_of_the_allowed_ranges_are_accepted():
    ends = {"num_layers": 0, "seed": 0, "time_limit": 1, "clip_gradients": 0}
    for value in (0, 1):
        parts = dict.fromkeys(["start_e", "end_e", "exploration_fraction", "gamma", "polyak", "td_lambda"], value)
        qmix.check_args(qmix.Args(**ends, **parts))


def test_a_training_runs_with_the_largest_sizes(tmp_path):
    sizes = ["buffer_size", "batch_size", "train_freq", "target_network_update_freq", "log_every", "eval_steps"]
    args = qmix.Args(**TWO_STEPS, **dict.fromkeys([*sizes, "checkpoint_every"], 2**31 - 1), time_limit=10**5)
    args.total_timesteps, args.seed = 10, 2**63 - 1
    qmix.check_args(args)
    assert qmix.train(args, qmix.open_env(args), qmix.open_env(args), tmp_path, Event())["eval/ep_length"] == 2


def test_a_run_folder_that_cannot_be_made_is_refused(refusal, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder is to be")
    assert "runs" in refusal()


@pytest.mark.parametrize("arguments", [["--mixer", "max"], ["--hidden-dim", "many"], ["--no-such-option", "1"]])
def test_what_the_parser_does_not_understand_is_exit_status_2(command, tmp_path, arguments):
    status, _, err = command("qmix", *arguments)
    assert status == 2
    assert arguments[0] in err
    assert not (tmp_path / "runs").exists()


# Ctrl-C


def test_ctrl_c_ends_a_training_cleanly_with_its_model_saved(tmp_path):
    process = start(tmp_path, "--env-name", "3m", "--total-timesteps", "100000000", *SMALL)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("runs/*/events*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert stdout.startswith("stopped after ")
    assert f"runs/{folder.name}" in stdout
    assert torch.load(folder / "model.pt", weights_only=True).keys() == {"agent", "mixer"}


def test_a_training_that_is_stopped_finishes_the_episode_under_way_and_no_other(tmp_path, monkeypatch):
    stop, played, play = Event(), [], qmix.collect_episode

    def stop_in_the_third(*args):
        if len(played) == 2:
            stop.set()
        played.append(play(*args))
        return played[-1]

    monkeypatch.setattr(qmix, "collect_episode", stop_in_the_third)
    args = qmix.Args(**TWO_STEPS, total_timesteps=100, batch_size=1)
    qmix.train(args, qmix.open_env(args), qmix.open_env(args), tmp_path, stop)
    assert len(played) == 3
    assert (tmp_path / "model.pt").exists()


# Weights & Biases


def test_weights_and_biases_offline_writes_into_the_run_folder(tmp_path):
    arguments = ["--use-wnb", "--log-every", "1", "--total-timesteps", "100", *SMALL]
    homes = {name: str(tmp_path / "home") for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")}
    status, stdout, stderr = run(tmp_path, *arguments, WANDB_MODE="offline", **homes)
    assert status == 0
    assert "warning" not in stderr
    assert "done after" in stdout
    assert list(tmp_path.glob("runs/*/wandb/offline-run-*/*.wandb"))


class FakeRun:
    """A W&B run that remembers what it is told."""

    def __init__(self):
        self.logged, self.finished = [], False

    def log(self, scalars, step):
        self.logged.append((step, scalars))

    def finish(self):
        self.finished = True


def broken(*args, **options):
    raise ConnectionError("no network")


def trained_with(wandb, folder, monkeypatch, **options) -> dict[str, float]:
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    args = qmix.Args(**TWO_STEPS, total_timesteps=20, batch_size=2, log_every=1, use_wnb=True, **options)
    return qmix.train(args, qmix.open_env(args), qmix.open_env(args), folder, Event())


def test_weights_and_biases_gets_the_scalars_and_the_arguments(tmp_path, monkeypatch):
    fake, opened = FakeRun(), {}
    wandb = SimpleNamespace(init=lambda **options: opened.update(options) or fake)
    trained_with(wandb, tmp_path, monkeypatch, wnb_project="qmix", wnb_entity="me", seed=3)
    assert (opened["project"], opened["entity"], opened["config"]["seed"]) == ("qmix", "me", 3)
    steps = [step for step, _ in fake.logged]
    assert steps == sorted(steps)
    assert {"rollout/ep_reward", "train/loss", "eval/ep_reward", "charts/SPS"} <= {k for _, s in fake.logged for k in s}
    assert fake.finished


def failing_run(method: str, after: int = 0) -> FakeRun:
    """A run whose `method` fails from its call number `after` on."""
    fake, calls = FakeRun(), []
    work = getattr(fake, method)

    def fail(*args, **options):
        calls.append(args)
        return broken() if len(calls) > after else work(*args, **options)

    setattr(fake, method, fail)
    return fake


@pytest.mark.parametrize(
    "wandb",
    [
        None,
        SimpleNamespace(init=broken),
        SimpleNamespace(init=lambda **_: failing_run("log")),
        SimpleNamespace(init=lambda **_: failing_run("log", after=4)),
        SimpleNamespace(init=lambda **_: failing_run("finish")),
    ],
    ids=["import", "init", "log", "a later log", "finish"],
)
def test_a_failing_weights_and_biases_warns_once_and_the_training_goes_on(tmp_path, monkeypatch, capsys, wandb):
    assert trained_with(wandb, tmp_path, monkeypatch)["eval/ep_length"] == 2
    out, err = capsys.readouterr()
    assert err.count("warning: ") == 1
    assert out.startswith("done after 20 steps, 10 episodes")
    assert (tmp_path / "model.pt").exists()


# Anything at all

ODD = (
    "|-1|0|1|1.5|1e999|nan|-inf|0x10|1_0|None|True|3m|pz|gru|vdn|cuda|Adam|SGD|é|\udcff|🙂|a\nb|\t|[]|%s|{}|-|--|-h|=|*"
)
ODD += "|run|run/|run/../run|run/checkpoint.pt|.|..|/|~|/dev/null|/dev/full|@run|missing.toml|--resume|--evaluate=run"
anything = st.sampled_from([*ODD.split("|"), "9" * 30, "9" * 400, "9" * 5000, "x" * 5000])
anything |= st.text(string.printable, max_size=6)
FITTING = {
    int: st.integers() | st.integers(0, 9) | st.sampled_from([10**30, 2**31, 2**63]),
    float: st.floats() | st.floats(0, 1),
    bool: st.just(""),
    str: anything | st.just("run"),
}


def command_lines(script: str):
    """Options with values that fit or do not, without one, negated, misspelt; and values alone."""
    parts = [st.tuples(anything), st.tuples(st.sampled_from(["--help", "-h", "--", "--=", ""]))]
    for field in dataclasses.fields(MODULES[script].Args):
        name = f"--{field.name.replace('_', '-')}"
        fits = st.tuples(st.just(name), FITTING.get(field.type, anything).map(str))
        fits = st.just((name,)) if field.type is bool else fits
        names = st.sampled_from([name, f"--{field.name}", f"--no-{name[2:]}", f"-{name[2:]}", name[:-1], name.upper()])
        parts += [fits, fits, fits, fits, st.tuples(names), st.tuples(names, anything)]
        parts += [st.builds("{}={}".format, names, anything).map(lambda word: (word,))]
    chosen = st.lists(st.sampled_from(parts).flatmap(lambda part: part), max_size=6)
    return chosen.map(lambda chosen: [word for part in chosen for word in part])


@pytest.fixture(scope="module")
def run_folders(tmp_path_factory):
    """A folder for each script, in which `run` is the folder of one of its runs."""
    folders = {}
    for script, module in MODULES.items():
        folders[script] = tmp_path_factory.mktemp(script)
        args = module.Args(env_name="3m", time_limit=4, total_timesteps=8, batch_size=2, num_eval_ep=1)
        (folders[script] / "run").mkdir()
        env = getattr(module, "open_envs", module.open_env)(args)
        module.train(args, env, module.open_env(args), folders[script] / "run", Event())
    return folders


def ending(script: str, arguments: list[str], **replaced) -> tuple[int, str]:
    """Exit status and errors, with streams that are as strict about what is no text as those of a terminal."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", [f"{script}.py", *arguments])
        for name, replacement in replaced.items():
            patch.setattr(MODULES[script], name, replacement, raising=False)
        try:
            status = MODULES[script].main() or 0
        except SystemExit as end:
            status = end.code
    err.flush()
    return status, err.buffer.getvalue().decode()


@pytest.mark.parametrize("script", SCRIPTS)
def test_any_arguments_are_run_with_or_refused(script, run_folders, monkeypatch):
    """What would take long is left out: environments, of which the test below is, trainings and evaluations."""
    monkeypatch.chdir(run_folders[script])
    reached = Counter()
    slow = {name: lambda *_: SimpleNamespace(close=lambda: None) for name in ("open_env", "open_envs")}
    slow |= {name: lambda *_, name=name: reached.update([name]) for name in ("train", "evaluate_run")}

    @settings(deadline=None, max_examples=250, derandomize=True, database=None)
    @given(command_lines(script))
    @example(["--resume", "run"])
    @example(["--evaluate", "run"])
    @example(["--resume", "run", "--evaluate", "run"])
    @example(["--resume", "x" * 5000])
    def check(arguments):
        status, err = ending(script, arguments, **slow)
        reached.update([status])
        assert status in (0, 2)
        assert status == 0 or err
        assert "Traceback" not in err
        assert not err.startswith(f"{script}.py: error: ") or err.count("\n") == 1

    check()
    assert min(reached[end] for end in (0, 2, "train", "evaluate_run")) >= 1
    assert reached["train"] >= 10


TYPES = ["smaclite", "smaclite-upstream", "lbf", "pz", "", "smac", "3m"]
NAMES = ["3m", "Foraging-8x8-2p-3f-v3", "simple_spread_v3", "pursuit_v5", "CartPole-v1", "two_step_game", "Foraging"]
NAMES += ["Foraging-8x8-0p-3f-v3", "Foraging-0x0-2p-3f-v3", "parallel_env", "..", "mpe", "__init__", "os", "lbf.lbf"]


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(
    st.sampled_from(TYPES),
    anything | st.sampled_from(NAMES),
    anything | st.sampled_from(["mpe", "sisl", "tests.games"]),
)
def test_any_environment_is_opened_or_refused(env_type, name, family):
    arguments = [f"--env-type={env_type}", f"--env-name={name}", f"--env-family={family}"]
    status, err = ending("qmix", arguments, train=lambda *_: None, open_run=lambda _: None)
    assert status in (0, 2)
    assert (status == 2) == ("qmix.py: error: " in err)
    assert err.count("error: ") <= 1 and "Traceback" not in err


@pytest.mark.parametrize("optimizer", [name for name in dir(torch.optim) if name[0] != "_"])
def test_whatever_is_in_torch_optim_learns_or_is_refused(optimizer, tmp_path):
    args = qmix.Args(**TWO_STEPS, total_timesteps=12, batch_size=2, hidden_dim=4, hyper_dim=4, optimizer=optimizer)
    try:
        qmix.check_args(args)
    except ValueError as error:
        assert "--optimizer" in str(error)
    else:
        qmix.train(args, qmix.open_env(args), qmix.open_env(args), tmp_path, Event())
