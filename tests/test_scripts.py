"""The four scripts as one text: what they share they say in the same words, and each of them runs on its own."""

import ast
import dataclasses
import functools
import importlib
import inspect
import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest
import torch

from tests.test_qmix import DOCUMENTED

ROOT = Path(__file__).parents[1]
SCRIPTS = ["qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm"]
OTHERS = SCRIPTS[1:]
MODULES = {script: importlib.import_module(f"cleanmarl.{script}") for script in SCRIPTS}
SOURCES = {script: (ROOT / "cleanmarl" / f"{script}.py").read_text() for script in SCRIPTS}

every_script = pytest.mark.parametrize("script", SCRIPTS)
every_other_script = pytest.mark.parametrize("script", OTHERS)

# Where a definition differs from the one of its name in qmix.py, and why.
DIFFERENCES = {
    (
        "EpisodeBuffer",
        "qmix_memefficient",
    ): "stores observations and states without their zeros, all in the smallest dtypes",
    ("Args", "qmix_multienvs"): "num_envs and n_epochs; counts over all environments; defaults of its own",
    ("check_args", "qmix_multienvs"): "num_envs and n_epochs are counts",
    ("Progress", "qmix_multienvs"): "counts rounds, too",
    ("replay", "qmix_multienvs"): "many episodes at once, and those under way",
    ("train", "qmix_multienvs"): "collects from all environments at once, updates in rounds; an environment may die",
    ("main", "qmix_multienvs"): "opens many environments, and closes their processes",
    ("Args", "qmix_lstm"): "rnn, last_action and tbptt; num_layers counts recurrent layers; defaults of its own",
    ("check_args", "qmix_lstm"): "tbptt is a count; a recurrent network has a layer",
    ("AgentNetwork", "qmix_lstm"): "recurrent",
    ("Networks", "qmix_lstm"): "its agent needs rnn and last_action",
    ("EpisodeBuffer", "qmix_lstm"): "samples padded sequences",
    ("update", "qmix_lstm"): "a step of gradient descent per chunk",
    ("act", "qmix_lstm"): "takes and returns what an agent remembers",
    ("collect_episode", "qmix_lstm"): "carries the memory; stores sequences of T + 1 observations",
    ("play", "qmix_lstm"): "carries the memory",
}


# One text


@functools.cache
def definitions(script: str) -> dict[str, str]:
    """Source of each function and class of a script, with its decorators and comments, in their order."""
    lines, found = SOURCES[script].splitlines(), {}
    for node in ast.parse(SOURCES[script]).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def differing(script: str) -> set[str]:
    """Names of the definitions that are not as in the first script that has them."""
    own, differ = definitions(script), set()
    for name, source in own.items():
        first = next(definitions(other)[name] for other in SCRIPTS if name in definitions(other))
        differ |= {name} if source != first else set()
    return differ


@every_other_script
def test_definitions_of_one_name_are_the_same_in_all_scripts_but_for_the_listed_ones(script):
    assert differing(script) - {name for name, where in DIFFERENCES if where == script} == set()


def test_every_listed_difference_is_one_and_has_a_reason():
    assert [key for key in DIFFERENCES if key[0] not in differing(key[1])] == []
    assert all(DIFFERENCES.values())


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SCRIPTS, 2)))
def test_shared_definitions_come_in_the_same_order(one, other):
    one, other = definitions(one), definitions(other)
    assert [name for name in one if name in other] == [name for name in other if name in one]


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(SCRIPTS, 2)))
def test_shared_arguments_come_in_the_same_order(one, other):
    one, other = ([field.name for field in dataclasses.fields(MODULES[script].Args)] for script in (one, other))
    assert [name for name in one if name in other] == [name for name in other if name in one]


@every_script
def test_no_function_has_60_lines(script):
    functions = [node for node in ast.walk(ast.parse(SOURCES[script])) if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions if f.end_lineno - f.lineno + 1 >= 60] == []


# Each on its own


@every_script
def test_a_script_imports_nothing_of_the_project_but_its_environments(script):
    imported = set()
    for node in ast.walk(ast.parse(SOURCES[script])):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module)
    assert {name for name in imported if name.split(".")[0] in ("cleanmarl", "tests", "docs")} == {"cleanmarl.env"}


def test_copies_of_the_scripts_run_elsewhere_with_nothing_but_the_environments(tmp_path):
    package, elsewhere = tmp_path / "installed" / "cleanmarl", tmp_path / "elsewhere"
    for folder in (package, elsewhere):
        folder.mkdir(parents=True)
    for part in ("__init__.py", "env", "battle"):
        (package / part).symlink_to(ROOT / "cleanmarl" / part)
    arguments = "--env-name 3m --total-timesteps 20 --time-limit 5 --batch-size 2 --buffer-size 4 --num-eval-ep 1"
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": elsewhere}
    options["env"] = os.environ | {"PYTHONPATH": str(package.parent)}
    processes = []
    for script in SCRIPTS:
        copy = shutil.copy(ROOT / "cleanmarl" / f"{script}.py", elsewhere / f"my_{script}.py")
        processes.append(subprocess.Popen([sys.executable, str(copy), *arguments.split()], **options))
    for script, process in zip(SCRIPTS, processes, strict=True):
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        assert list(elsewhere.glob(f"runs/*__my_{script}__*/model.pt"))


# The arguments

MULTIENVS = dict(env_name="MMM", num_envs=4, train_freq=2, batch_size=32, polyak=0.005, n_epochs=2)
LSTM = dict(buffer_size=10000, learning_rate=0.0008, polyak=0.005, tbptt=10, num_eval_ep=10, rnn="gru")
DEFAULTS = {
    "qmix": DOCUMENTED,
    "qmix_memefficient": DOCUMENTED,
    "qmix_multienvs": DOCUMENTED | MULTIENVS,
    "qmix_lstm": DOCUMENTED | LSTM,
}


@every_script
def test_documented_arguments_have_their_defaults(script):
    defaults = dataclasses.asdict(MODULES[script].Args())
    assert {name: defaults.get(name) for name in DEFAULTS[script]} == DEFAULTS[script]


def test_a_script_has_qmixs_arguments_and_its_own():
    names = {script: {field.name for field in dataclasses.fields(MODULES[script].Args)} for script in SCRIPTS}
    assert names["qmix_memefficient"] == names["qmix"]
    assert names["qmix_multienvs"] == names["qmix"] | {"num_envs", "n_epochs"}
    assert names["qmix_lstm"] == names["qmix"] | {"tbptt", "rnn", "last_action"}


def test_qmix_memefficient_has_qmixs_defaults():
    args, reference = (MODULES[script].Args() for script in ("qmix_memefficient", "qmix"))
    assert dataclasses.asdict(args) == dataclasses.asdict(reference)


@every_script
def test_every_argument_is_documented_below_its_field(script):
    body = ast.parse(inspect.getsource(MODULES[script].Args)).body[0].body
    undocumented = [
        field.target.id
        for field, following in itertools.zip_longest(body, body[1:])
        if isinstance(field, ast.AnnAssign)
        and not (isinstance(following, ast.Expr) and isinstance(following.value.value, str) and following.value.value)
    ]
    assert undocumented == []


# The command line


@pytest.fixture
def called(command, tmp_path, monkeypatch):
    """`called(script, *arguments)`: exit status, output and errors of the script, which does not train."""

    def call(script: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(MODULES[script], "train", lambda *_: pytest.fail("trains with it"))
        said = command(script, *arguments)
        assert not (tmp_path / "runs").exists()
        return said

    return call


@every_other_script
def test_help_lists_all_arguments(called, script):
    status, out, _ = called(script, "--help")
    assert status == 0
    for field in dataclasses.fields(MODULES[script].Args):
        assert f"--{field.name.replace('_', '-')}" in out


REFUSED = {
    "--env-name 2s3x": "2s3z",
    "--env-type smac": "smaclite",
    "--env-type lbf --env-name Foragin-8x8-2p-3f-v3": "Foraging-8x8-2p-3f",
    "--env-type pz --env-name simple_spred_v3": "simple_spread_v3",
    "--batch-size 6 --buffer-size 5": "--batch-size",
    "--start-e 1.1": "--start-e",
    "--end-e -0.1": "--end-e",
    "--exploration-fraction nan": "--exploration-fraction",
    "--optimizer Adamm": "--optimizer",
    "--total-timesteps 0": "--total-timesteps",
}
OWN_REFUSED = {"qmix_memefficient": {}}
OWN_REFUSED["qmix_multienvs"] = {"--num-envs 0": "--num-envs", "--n-epochs 0": "--n-epochs", "--num-envs 1025": "1024"}
OWN_REFUSED["qmix_lstm"] = {"--tbptt 0": "--tbptt", "--num-layers 0": "--num-layers"}


@pytest.mark.parametrize(
    ("script", "arguments", "named"),
    [(script, *case) for script in OTHERS for case in (REFUSED | OWN_REFUSED[script]).items()],
)
def test_what_cannot_be_trained_with_is_one_line_and_exit_status_2(called, script, arguments, named):
    status, out, err = called(script, *arguments.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"{script}.py: error: ")
    assert named in err


# Every script on every kind of environment

ENVIRONMENTS = {
    "3m": {"env_name": "3m"},
    "2s3z": {"env_name": "2s3z"},
    "MMM": {"env_name": "MMM"},
    "lbf": {"env_type": "lbf", "env_name": "Foraging-8x8-2p-3f-v3"},
    "simple_spread": {"env_type": "pz", "env_name": "simple_spread_v3"},
    "pursuit": {"env_type": "pz", "env_family": "sisl", "env_name": "pursuit_v5"},
}


@every_script
@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_every_combination_starts_trains_and_ends(tmp_path, monkeypatch, script, environment):
    module, learned = MODULES[script], []
    update = module.update
    monkeypatch.setattr(module, "update", lambda *args: learned.append(update(*args)) or learned[-1])
    options = {"hidden_dim": 8, "hyper_dim": 8, "batch_size": 2, "buffer_size": 4, "num_eval_ep": 1, "log_every": 1}
    options |= {"total_timesteps": 20, "time_limit": 5} | ({"num_envs": 2} if script == "qmix_multienvs" else {})
    args = module.Args(**options, **environment)
    env = getattr(module, "open_envs", module.open_env)(args)
    try:
        evaluation = module.train(args, env, module.open_env(args), tmp_path, Event())
    finally:
        env.close()
    assert evaluation["eval/ep_length"] == 5
    assert all(results["train/loss"].isfinite() for results in learned)
    assert len(learned) >= 1
    assert torch.load(tmp_path / "model.pt", weights_only=True).keys() == {"agent", "mixer"}
