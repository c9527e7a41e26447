"""`python cleanmarl/qmix.py ...`: which command lines run, which are refused, and the messages."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import string
import subprocess
import sys
import typing
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cleanmarl import qmix
from cleanmarl.training.arguments import check, parse
from cleanmarl.training.errors import Refused
from tests.helpers import MODULES, ROOT, SCRIPTS, TWO_STEPS, every_script, small_args, trained

SCRIPT = Path(__file__).parents[1] / "cleanmarl" / "qmix.py"
SMALL = ["--hidden-dim", "8", "--hyper-dim", "8", "--batch-size", "2", "--num-eval-ep", "1"]


def start(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, str(SCRIPT), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | {"COLUMNS": "200"} | environment, **pipes
    )


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr)"""
    process = start(folder, *arguments, **environment)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


@pytest.fixture
def refusal(command, tmp_path, monkeypatch):
    """`refusal(*arguments)`: the error of the script, which runs in this process.

    It is one line, or a message of tyro, which names the first option.
    """
    monkeypatch.setenv("COLUMNS", "200")  # tyro breaks lines

    def refuse(*arguments: str) -> str:
        monkeypatch.setattr(qmix, "Run", lambda *_: pytest.fail("trains with it"))
        status, out, err = command("qmix", *arguments)
        assert (status, out) == (2, "")
        if err.startswith("qmix.py: error: "):
            assert err.count("\n") == 1
        else:
            assert arguments[0] in err
            assert "Traceback" not in err
        assert not (tmp_path / "runs").is_dir()
        return err

    return refuse


# What runs


def test_help_lists_all_arguments(command, tmp_path):
    status, stdout, _ = command("qmix", "--help")
    assert status == 0
    for field in dataclasses.fields(qmix.Args):
        assert f"--{field.name.replace('_', '-')}" in stdout
    assert not (tmp_path / "runs").exists()


def test_nobody_has_to_read_the_help(tmp_path):
    process = start(tmp_path, "--help")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0


def test_a_short_training_says_where_its_results_are(tmp_path):
    environment = ["--env-type", "lbf", "--env-name", "Foraging-8x8-2p-3f-v3"]
    status, stdout, stderr = run(tmp_path, *environment, "--total-timesteps", "300", *SMALL)
    assert (status, "Traceback" in stderr) == (0, False)
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"runs/{folder.name}" in stdout
    assert "eval/ep_reward" in stdout
    assert (folder / "model.pt").exists()


def test_your_own_environment_is_found_where_python_finds_its_package(tmp_path):
    package = tmp_path / "mine" / "games"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    game = Path(__file__).parent / "games" / "two_step_game.py"
    (package / "my_game.py").write_text(game.read_text())
    arguments = [
        "--env-type",
        "pz",
        "--env-family",
        "mine.games",
        "--env-name",
        "my_game",
        "--total-timesteps",
        "20",
    ]
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


SIZES = [
    "buffer_size",
    "total_timesteps",
    "train_freq",
    "steps_per_update",
    "batch_size",
    "hidden_dim",
    "hyper_dim",
    "hypernet_layers",
]
SIZES += [
    "target_network_update_freq",
    "log_every",
    "eval_steps",
    "num_eval_ep",
    "time_limit",
    "torch_threads",
]
SIZES += ["checkpoint_every"]


@pytest.mark.parametrize("value", ["0", "-3", "9" * 30, "9" * 400])
@pytest.mark.parametrize("name", SIZES)
def test_a_size_that_is_not_positive_or_much_too_large_is_refused(refusal, name, value):
    option = f"--{name.replace('_', '-')}"
    message = refusal(option, value)
    assert option in message and value in message


@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan"])
@pytest.mark.parametrize(
    "name",
    ["start-e", "end-e", "exploration-fraction", "gamma", "polyak", "td-lambda", "optimizer-eps"],
)
def test_a_fraction_outside_0_to_1_is_refused(refusal, name, value):
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
        (["--hidden-dim", "65536"], "--hidden-dim"),
        (["--total-timesteps", "2.5"], "--total-timesteps"),
        (["--lr", "0"], "--learning-rate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_value_that_prevents_learning_is_refused(refusal, arguments, about):
    assert about in refusal(*arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available here")
def test_an_unavailable_device_is_refused(refusal):
    message = refusal("--device", "cuda")
    assert "--device" in message and "cuda" in message and "cpu" in message


def test_a_batch_as_large_as_the_buffer_is_accepted():
    check(qmix.Args(buffer_size=5, batch_size=5))


def test_the_ends_of_the_allowed_ranges_are_accepted():
    ends = {"num_layers": 0, "seed": 0, "time_limit": 1, "clip_gradients": 0}
    for value in (0, 1):
        parts = dict.fromkeys(
            ["start_e", "end_e", "exploration_fraction", "gamma", "polyak", "td_lambda"], value
        )
        check(qmix.Args(**ends, **parts))


def test_a_training_runs_with_the_largest_sizes(tmp_path):
    sizes = [
        "buffer_size",
        "batch_size",
        "train_freq",
        "steps_per_update",
        "target_network_update_freq",
        "log_every",
        "eval_steps",
    ]
    args = qmix.Args(
        **TWO_STEPS, **dict.fromkeys([*sizes, "checkpoint_every"], 2**31 - 1), time_limit=10**5
    )
    args.total_timesteps, args.seed = 10, 2**63 - 1
    check(args)
    assert qmix.train(args, folder=tmp_path / "run")["eval/ep_length"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mixer", "max"],
        ["--hidden-dim", "many"],
        ["--hidden-dim", "2.5"],
        ["--hidden-dim", "0x10"],
        ["--hidden-dim", "٣"],
        ["--gamma", "٣"],
        ["--time-limit", "3.5"],
        ["--no-such-option", "1"],
        ["--hidden-dim"],
        ["--optimizer", "adam"],
        ["loose"],
    ],
    ids=" ".join,
)
def test_words_that_cannot_be_read_are_refused(refusal, arguments):
    assert arguments[0] in refusal(*arguments)


@pytest.mark.parametrize(
    ("misspelt", "nearest"),
    [("--learning-rte", "--learning-rate"), ("--gama", "--gamma"), ("--no-duble-q", "--double-q")],
)
def test_the_option_nearest_to_a_misspelt_one_is_shown(refusal, misspelt, nearest):
    assert nearest in refusal(misspelt, "0.1")


def test_a_wrong_choice_is_told_the_right_ones(refusal):
    message = refusal("--optimizer", "adam")
    assert all(name in message for name in typing.get_args(qmix.Optimizer))


WRONG = [{"mixer": "QMIX"}, {"polyak": 2}, {"double_q": "False"}, {"double_q": 1}]
WRONG += [{"batch_size": 20, "buffer_size": 10}, {"gamma": True}, {"gamma": "0.9"}]
WRONG += [{"env_name": None}, {"time_limit": 2.5}, {"hidden_dim": 8.0}, {"device": "tpu"}]


@every_script
@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_a_training_that_begins_in_python_refuses_the_same(script, wrong, tmp_path):
    option = f"--{next(iter(wrong)).replace('_', '-')}"
    with pytest.raises(Refused, match=option):
        MODULES[script].train(small_args(script, **TWO_STEPS | wrong), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Random command lines

ODD = "|-1|0|1|1.5|2e5|1e999|nan|-inf|0x10|1_0|None|True|3m|pz|gru|vdn|cuda|Adam|adam|SGD"
ODD += "|é|\udcff|🙂|a\nb|\t|[]|%s|{}|-|--|-h|=|*|run|run/|run/../run|run/checkpoint.pt|.|..|/|~"
ODD += "|/dev/null|/dev/full|@run|missing.toml|--resume|--evaluate=run"
anything = st.sampled_from([*ODD.split("|"), "9" * 30, "9" * 400, "9" * 5000, "x" * 5000])
anything |= st.text(string.printable, max_size=6)
FITTING = {
    int: st.integers() | st.integers(0, 9) | st.sampled_from([10**30, 2**31, 2**63]),
    float: st.floats() | st.floats(0, 1),
    str: anything | st.just("run"),
}


def command_lines(script: str):
    """Options with right or wrong values, without value, negated, misspelt; and values alone."""
    parts = [st.tuples(anything), st.tuples(st.sampled_from(["--help", "-h", "--", "--=", ""]))]
    for field, kind in typing.get_type_hints(MODULES[script].Args).items():
        name = f"--{field.replace('_', '-')}"
        fits = st.tuples(st.just(name), FITTING.get(kind, anything).map(str))
        fits = st.just((name,)) if kind is bool else fits
        names = st.sampled_from(
            [name, f"--{field}", f"--no-{name[2:]}", f"-{name[2:]}", name[:-1], name.upper()]
        )
        parts += [fits, fits, fits, fits, st.tuples(names), st.tuples(names, anything)]
        parts += [st.builds("{}={}".format, names, anything).map(lambda word: (word,))]
    chosen = st.lists(st.sampled_from(parts).flatmap(lambda part: part), max_size=6)
    return chosen.map(lambda chosen: [word for part in chosen for word in part])


@pytest.fixture(scope="module")
def run_folders(tmp_path_factory):
    """A folder for each script, in which `run` is the folder of one of its runs."""
    folders = {script: tmp_path_factory.mktemp(script) for script in SCRIPTS}
    for script, folder in folders.items():
        trained(script, folder / "run", env_name="3m", time_limit=4, total_timesteps=8)
    return folders


def ending(script: str, arguments: list[str], **replaced) -> tuple[int, str]:
    """Exit status and errors; like a terminal's, the streams refuse what is not text."""
    out, err = (
        io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace")
    )
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", [f"{script}.py", *arguments])
        for name, replacement in replaced.items():
            patch.setattr(MODULES[script], name, replacement, raising=False)
        try:
            status = MODULES[script].main() or 0
        except SystemExit as end:
            status = end.code
    err.flush()
    return status, err.buffer.getvalue().decode()


@every_script
def test_any_arguments_are_accepted_or_refused(script, run_folders, monkeypatch):
    """Trainings and evaluations are left out: they take long."""
    monkeypatch.chdir(run_folders[script])
    reached = Counter()
    jobs = ("train", "evaluate_run")
    slow = {name: lambda *_, name=name: reached.update([name]) for name in jobs}

    @settings(deadline=None, max_examples=100, derandomize=True, database=None)
    @given(command_lines(script))
    @example(["--resume", "run"])
    @example(["--evaluate", "run"])
    @example(["--env-options", "N=5", "x=[1, 2]"])
    @example(["--env-options", "5"])
    @example(["--resume", "run", "--evaluate", "run"])
    @example(["--resume", "x" * 5000])
    def run_or_refuse(words):
        status, err = ending(script, words, **slow)
        reached.update([status])
        assert status in (0, 2)
        assert status == 0 or err
        assert "Traceback" not in err
        assert not err.startswith(f"{script}.py: error: ") or err.count("\n") == 1

    run_or_refuse()
    assert min(reached[end] for end in (0, 2, *jobs)) >= 1
    assert reached["train"] >= 10


TYPES = ["smaclite", "smaclite-upstream", "lbf", "pz", "", "smac", "3m"]
NAMES = ["3m", "Foraging-8x8-2p-3f-v3", "simple_spread_v3", "pursuit_v5", "CartPole-v1"]
NAMES += ["two_step_game", "Foraging", "Foraging-8x8-0p-3f-v3", "Foraging-0x0-2p-3f-v3"]
NAMES += ["parallel_env", "..", "mpe", "__init__", "os", "lbf.lbf"]


@settings(deadline=None, max_examples=100, derandomize=True, database=None)
@given(
    st.sampled_from(TYPES),
    anything | st.sampled_from(NAMES),
    anything | st.sampled_from(["mpe", "sisl", "tests.games"]),
)
def test_any_environment_is_opened_or_refused(env_type, name, family):
    words = [f"--env-type={env_type}", f"--env-name={name}", f"--env-family={family}"]
    status, err = ending("qmix", words, train=qmix.set_up)
    assert status in (0, 2)
    assert (status == 2) == ("qmix.py: error: " in err)
    assert err.count("error: ") <= 1 and "Traceback" not in err


# Parsing


def parsed(*words: str) -> qmix.Args:
    return parse(qmix.Args, words)


@pytest.mark.parametrize("word", ["2e5", "200000", "+200000", "2.0e5", "200_000"])
def test_a_whole_number_may_be_written_with_an_exponent_or_underscores(word):
    steps = parsed("--total-timesteps", word).total_timesteps
    assert (type(steps), steps) == (int, 200000)


@pytest.mark.parametrize(("words", "value"), [(["None"], None), (["2e2"], 200)])
def test_a_time_limit_is_a_whole_number_or_none(words, value):
    assert parsed("--time-limit", *words).time_limit == value


@pytest.mark.parametrize(("word", "value"), [("--double-q", True), ("--no-double-q", False)])
def test_a_switch_is_turned_on_and_off(word, value):
    assert parsed(word).double_q is value


def test_an_option_may_be_joined_to_its_value():
    assert parsed("--gamma=0.5", "--clip-gradients=-1").gamma == 0.5
    assert parsed("--clip-gradients", "-2").clip_gradients == -2


@every_script
def test_lr_and_env_are_short_for_learning_rate_and_env_name(script, command):
    args = parse(MODULES[script].Args, ["--lr", "0.1", "--env", "2s3z"])
    assert (args.learning_rate, args.env_name) == (0.1, "2s3z")
    _, out, _ = command(script, "--help")
    for alias in ("--lr", "--env"):
        assert re.search(rf"{alias}\b[^-]", out)


@pytest.mark.parametrize("option", ["--td-lambda", "--td_lambda"])
def test_an_option_may_be_written_with_dashes_or_underscores(option):
    assert parsed(option, "0.5").td_lambda == 0.5


def test_an_argument_without_a_docstring_is_an_option_too():
    @dataclasses.dataclass
    class Args:
        mine: int = 3

    assert parse(Args, ["--mine", "4"]).mine == 4


@pytest.mark.parametrize("value", ["5", 5.5, None, True])
def test_a_whole_number_of_another_type_is_refused(value):
    with pytest.raises(Refused, match="--batch-size"):
        check(qmix.Args(batch_size=value))


@pytest.mark.parametrize("env_type", ["lbf", "pz"])
def test_without_a_name_the_refusal_says_how_to_list_all_environments(refusal, env_type):
    message = refusal("--env-type", env_type)
    assert "cleanmarl.env list" in message and "did you mean" not in message


OWN_REFUSED = [("qmix_multienvs", "--num-envs", value) for value in ("0", "1025")]
OWN_REFUSED += [("qmix_multienvs", "--n-epochs", "0"), ("qmix_lstm", "--tbptt", "0")]
OWN_REFUSED += [("qmix_lstm", "--num-layers", "0")]


@pytest.mark.parametrize(("script", "option", "value"), OWN_REFUSED)
def test_a_scripts_own_arguments_have_bounds(command, script, option, value):
    status, _, err = command(script, option, value)
    assert status == 2
    assert err.startswith(f"{script}.py: error: {option} must be from ") and err.count("\n") == 1


SCENARIO = """
size = [24, 20]
episode_limit = 100
attack_point = [4, 10]
groups = [
  { side = "ally", at = [5, 10], units = { MARINE = %d } },
  { side = "enemy", at = [19, 10], units = { ZERGLING = 10 } },
]
"""


@pytest.mark.parametrize("number", [10**9, 10**30])
def test_a_battle_of_absurd_numbers_is_refused(refusal, tmp_path, number):
    (tmp_path / "huge.toml").write_text(SCENARIO % number)
    refusal("--env-name", "huge.toml")


def test_a_scenario_file_that_is_not_there_or_has_changed_is_told(command, tmp_path, monkeypatch):
    file = tmp_path / "mine.toml"
    file.write_text(SCENARIO % 3)
    small = [*SMALL, "--total-timesteps", "20", "--time-limit", "5"]
    assert command("qmix", "--env-name", "mine.toml", *small)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    for purpose in ("--evaluate", "--resume"):
        status, _, err = command("qmix", purpose, str(folder))
        assert (status, "has changed" in err) == (0, False)
        file.rename(tmp_path / "other.toml")
        status, _, err = command("qmix", purpose, str(folder))
        assert (status, err.count("\n")) == (2, 1)
        assert f"there is no mine.toml here; the run was started in {tmp_path}" in err
        (tmp_path / "other.toml").rename(file)
    file.write_text(SCENARIO % 3 + "# a longer way\n")
    for purpose in ("--evaluate", "--resume"):
        status, _, err = command("qmix", purpose, str(folder))
        assert (status, err.count("mine.toml has changed since the run was trained")) == (0, 1)


def test_a_package_of_the_user_that_has_changed_since_is_told(command, tmp_path):
    games = tmp_path / "own_games"
    shutil.copytree(ROOT / "tests/games", games, ignore=shutil.ignore_patterns("__pycache__"))
    words = ["--env-type", "pz", "--env-family", "own_games", "--env-name", "two_step_game"]
    assert command("qmix", *words, "--total-timesteps", "20", "--num-eval-ep", "1")[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    about = json.loads((folder / "team.json").read_text())["scenario"]
    assert (about["file"], about["folder"]) == (str(games), str(tmp_path))
    assert {"two_step_game.py", "dice_game.py"} < about["files"].keys()
    for purpose in ("--evaluate", "--resume"):
        status, _, err = command("qmix", purpose, str(folder))
        assert (status, "has changed" in err) == (0, False)
    with (games / "two_step_game.py").open("a") as file:
        file.write("# other payoffs\n")
    (games / "dice_game.py").unlink()
    for purpose in ("--evaluate", "--resume"):
        status, _, err = command("qmix", purpose, str(folder))
        says = "own_games has changed since the run was trained with it: dice_game.py, two_step"
        assert (status, says in err) == (0, True)
