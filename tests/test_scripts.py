"""The four scripts say the same things in the same words.

Each script can be copied: the copy runs elsewhere, under another name.
"""

import ast
import dataclasses
import functools
import inspect
import itertools
import json
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib

import numpy as np
import pytest
import torch

from cleanmarl import qmix
from cleanmarl.training import Refused, metrics_of, random_stream
from tests.helpers import (
    LBF,
    MODULES,
    ROOT,
    SCRIPTS,
    SOURCES,
    SPREAD,
    TWO_STEPS,
    every_script,
    run_program,
    scalars,
    small_args,
    trained,
    values_of,
)

OTHERS = SCRIPTS[1:]

every_other_script = pytest.mark.parametrize("script", OTHERS)
every_pair = pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SCRIPTS, 2)))

# Where a definition differs from the first of its name, and why
DIFFERENCES = {
    "qmix_memefficient": {
        "EpisodeBuffer": "stores observations and states without zeros, all in small dtypes",
    },
    "qmix_multienvs": {
        "Args": "has num_envs and n_epochs, and other defaults",
        "train": "collects from all environments at once, and learns in rounds",
    },
    "qmix_lstm": {
        "Args": "has rnn, last_action and tbptt, and other defaults; num_layers are recurrent",
        "AgentNetwork": "is recurrent",
        "EpisodeBuffer": "samples the longest episode first",
        "qmix_loss": "runs the agents over whole episodes, which they remember",
        "action_values": "runs the agents over the whole episode, which they remember",
        "act": "takes and returns the agents' memory",
        "play_episode": "carries the agents' memory from step to step",
    },
}


# One text


@functools.cache
def definitions(script: str) -> dict[str, str]:
    """The source of each function and class of a script, in their order."""
    lines = SOURCES[script].splitlines()
    found = {}
    for node in ast.parse(SOURCES[script]).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def differing(script: str) -> set[str]:
    """Names of the definitions that are not as in the first script that has them."""
    differ = set()
    for name, source in definitions(script).items():
        first = next(of[name] for of in map(definitions, SCRIPTS) if name in of)
        if source != first:
            differ.add(name)
    return differ


@every_other_script
def test_definitions_of_one_name_are_the_same_in_all_scripts_except_the_listed_ones(script):
    assert differing(script) == DIFFERENCES[script].keys()


@every_pair
def test_shared_definitions_come_in_the_same_order(one, other):
    one = definitions(one)
    other = definitions(other)
    assert [name for name in one if name in other] == [name for name in other if name in one]


@every_pair
def test_shared_arguments_come_in_the_same_order(one, other):
    one = [field.name for field in dataclasses.fields(MODULES[one].Args)]
    other = [field.name for field in dataclasses.fields(MODULES[other].Args)]
    assert [name for name in one if name in other] == [name for name in other if name in one]


@every_script
def test_no_function_has_more_than_40_lines(script):
    long = []
    for node in ast.walk(ast.parse(SOURCES[script])):
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 40:
            long.append(node.name)
    assert long == []


@every_script
def test_no_line_has_more_than_100_characters(script):
    assert [line for line in SOURCES[script].splitlines() if len(line) > 100] == []


MOST_LINES = {"qmix": 522, "qmix_memefficient": 572, "qmix_multienvs": 612, "qmix_lstm": 610}


@every_script
def test_a_script_can_be_read_in_one_sitting(script):
    lines = SOURCES[script].splitlines()
    assert len(lines) <= MOST_LINES[script]
    assert np.mean([len(line) for line in lines]) <= 48


# What may be imported


def imported(source: str) -> set[str]:
    """Names of the project's modules that a source imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import does not work in a script"
            if node.module == "cleanmarl":
                names |= {f"cleanmarl.{alias.name}" for alias in node.names}
            else:
                names.add(node.module)
    return {name for name in names if name.split(".")[0] == "cleanmarl"}


def packages_imported_by(folder: str) -> set[str]:
    """Names of the project's folders and files from which the modules of a folder import."""
    names = set()
    for file in (ROOT / "cleanmarl" / folder).glob("*.py"):
        if file.name != "__main__.py":  # a program, which may use all
            names |= {name.split(".")[1] for name in imported(file.read_text())}
    return names


@every_script
def test_a_script_imports_only_what_every_training_needs_and_the_environments(script):
    assert imported(SOURCES[script]) == {"cleanmarl.training", "cleanmarl.env"}


def test_what_every_training_needs_imports_no_script_and_no_environment():
    assert packages_imported_by("training") == {"training", "errors", "entries", "teams"}


def test_battles_import_nothing_else_of_the_project():
    assert packages_imported_by("battle") == {"battle"}


def test_environments_import_nothing_else_of_the_project_but_battles():
    assert packages_imported_by("env") == {"env", "battle", "errors", "entries"}


def in_new_process(source: str) -> str:
    """What a program prints."""
    words = [sys.executable, "-c", textwrap.dedent(source)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_project_changes_no_signal_handler_and_no_hook_of_errors():
    printed = in_new_process("""
        import importlib, signal, sys
        before = (sys.excepthook, *map(signal.getsignal, signal.valid_signals()))
        scripts = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
        for name in ("cleanmarl", *(f"cleanmarl.{script}" for script in scripts)):
            importlib.import_module(name)
            after = (sys.excepthook, *map(signal.getsignal, signal.valid_signals()))
            print(name, after == before)
    """)
    assert len(printed.splitlines()) == 5
    assert all(line.endswith(" True") for line in printed.splitlines()), printed


def test_importing_the_environments_registers_no_battles():
    printed = in_new_process("""
        import gymnasium
        before = set(gymnasium.registry)
        import cleanmarl.env
        print(set(gymnasium.registry) - before)
        import cleanmarl.battle
        print(len(set(gymnasium.registry) - before) > 20)
    """)
    assert printed.splitlines() == ["set()", "True"]


# Copies

TRAINING = "--env-name 3m --total-timesteps 20 --time-limit 5 --batch-size 2 --buffer-size 4"
TRAINING += " --num-eval-ep 1 --log-every 1 --eval-steps 1"


@every_script
def test_a_copy_elsewhere_under_another_name_trains_resumes_and_is_evaluated(
    tmp_path, monkeypatch, script
):
    copy = str(shutil.copy(ROOT / "cleanmarl" / f"{script}.py", tmp_path / f"my_{script}.py"))
    monkeypatch.chdir(tmp_path)
    status, _, err = run_program(copy, *TRAINING.split())
    assert status == 0, err
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"__my_{script}__" in folder.name
    more = (["--resume", str(folder), "--total-timesteps", "40"], ["--evaluate", str(folder)])
    for arguments in more:
        status, _, err = run_program(copy, *arguments)
        assert status == 0, err
    sessions = json.loads((folder / "run.json").read_text())
    assert [session["ending"] for session in sessions] == ["done", "done"]
    assert scalars(folder)["rollout/num_episodes"][-1] == (40, 8)
    assert json.loads((folder / "evaluation.json").read_text())["episodes"] == 1


# The arguments

DEFAULTS = {
    # Environment
    "env_type": "smaclite",
    "env_name": "3m",
    "env_family": "mpe",
    "env_options": {},
    "env_state": True,
    "agent_ids": True,
    "clock": True,
    "time_limit": None,
    # Learning
    "total_timesteps": 1000000,
    "buffer_size": 5000,
    "batch_size": 10,
    "mean_age": 500,
    "train_freq": 1,
    "steps_per_update": 50,
    "optimizer": "Adam",
    "optimizer_eps": 0.0001,
    "beta2": 0.99,
    "learning_rate": 0.0005,
    "gamma": 0.99,
    "td_lambda": 0.6,
    "double_q": True,
    "target_network_update_freq": 1,
    "polyak": 0.01,
    "normalize_reward": False,
    "clip_gradients": -1,
    "bootstrap_truncated": False,
    # Networks
    "hidden_dim": 64,
    "num_layers": 1,
    "mixer": "qmix",
    "hyper_dim": 64,
    "hypernet_layers": 2,
    # Exploration
    "start_e": 1,
    "end_e": 0.025,
    "exploration_fraction": 0.05,
    "greedy_episodes": 0.5,
    # Evaluation and output
    "eval_steps": 50,
    "num_eval_ep": 5,
    "log_every": 10,
    "checkpoint_every": 1000,
    "checkpoint_buffer": True,
    "save_model": True,
    "keep_models": 0,
    "capture_video": False,
    "use_wnb": False,
    "wnb_project": "",
    "wnb_entity": "",
    # This run
    "seed": 1,
    "device": "cpu",
    "torch_threads": 1,
    "resume": "",
    "evaluate": "",
    "init_from": "",
    "which": "last",
}
OWN_DEFAULTS = {
    "qmix": {},
    "qmix_memefficient": {},
    "qmix_multienvs": {
        "env_name": "MMM",
        "num_envs": 4,
        "batch_size": 32,
        "train_freq": 2,
        "n_epochs": 2,
        "polyak": 0.005,
        "torch_threads": 2,
    },
    "qmix_lstm": {
        "buffer_size": 10000,
        "optimizer_eps": 1e-8,
        "beta2": 0.999,
        "learning_rate": 0.0008,
        "polyak": 0.005,
        "tbptt": 10,
        "rnn": "lstm",
        "last_action": True,
        "num_eval_ep": 10,
    },
}


@every_script
def test_the_arguments_have_their_documented_defaults(script):
    assert dataclasses.asdict(MODULES[script].Args()) == DEFAULTS | OWN_DEFAULTS[script]


@every_script
def test_every_argument_is_documented_below_its_field(script):
    body = ast.parse(inspect.getsource(MODULES[script].Args)).body[0].body
    undocumented = []
    for field, following in itertools.zip_longest(body, body[1:]):
        if isinstance(field, ast.AnnAssign):
            value = getattr(following, "value", None)
            if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                undocumented.append(field.target.id)
    assert undocumented == []


WRONG = {
    "mixer": {"mixer": "QMIX"},
    "polyak": {"polyak": 2},
    "double_q": {"double_q": "False"},
    "batch_size": {"batch_size": 20, "buffer_size": 10},
}


@every_script
@pytest.mark.parametrize("name", WRONG)
def test_a_training_with_a_wrong_argument_is_refused(tmp_path, monkeypatch, script, name):
    monkeypatch.chdir(tmp_path)
    args = dataclasses.replace(small_args(script), **WRONG[name])
    with pytest.raises(Refused, match=f"--{name.replace('_', '-')} must be"):
        MODULES[script].train(args)
    assert [*tmp_path.iterdir()] == []


# Random numbers


def drawn_first(seed: int, purpose: str, *number: int) -> bytes:
    """The first numbers of a stream."""
    return random_stream(qmix.Args(seed=seed), purpose, *number).bytes(16)


def test_no_two_random_streams_are_alike():
    purposes = ("train", "explore", "sample", "eval", "test")
    seeds = (0, 1, 2, 2**31 - 1, 2**32 - 1, 2**32, 2**32 + 1, 2**62, 2**63 - 1)
    few = (0, 1, 2, 50, 10**6)
    numbers = [(n,) for n in (*range(60), 10**6)]
    numbers += itertools.product(few, few)
    numbers += itertools.product(few, few, few)
    keys = [*itertools.product(seeds, purposes, numbers)]
    assert len({drawn_first(seed, purpose, *number) for seed, purpose, number in keys}) == len(keys)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_a_random_stream_with_one_number_has_the_seed_the_purpose_and_the_number_as_its_key(seed):
    for place, purpose in enumerate(("train", "explore", "sample", "eval", "test")):
        for number in (0, 1, 50, 10**6):
            expected = np.random.default_rng((seed, place, number)).bytes(16)
            assert drawn_first(seed, purpose, number) == expected


# Every script on every kind of environment

ENVIRONMENTS = {
    "3m": {"env_name": "3m"},
    "2s3z": {"env_name": "2s3z"},
    "MMM": {"env_name": "MMM"},
    "lbf": LBF,
    "simple_spread": SPREAD,
    "pursuit": {"env_type": "pz", "env_family": "sisl", "env_name": "pursuit_v5"},
    "foraging": {"env_type": "gym", "env_name": "lbforaging:Foraging-8x8-2p-3f-v3"},
}


@every_script
@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_every_script_learns_in_every_kind_of_environment(tmp_path, script, environment):
    options = {"total_timesteps": 20, "time_limit": 5, "log_every": 1, "buffer_size": 4}
    folder = trained(script, tmp_path / "run", **options, **environment)
    assert values_of(folder, "eval/ep_length")[-1] == 5
    assert np.isfinite(values_of(folder, "train/loss")).all()
    model = torch.load(folder / "model.pt", weights_only=True)
    assert model.keys() >= {"agent", "mixer", "target_agent", "target_mixer"}


# Tasks that say whether they succeeded

MEETING = {"env_type": "gym", "env_name": "tests.games.meeting:Meeting-v0"}


@every_script
def test_success_is_logged_for_training_episodes_and_evaluations(tmp_path, script):
    folder = trained(script, tmp_path / "run", log_every=1, eval_steps=1, **MEETING)
    for prefix in ("rollout", "eval"):
        successes = values_of(folder, f"{prefix}/success")
        assert {*successes} <= {0, 1}
        # a team that meets earns 1
        assert successes == values_of(folder, f"{prefix}/ep_reward")


@pytest.mark.parametrize("script", ["qmix", "qmix_multienvs"])
def test_a_run_in_an_environment_of_gymnasium_is_resumed_and_evaluated(command, tmp_path, script):
    options = [f"--{name.replace('_', '-')}={value}" for name, value in MEETING.items()]
    options += ["--batch-size=2", "--buffer-size=20", "--num-eval-ep=3"]
    status, _, err = command(script, "--total-timesteps=40", *options)
    assert status == 0, err
    (folder,) = (tmp_path / "runs").iterdir()
    for again in (["--resume", str(folder), "--total-timesteps=80"], ["--evaluate", str(folder)]):
        status, out, err = command(script, *again)
        assert status == 0, err
        assert "success" in out
    assert scalars(folder)["eval/success"][-1][0] >= 80
    assert 0 <= json.loads((folder / "evaluation.json").read_text())["success"]["mean"] <= 1


def test_an_episode_that_does_not_report_success_counts_as_a_failure():
    silent = {"ep_reward": 1.0, "ep_length": 3}
    results = [silent, silent | {"success": True}, silent, silent | {"success": True}]
    assert metrics_of("rollout", results)["rollout/success"] == 0.5
    assert "rollout/success" not in metrics_of("rollout", [silent])


def test_an_evaluation_without_a_report_of_success_has_none(tmp_path, monkeypatch):
    silent = {"ep_reward": 1.0}
    evaluations = iter([[silent, silent | {"success": True}], [silent], [silent]])
    monkeypatch.setattr(qmix, "evaluate", lambda *_: next(evaluations))
    folder = trained("qmix", tmp_path / "run", total_timesteps=12, eval_steps=2, **TWO_STEPS)
    assert scalars(folder)["eval/success"] == [(4, 0.5), (8, 0.0), (12, 0.0)]


def test_the_best_networks_are_those_with_most_success(tmp_path, monkeypatch):
    scores = iter([(False, 9.0), (True, 1.0), (True, 0.0)])

    def evaluate(*_):
        success, reward = next(scores)
        return [{"success": success, "ep_reward": reward}]

    monkeypatch.setattr(qmix, "evaluate", evaluate)
    options = {"total_timesteps": 12, "eval_steps": 2} | TWO_STEPS
    folder = trained("qmix", tmp_path / "run", **options)
    assert torch.load(folder / "best.pt", weights_only=True)["step"] == 8


# The repository


def test_no_compiled_file_is_tracked():
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs git and a checkout")
    words = ["git", "-C", str(ROOT), "ls-files"]
    tracked = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    compiled = (".nbc", ".nbi", ".pyc", ".so")
    assert "cleanmarl/qmix.py" in tracked
    assert [one for one in tracked if one.endswith(compiled) or "__pycache__" in one] == []


def test_the_citation_has_the_version_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()


def test_the_project_names_the_versions_of_python_that_the_workflow_runs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert named == re.findall(r'"(3\.\d+)"', workflow)
