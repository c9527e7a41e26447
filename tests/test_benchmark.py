"""`python -m cleanmarl.benchmark`: what sweeps train, refuse and resume, and what `plot` writes."""

import csv
import fcntl
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from cleanmarl import qmix
from cleanmarl.benchmark import __main__ as benchmark
from cleanmarl.benchmark import (
    estimates,
    figures,
    groups,
    planning,
    progress,
    records,
    sweep,
    tables,
)
from cleanmarl.benchmark.planning import plan
from cleanmarl.benchmark.suite import choose_tasks, read_suite
from cleanmarl.benchmark.task import Task, is_training, keep, resumed_words, train
from tests.helpers import MODULES, ROOT, TWO_STEPS, equal_weights, scalars, trained

pytest.importorskip("ray", reason='sweeps need Ray: pip install -e ".[benchmark]"')

SMALL = ["--hidden-dim", "8", "--hyper-dim", "8", "--batch-size", "4", "--buffer-size", "12"]
SMALL += ["--num-eval-ep", "1", "--eval-steps", "20", "--log-every", "5"]
SMALL += ["--checkpoint-every", "10"]


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """`call(*words)` runs the command, in this process and in an empty folder.

    It returns the exit status, the output and the errors.
    """

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["benchmark", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            benchmark.main()
        return end.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def cluster():
    """Ray on a node with one core; it communicates over the loopback interface."""
    from ray.cluster_utils import Cluster

    checks = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    checks["health_check_failure_threshold"] = 4
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": checks}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def wait_for(condition, seconds: float = 300):  # Ray's first start on a busy machine takes minutes
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition stays false"
        time.sleep(0.02)


# What is trained


def test_each_script_trains_in_each_environment_with_each_seed_in_its_own_folder(tmp_path):
    envs = ["3m", "lbf:Foraging-8x8-2p-3f-v3", "pz:simple_spread_v3", "pz:sisl:pursuit_v5"]
    tasks = plan(["qmix", "qmix_lstm"], envs, [1, 2], tmp_path, passed=["--gamma", "0.9"])
    assert len({task.folder for task in tasks}) == 2 * 4 * 2
    assert [task.folder.name for task in tasks[:4]] == [
        "smaclite__3m__qmix__1",
        "smaclite__3m__qmix_lstm__1",
        "lbf__Foraging-8x8-2p-3f-v3__qmix__1",
        "lbf__Foraging-8x8-2p-3f-v3__qmix_lstm__1",
    ]
    assert {(task.args["gamma"], task.args["torch_threads"]) for task in tasks} == {(0.9, 1)}
    assert tasks[-1].args["env_family"] == "sisl"
    assert tasks[-1].command[:2] == ["-m", "cleanmarl.qmix_lstm"]
    assert not list(tmp_path.iterdir())


def test_options_follow_the_task(tmp_path):
    envs = ["pz:simple_spread_v3 N=2", "pz:simple_spread_v3 N=4 local_ratio=0"]
    small, large = plan(["qmix"], envs, [1], tmp_path)
    assert small.folder.name == "pz__simple_spread_v3-N=2__qmix__1"
    assert large.folder.name == "pz__simple_spread_v3-N=4-local_ratio=0__qmix__1"
    assert large.args["env_options"] == {"N": 4, "local_ratio": 0}
    with pytest.raises(ValueError, match="--env-options cannot be passed on"):
        plan(["qmix"], envs, [1], tmp_path, passed=["--env-options", "N=3"])


def test_variants_are_all_combinations_of_the_values_of_some_arguments(tmp_path):
    variants = ["td_lambda=0 0.6", "--double-q=True False"]
    tasks = plan(["qmix"], ["3m"], [1, 2], tmp_path, variants)
    found = {(t.args["td_lambda"], t.args["double_q"], t.args["seed"]) for t in tasks}
    assert found == {(a, b, seed) for a in (0, 0.6) for b in (True, False) for seed in (1, 2)}
    assert tasks[1].folder.name == "smaclite__3m__qmix__td_lambda=0__double_q=False__1"
    assert "--no-double-q" in tasks[1].command


def test_variants_apply_to_the_scripts_that_have_the_argument(tmp_path):
    variants = ["num_envs=2 4", "gamma=0.9 0.99"]
    scripts = ["qmix", "qmix_multienvs"]
    tasks = plan(scripts, ["3m"], [1], tmp_path, variants, try_envs=False)
    assert [task.folder.name.removeprefix("smaclite__3m__") for task in tasks] == [
        "qmix__gamma=0.9__1",
        "qmix__gamma=0.99__1",
        "qmix_multienvs__num_envs=2__gamma=0.9__1",
        "qmix_multienvs__num_envs=2__gamma=0.99__1",
        "qmix_multienvs__num_envs=4__gamma=0.9__1",
        "qmix_multienvs__num_envs=4__gamma=0.99__1",
    ]


@pytest.fixture
def copied(tmp_path):
    """A copy of a script outside the package, with its own default and mixer."""
    path = tmp_path / "my_qmix.py"
    text = (ROOT / "cleanmarl/qmix.py").read_text()
    path.write_text(text.replace("gamma: Fraction = 0.99", "gamma: Fraction = 0.9"))
    return path


def test_your_own_script_is_planned_by_its_path_or_as_a_module(copied, monkeypatch):
    monkeypatch.chdir(copied.parent)
    monkeypatch.syspath_prepend(str(copied.parent))
    by_path, by_module = (plan([name], ["3m"], [1])[0] for name in ("./my_qmix.py", "my_qmix"))
    assert by_path.folder == by_module.folder
    assert by_path.folder.name == "smaclite__3m__my_qmix__1"
    assert by_path.args["gamma"] == by_module.args["gamma"] == 0.9
    assert by_path.command[0] == str(copied)
    assert by_module.command[:2] == ["-m", "my_qmix"]


def test_a_copy_named_as_an_original_keeps_its_own_arguments(copied, monkeypatch):
    monkeypatch.chdir(copied.parent)
    copied.rename("qmix.py")
    (own,) = plan(["./qmix.py"], ["3m"], [1])
    (original,) = plan(["qmix"], ["3m"], [1])
    assert (own.args["gamma"], original.args["gamma"]) == (0.9, 0.99)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "benchmark: error: there is no script ./mine.py"),
        ("x = 1", "./mine.py is not a copy of a script: it has no Args"),
        ("x = ", "the script ./mine.py cannot be imported: SyntaxError"),
        ("import no_such_thing", "./mine.py needs no_such_thing, which is not installed"),
    ],
)
def test_a_file_that_is_not_a_script_is_refused_in_one_line(call, tmp_path, text, says):
    if text is not None:
        (tmp_path / "mine.py").write_text(text)
    status, out, err = call("run", "--scripts", "./mine.py")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--scripts qmax", "there is no script 'qmax'; did you mean qmix"),
        ("--scripts other", "there is no script 'other'; give qmix, qmix_memefficient"),
        ("--scripts ./mine", "there is no script ./mine"),
        ("--envs 3m 4m", "unknown map '4m'; did you mean 8m"),
        ("--envs foo:3m", "env_type must be smaclite"),
        ("--envs nowhere.toml", "nowhere.toml"),
        ("--scripts", "a sweep needs a script, an environment and a seed"),
        ("--seeds -1", "qmix.py: --seed must be from 0"),
        ("--cpus 0", "--cpus must be at least 1, got 0"),
        ("-- --gamma 2", "qmix.py: --gamma must be from 0 to 1, got 2.0"),
        ("-- --seed 3", "--seed cannot be passed on to the scripts"),
        ("-- --env_name=3m", "--env_name=3m cannot be passed on to the scripts"),
        ("-- --env 3m", "--env cannot be passed on to the scripts"),
        ("--seeds 1 1", "qmix 3m 1 and qmix 3m 1 would share the folder smaclite__3m__qmix__1"),
        ("--variants gamma", "a variant must be like \"td_lambda=0 0.6 0.9\", got 'gamma'"),
        ("--variants gamma=2", "qmix.py: --gamma must be from 0 to 1, got 2.0"),
        ("--variants double_q=2", "double_q must be True or False, got 2"),
        ("--variants seed=2", "seed cannot be varied: the sweep sets it"),
        ("--variants env=8m", "env_name cannot be varied: the sweep sets it"),
        ("--variants gama=1", "no script has --gama; did you mean --gamma"),
        ("--variants num_envs=2", "no script has --num-envs; did you mean --"),
        ("--variants gamma=1 gamma=0.9", "there are two variants of gamma"),
        ("--variants lr=1 learning_rate=0.9", "there are two variants of learning_rate"),
        ("--variants double_q=True -- --no-double-q", "--no-double-q is given twice"),
        ("--variants learning_rate=0.1 -- --lr 0.1", "--lr is given twice"),
        ("--address auto --cpus 2", "give either --cpus (this machine) or --address"),
        ("--address 127.0.0.1:1", "no Ray cluster at --address 127.0.0.1:1: [Errno"),
    ],
)
def test_wrong_arguments_give_one_line_before_anything_starts(
    call, tmp_path, monkeypatch, words, says
):
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("starts with it"))
    status, out, err = call("run", *words.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("benchmark: error: ")
    assert says in err
    assert not list(tmp_path.rglob("log.txt"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("", "plot"),
        ("trian", "trian"),
        ("run --sceds 1", "--seeds"),
        ("run --seeds one", "--seeds"),
        ("run --cpus many", "--cpus"),
        ("plot sweep --points x", "--points"),
        ("run -- --gama 0.9", "--gamma"),
        ("run -- --gamma x", "--gamma"),
        ("run --variants gama=0.9", "--gamma"),
    ],
)
def test_words_that_cannot_be_read_are_refused_before_anything_starts(
    call, tmp_path, monkeypatch, words, says
):
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("starts with it"))
    status, out, err = call(*words.split())
    assert (status, out) == (2, "")
    assert says in err and "Traceback" not in err
    assert not list(tmp_path.rglob("log.txt"))


def test_a_variant_by_the_short_name_of_an_argument_has_its_full_name(tmp_path):
    short, full = (
        plan(["qmix"], ["3m"], [1], tmp_path, [f"{name}=0.1 0.2"])
        for name in ("lr", "learning_rate")
    )
    assert short == full


def test_without_ray_it_says_how_to_install_it(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    says = 'benchmark: error: ray is missing: pip install -e ".[benchmark]"\n'
    assert call("run") == (2, "", says)


@pytest.fixture
def record(tmp_path):
    """The record of a finished run."""
    write_run(tmp_path / "elsewhere", "qmix", "3m", 1, [0.5, 1.0])
    (record,) = records.read_all(tmp_path / "elsewhere")
    return record


@pytest.fixture
def begun(tmp_path):
    """A run of a sweep, and the args.json of a training that was started for it."""
    (task,) = plan(["qmix"], ["3m"], [1], tmp_path / "sweep")
    path = task.folder / "runs/run/args.json"
    path.parent.mkdir(parents=True)
    return task, path


def test_no_run_is_resumed_with_other_arguments_than_its_own(call, begun):
    task, path = begun
    path.write_text(json.dumps(task.args | {"gamma": 0.5, "checkpoint_every": 7}))
    status, _, err = call("run", "--seeds", "1")
    assert (status, "has --gamma 0.5, not --gamma 0.99: remove it" in err) == (2, True)
    assert plan(["qmix"], ["3m"], [1], task.folder.parent, passed=["--gamma", "0.5"])


def test_no_run_is_resumed_with_fewer_steps_or_made_longer_without_a_checkpoint(call, begun):
    task, path = begun
    path.write_text(json.dumps(task.args | {"total_timesteps": 2000000}))
    says = "has --total-timesteps 2000000, not --total-timesteps 1000000"
    assert says in call("run", "--seeds", "1")[2]
    path.write_text(json.dumps(task.args | {"total_timesteps": 7}))
    says = "has 7 steps and no checkpoint to make it longer: remove it or choose other --runs"
    assert says in call("run", "--seeds", "1")[2]


def test_a_run_of_a_script_with_fewer_arguments_is_resumed(begun):
    task, path = begun
    older = {name: task.args[name] for name in task.args if name != "td_lambda"}
    path.write_text(json.dumps(older))
    assert plan(["qmix"], ["3m"], [1], task.folder.parent)


def test_a_run_with_other_arguments_does_not_count_as_finished(call, begun, record):
    task, _ = begun
    record.args = task.args | {"polyak": 0.5}
    records.write_record(task.record, record)
    assert "has --polyak 0.5, not --polyak 0.01: remove it" in call("run", "--seeds", "1")[2]


@pytest.mark.parametrize("edited", [False, True])
def test_a_sweep_tells_if_a_script_has_changed_since_its_runs_were_finished(
    call, begun, record, tmp_path, edited
):
    task, path = begun
    record.args = task.args
    records.write_record(task.record, record)
    path.write_text(json.dumps(task.args))
    script = tmp_path / "my_qmix.py"
    script.write_text("old")
    session = dict.fromkeys(("command", "commit", "versions", "machine"), "")
    session |= {"script_file": str(script), "script_sha256": sha256(b"old").hexdigest()}
    path.with_name("run.json").write_text(json.dumps([session]))
    if edited:
        script.write_text("new")
    status, out, err = call("run", "--seeds", "1")
    assert (status, out) == (0, "1 of 1 runs are finished\n")
    says = "warning: my_qmix.py has changed since 1 of the finished runs; they are not trained"
    assert err.startswith(says) == edited and bool(err) == edited


@pytest.fixture
def longer(begun, record, monkeypatch):
    """`longer(steps)`: the run of a sweep, finished with 400 steps, as a sweep with other steps."""
    task, path = begun
    args = task.args | {"total_timesteps": 400, "exploration_fraction": 0.1}
    record.args = args
    records.write_record(task.record, record)
    path.write_text(json.dumps(args))
    (path.parent / "checkpoint.pt").touch()

    def longer(steps: int, fraction: float = 0.1) -> Task:
        passed = ["--total-timesteps", str(steps), "--exploration-fraction", str(fraction)]
        return plan(["qmix"], ["3m"], [1], task.folder.parent, passed=passed)[0]

    return longer


def test_a_sweep_is_made_longer_by_the_same_command_with_more_steps(longer):
    assert longer(400).finished
    task = longer(2000)
    assert not task.finished
    (run,) = task.folder.glob("runs/*")
    resume = ["--resume", "runs/run"]
    # exploration ends at step 40, as before
    assert resumed_words(task, run) == [*resume, "--exploration-fraction", "0.02"]
    own = json.loads((run / "args.json").read_text())
    own |= {"total_timesteps": 2000, "exploration_fraction": 0.02}  # it was stopped in between
    (run / "args.json").write_text(json.dumps(own))
    assert resumed_words(task, run) == [*resume, "--exploration-fraction", "0.02"]
    assert resumed_words(longer(400), run)[:2] == resume


def test_a_sweep_is_not_made_longer_with_other_exploration_or_shorter(longer):
    with pytest.raises(ValueError, match=r"has --exploration-fraction 0\.1, not .* 0\.5"):
        longer(2000, 0.5)
    with pytest.raises(ValueError, match="has --total-timesteps 400, not --total-timesteps 300"):
        longer(300)


def test_a_run_without_a_checkpoint_is_not_made_longer(longer):
    folder = longer(400).folder
    shutil.rmtree(folder)
    with pytest.raises(ValueError, match="400 steps and no checkpoint to make it longer"):
        longer(2000)
    assert longer(400).finished


def test_a_sweep_that_was_made_longer_is_finished_and_its_record_says_how_it_began(tmp_path):
    words = [*SMALL, "--exploration-fraction", "0.5", "--total-timesteps"]
    for steps in ("100", "200"):
        tasks = plan(["qmix"], ["3m"], [1], tmp_path, passed=[*words, steps])
        (task,) = tasks
        task.folder.mkdir(parents=True, exist_ok=True)
        assert train(task, str(ROOT)) == 0
        assert task.finished
    record = records.read_record(task.record)
    assert record.last_step >= 200
    assert record.args["exploration_fraction"] == 0.25
    assert record.began_with == {"total_timesteps": 100, "exploration_fraction": 0.5}
    assert record.command.endswith(f"fraction {record.args['exploration_fraction']}")
    (again,) = plan(["qmix"], ["3m"], [1], tmp_path, passed=[*words, "200"])
    assert again.finished
    (longer,) = plan(["qmix"], ["3m"], [1], tmp_path, passed=[*words, "400"])
    (run,) = task.folder.glob("runs/*")
    assert not longer.finished
    assert resumed_words(longer, run)[2:] == ["--exploration-fraction", "0.125"]


def test_a_run_that_was_stopped_is_made_longer_and_its_record_says_how_it_began(tmp_path):
    def planned(steps: int) -> Task:
        words = [*SMALL, "--checkpoint-every", "1", "--exploration-fraction", "0.5"]
        passed = [*words, "--total-timesteps", str(steps)]
        return plan(["qmix"], ["3m"], [1], tmp_path, passed=passed)[0]

    task = planned(10**6)
    task.folder.mkdir(parents=True)
    run = task.folder / "runs/run"
    args = MODULES["qmix"].Args(**task.args | {"total_timesteps": 100})
    MODULES["qmix"].train(args, folder=run)  # without a record, it counts as stopped
    task = planned(200)
    assert train(task, str(ROOT)) == 0
    task.record.unlink()
    planned(200)  # stopped again, or before that
    task = planned(400)
    assert train(task, str(ROOT)) == 0
    record = records.read_record(task.record)
    assert (record.last_step >= 400, record.args["exploration_fraction"]) == (True, 0.125)
    assert record.began_with == {"total_timesteps": 100, "exploration_fraction": 0.5}
    assert planned(400).finished


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_curves_that_are_a_pipe_are_refused(tmp_path):
    write_run(tmp_path, "qmix", "3m", 1, [0.5, 1.0])
    (folder,) = tmp_path.iterdir()
    for path in folder.glob("*tfevents*"):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(ValueError, match=r"tfevents.* is not a file"):
        records.read_run(folder)


def test_a_record_that_is_no_text_is_refused_in_a_short_line(tmp_path):
    path = tmp_path / "smaclite__3m__qmix__1.json"
    path.write_bytes(b"\xff" + b"x" * 5000)
    with pytest.raises(ValueError, match="is not the record of a run") as caught:
        records.read_record(path)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["3m\0", "\ud83c", "a\nb"])
def test_names_that_cannot_be_printed_are_refused(tmp_path, name):
    write_run(tmp_path, "qmix", "3m", 1, [0.5, 1.0])
    (folder,) = tmp_path.iterdir()
    args = json.loads((folder / "args.json").read_text())
    (folder / "args.json").write_text(json.dumps(args | {"env_name": name}))
    with pytest.raises(ValueError, match="env_name must be a word"):
        records.read_run(folder)


# One run, with small programs in place of the scripts


def task_of(folder: Path, *command: str) -> Task:
    folder.mkdir(parents=True, exist_ok=True)
    return Task(folder.name, folder, list(command), {"device": "cpu"})


def saved_run(folder: Path):
    """A run of a sweep that has a checkpoint, and all its evaluations."""
    write_run(folder / "runs", "qmix", "3m", 1, [0.5, 1.0])
    (run,) = folder.glob("runs/*")
    (run / "checkpoint.pt").touch()
    return run


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_again(tmp_path):
    task = task_of(tmp_path / "run", "-c", "import sys; sys.exit(len(sys.argv))")
    (task.folder / "runs/broken").mkdir(parents=True)
    (task.folder / "runs/broken/checkpoint.pt.tmp").touch()
    assert train(task, "") == 1
    assert not (task.folder / "runs").exists()


def test_a_run_with_a_checkpoint_is_resumed_in_its_folder_with_one_thread(tmp_path):
    program = "import os, sys; print(sys.argv[1:], os.environ['OMP_NUM_THREADS'], os.getcwd())"
    task = task_of(tmp_path / "run", "-c", program, "--seed", "1")
    run = saved_run(task.folder)
    (run / "checkpoint.pt").rename(run / "checkpoint.old")
    assert train(task, "") == 0
    says = f"['--seed', '1', '--resume', 'runs/{run.name}'] 1 {task.folder}\n"
    assert (task.folder / "log.txt").read_text().endswith(says)


def test_a_run_is_finished_only_when_its_script_has_ended_with_status_0(tmp_path):
    task = task_of(tmp_path / "run", "-c", "import sys; sys.exit(3)")
    saved_run(task.folder)
    assert train(task, "") == 3
    assert not task.record.exists()
    task.command[1] = ""
    assert train(task, "") == 0
    assert task.record.exists()


def test_a_script_that_ends_with_status_0_without_a_finished_run_has_failed(tmp_path):
    task = task_of(tmp_path / "run", "-c", "")
    assert train(task, "") == 1
    assert not task.record.exists()
    assert "its run is not finished" in progress.tail(task.folder)


def test_a_record_has_the_command_the_versions_and_the_evaluations(copied, tmp_path):
    words = [*SMALL, "--total-timesteps", "300"]
    (task,) = plan([str(copied)], ["3m"], [1], tmp_path / "sweep", passed=words)
    task.folder.mkdir(parents=True)
    assert train(task, str(ROOT)) == 0
    record = records.read_record(task.record)
    assert record.command == shlex.join(["python", "my_qmix.py", *task.command[1:]])
    assert f"torch {torch.__version__.partition('+')[0]}" in record.versions
    assert f"{os.cpu_count()} cores" in record.machine
    (run_folder,) = task.folder.glob("runs/*")
    session = json.loads((run_folder / "run.json").read_text())[-1]
    assert (record.commit, record.version) == (session["commit"], session["version"])
    assert (record.script, record.metric) == ("my_qmix", "win rate")
    assert (record.args["batch_size"], record.args["gamma"]) == (4, 0.9)
    evaluations = scalars(run_folder)["eval/battle_won"]
    assert record.steps.tolist() == [step for step, _ in evaluations]
    assert record.values == pytest.approx([value for _, value in evaluations], abs=1e-4)


def test_a_finished_run_keeps_its_team_beside_its_record(tmp_path):
    task = task_of(tmp_path / "smaclite__3m__qmix__1", "-c", "")
    run = saved_run(task.folder)
    content = {name: name.encode() for name in ("team.json", "best.pt", "model.pt")}
    for name, text in content.items():
        (run / name).write_bytes(text)
    content["args.json"] = (run / "args.json").read_bytes()
    before = records.read_all(tmp_path)
    assert train(task, "") == 0
    assert task.team == tmp_path / "smaclite__3m__qmix__1.team"
    assert {path.name: path.read_bytes() for path in task.team.iterdir()} == content
    shutil.rmtree(task.folder)
    assert len(records.read_all(tmp_path)) == len(before) == 1


def test_a_run_that_saves_no_networks_keeps_no_team(tmp_path):
    task = task_of(tmp_path / "run", "-c", "")
    saved_run(task.folder)
    assert keep(task) == 0
    assert task.record.exists() and not task.team.exists()


def test_a_run_is_not_finished_if_its_team_cannot_be_kept(tmp_path):
    task = task_of(tmp_path / "run", "-c", "")
    (saved_run(task.folder) / "best.pt").touch()
    (task.team / "best.pt.tmp").mkdir(parents=True)
    with pytest.raises(OSError):
        keep(task)
    assert not task.record.exists()


def test_no_two_scripts_train_the_same_run(tmp_path):
    task = task_of(tmp_path / "run", "-c", "")
    saved_run(task.folder)
    with (task.folder / "log.txt").open("a") as log:  # like a script whose parent has died
        fcntl.flock(log, fcntl.LOCK_EX)
        other = Thread(target=train, args=(task, ""))
        other.start()
        time.sleep(0.5)
        assert is_training(task.folder) and not task.record.exists()
    other.join(10)
    assert task.record.exists() and not is_training(task.folder)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals that a parent has died")
def test_a_script_is_told_to_stop_when_its_parent_dies(tmp_path):
    program = "import signal, sys; signal.signal(15, lambda *_: (print('saves'), sys.exit())); "
    program += "print('on'); signal.pause()"
    parent = "import sys; from pathlib import Path; "
    parent += "from cleanmarl.benchmark.task import Task, train; "
    parent += "train(Task('', Path(sys.argv[1]), ['-c', sys.argv[2]], {}), '')"
    process = subprocess.Popen([sys.executable, "-c", parent, str(tmp_path), program])
    log = tmp_path / "log.txt"
    wait_for(lambda: log.exists() and log.read_text().endswith("on\n"))
    process.kill()
    wait_for(lambda: log.read_text().endswith("saves\n"))
    wait_for(lambda: not is_training(tmp_path))


def test_the_table_shows_the_progress_of_a_run(tmp_path):
    task = Task("qmix 3m 1", tmp_path, [], {})
    assert progress.look(task, None) == ("qmix 3m 1", "", "", "", "", "waiting")
    path = tmp_path / "runs/run/status.json"
    path.parent.mkdir(parents=True)
    status = {"step": 50, "total_timesteps": 90, "seconds": 2.0, "eval/ep_reward": 7.0}
    path.write_text(json.dumps(status))
    row = ("qmix 3m 1", "50", "25.0", "reward 7.00", "00:01", "running")
    assert progress.look(task, "running") == row
    path.write_text(json.dumps(status | {"eval/battle_won": 0.75}))
    assert progress.look(task, "running")[3] == "win rate 0.75"


def test_the_table_counts_running_and_failed_runs():
    rows = [("run", "", "", "", "", state) for state in ("failed with exit status 1", "running")]
    table = progress.table(rows)
    assert table.title == "2 runs: 1 failed, 1 running" and table.row_count == 2


def test_the_scripts_report_their_progress_while_they_train(tmp_path):
    trained("qmix", tmp_path / "runs/run", **TWO_STEPS, eval_steps=1, log_every=1)
    _, steps, speed, evaluation, _, _ = progress.look(Task("", tmp_path, [], {}), "running")
    assert 0 < int(steps) <= 40 and speed and evaluation.startswith("reward")


# Whole sweeps


SCRIPT = """
import pathlib, signal, sys
def save(*_):
    pathlib.Path("saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("begins", flush=True)
if not pathlib.Path("saved").exists():
    signal.pause()
"""


@pytest.fixture
def plan_for(tmp_path, monkeypatch):
    """`plan_for(programs)`: the next sweep runs these small programs, name -> text."""

    def plan_for(programs: dict[str, str]) -> list[Task]:
        tasks = [task_of(tmp_path / name, "-c", text) for name, text in programs.items()]
        monkeypatch.setattr(benchmark, "plan", lambda *_: tasks)
        return tasks

    return plan_for


def test_a_run_that_fails_says_so_at_the_end_and_the_others_finish(
    call, cluster, tmp_path, plan_for
):
    plan_for({"bad": "import sys; print('no more gold'); sys.exit(5)", "good": ""})
    saved_run(tmp_path / "good")
    status, out, err = call("run", "--address", cluster.address)
    assert (status, err) == (1, "")
    assert "good: finished" in out
    assert f"bad failed with exit status 5; {tmp_path / 'bad/log.txt'} ends with\n  $ python" in out
    assert "\n  no more gold\n1 of 2 runs are finished" in out


def test_at_ctrl_c_the_scripts_save_and_the_same_command_resumes_them(
    call, cluster, tmp_path, plan_for
):
    plan_for({"one": SCRIPT, "two": SCRIPT})
    for name in ("one", "two"):
        saved_run(tmp_path / name)
    log = tmp_path / "one/log.txt"

    def press():
        wait_for(lambda: log.exists() and log.read_text().endswith("begins\n"))
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=press).start()
    status, out, _ = call("run", "--address", cluster.address)
    says = "0 of 2 runs are finished; the same command resumes the others"
    assert (status, out.splitlines()[-1]) == (130, says)
    assert (tmp_path / "one/saved").exists()
    assert not (tmp_path / "two/log.txt").exists()

    (tmp_path / "two/saved").touch()
    assert call("run", "--address", cluster.address)[0] == 0
    assert log.read_text().count("--resume runs/") == 2
    assert call("run", "--address", cluster.address) == (0, "2 of 2 runs are finished\n", "")


def test_a_sweep_in_the_background_of_a_shell_script_is_stopped_too(cluster, tmp_path):
    words = f"-m cleanmarl.benchmark run --seeds 1 --runs {tmp_path} --address {cluster.address} "
    words += "-- --total-timesteps 10000000"

    def ignore_ctrl_c():  # as a shell does for a background job
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    options = {"cwd": ROOT, "preexec_fn": ignore_ctrl_c, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *words.split()], **options)
    folder = tmp_path / "smaclite__3m__qmix__1"
    try:
        wait_for(lambda: list(folder.glob("runs/*/status.json")))
        process.terminate()
        assert process.wait(300) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert list(folder.glob("runs/*/checkpoint.pt"))


def test_a_sweep_that_loses_a_machine_ends_with_the_same_numbers(
    call, cluster, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    node = cluster.add_node(num_cpus=1)
    gone = tmp_path / "gone"
    were_training = []

    def kill():  # both runs hold at step 300
        wait_for(lambda: len(list(tmp_path.glob("sweep/*/runs/*/checkpoint.old"))) == 2)
        were_training.extend(map(is_training, tmp_path.glob("sweep/*")))
        cluster.remove_node(node, allow_graceful=False)
        gone.touch()

    Thread(target=kill).start()
    words = ["--envs", f"pz:tests.games:faulty at=300 until={gone}", "--seeds", "1", "2"]
    words += ["--", *SMALL, "--total-timesteps", "600"]
    status, out, _ = call("run", "--address", cluster.address, *words)
    assert (status, out.splitlines()[-1]) == (0, "2 of 2 runs are finished")
    assert were_training == [True, True]
    folders = [log.parent for log in tmp_path.glob("sweep/*/log.txt")]
    resumed = [f for f in folders if "--resume" in (f / "log.txt").read_text()]
    assert len(resumed) == 1
    (run,) = resumed[0].glob("runs/*")
    undisturbed = tmp_path / "undisturbed"
    qmix.train(qmix.Args(**json.loads((run / "args.json").read_text())), folder=undisturbed)
    assert equal_weights(run, undisturbed)
    curves, expected = scalars(run), scalars(undisturbed)
    del curves["charts/SPS"], expected["charts/SPS"]
    assert curves == expected


def test_runs_of_a_sweep_have_the_priority_of_its_command(monkeypatch):
    monkeypatch.delenv("RAY_worker_niceness", raising=False)
    sweep.connect(SimpleNamespace(init=lambda *_, **__: None), "", 1)
    assert os.getenv("RAY_worker_niceness") == "0"  # noqa: SIM112  Ray's own is 15


# Figures and tables


def write_run(
    folder: Path, script: str, env: str, seed: int, values: list, won=True, q_tot=(), **args
):
    """A run folder with an evaluation and a speed every 100 steps, which take a second."""
    kind = "smaclite" if won else "lbf"
    run = folder / f"{kind}__{env}__{script}__{seed}__20260101-000000"
    run.mkdir(parents=True)
    own = {"env_type": kind, "env_name": env, "env_family": "mpe", "seed": seed}
    own |= {"total_timesteps": 100 * len(values), "mixer": "qmix", "resume": ""}
    (run / "args.json").write_text(json.dumps(own | args))
    session = {"command": "python qmix.py", "commit": "1234567", "script": script}
    session |= {"versions": "torch 2", "machine": "2 cores"}
    (run / "run.json").write_text(json.dumps([session]))
    with SummaryWriter(str(run)) as writer:
        for i, value in enumerate(values, 1):
            writer.add_scalar("eval/ep_reward", value, 100 * i)
            if won:
                writer.add_scalar("eval/battle_won", value, 100 * i)
            writer.add_scalar("charts/SPS", 100, 100 * i)
        for i, value in enumerate(q_tot, 1):
            writer.add_scalar("train/q_tot", value, 10 * i)


def rows(path: Path) -> list[dict]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_tables_have_the_interquartile_mean_of_the_last_tenth_and_its_interval(call, tmp_path):
    final = [0.0, 0.5, 0.6, 0.7, 1.0]
    for seed, value in enumerate(final):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.0] * 9 + [value])
    status, out, _ = call("plot", "runs", "--out", "figures", "--reps", "500")
    (row,) = rows(tmp_path / "figures/results.csv")
    assert status == 0
    assert (row["environment"], row["metric"], row["script"]) == ("3m", "win rate", "qmix.py")
    assert (row["seeds"], row["steps"], row["minutes"]) == ("5", "1000", "0.2 0.2 0.2 0.2 0.2")
    assert float(row["IQM"]) == pytest.approx(np.mean(final[1:-1]))
    draws = np.sort(np.random.default_rng(1).choice(final, (20000, 5)), axis=1)[:, 1:-1].mean(1)
    interval = [float(row["low"]), float(row["high"])]
    assert interval == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.05)
    cells = ["3m", "`qmix.py`", "5", "1,000", "0.600"]
    assert f"| {' | '.join(cells)} | {row['low']} to {row['high']} |" in out
    assert out == (tmp_path / "figures/results.md").read_text()


@pytest.mark.parametrize(
    ("values", "evaluation"),
    [
        ([0.5, 1.0, 1.0, 1.0, 1.0], 4),
        ([1.0, 1.0, 0.9, 0.95, 0.95, 0.95, 0.0], 6),
        ([1.0, 1.0, 0.94, 1.0, 1.0], np.inf),
        ([1.0, 1.0], np.inf),
    ],
)
def test_a_team_wins_with_the_third_evaluation_in_a_row(tmp_path, values, evaluation):
    write_run(tmp_path, "qmix", "3m", 1, values)
    (run,) = records.read_all(tmp_path)
    assert run.until_won() == (100 * evaluation, evaluation)


def test_the_tables_have_the_median_time_to_win_over_the_seeds(call, tmp_path):
    wins = [[1.0] * 3 + [0.0] * 5, [0.0] + [1.0] * 7, [0.0] * 5 + [1.0] * 3, [0.0] * 8]
    for seed, values in enumerate(wins):
        write_run(tmp_path / "runs", "qmix", "3m", seed, values)
    for words, steps in (([], 600), (["--seeds", "0", "1", "3"], 400)):
        status, out, _ = call("plot", "runs", "--reps", "20", *words)
        (row,) = rows(tmp_path / "figures/results.csv")
        won = float(row["steps_to_win"]), float(row["seconds_to_win"])
        assert (status, won) == (0, (steps, steps / 100))
        assert f"| {steps // 100} s | {steps} |" in out


def test_if_half_of_the_seeds_never_win_the_median_is_never(call, tmp_path):
    for seed, value in enumerate([1.0, 0.0]):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [value] * 3)
    assert "to win" not in call("plot", "runs", "--reps", "20")[1]  # in no row
    write_run(tmp_path / "runs", "qmix", "8m", 1, [1.0] * 3)
    assert "| never | never |" in call("plot", "runs", "--reps", "20")[1]
    assert rows(tmp_path / "figures/results.csv")[0]["seconds_to_win"] == "inf"


def test_only_battles_are_won(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "Foraging-8x8-2p-3f-v3", 1, [1.0] * 4, won=False)
    assert "to win" not in call("plot", "runs")[1]
    write_run(tmp_path / "runs", "qmix", "3m", 1, [1.0] * 4)
    assert "to win" in call("plot", "runs")[1]
    won = {row["metric"]: row["steps_to_win"] for row in rows(tmp_path / "figures/results.csv")}
    assert won == {"reward": "", "win rate": "300.0"}


def test_a_metric_that_all_rows_share_is_in_the_head_of_their_scores(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [1.0])
    assert "| final win rate |" in call("plot", "runs")[1]
    write_run(tmp_path / "runs", "qmix", "Foraging-8x8-2p-3f-v3", 1, [1.0], won=False)
    out = call("plot", "runs")[1]
    assert "| final IQM |" in out and "| 3m | win rate |" in out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(34.4, "34 s"), (59.6, "1 min 0 s"), (187, "3 min 7 s"), (3780, "63 min 0 s")],
)
def test_a_duration_is_in_minutes_and_seconds(seconds, words):
    assert tables.duration(seconds) == words


def test_the_interquartile_mean_leaves_out_a_quarter_of_all_scores_at_each_end():
    values = np.random.default_rng(1).random((5, 3, 7))  # [seeds, tasks, points]
    expected = np.sort(values.reshape(15, 7), axis=0)[3:-3].mean(0)
    assert estimates.iqm(*values.swapaxes(0, 1)) == pytest.approx(expected)


def test_a_part_of_a_training_has_the_mean_of_its_evaluations(tmp_path):
    write_run(tmp_path, "qmix", "3m", 1, [0.0, 1.0, 1.0, 1.0])
    write_run(tmp_path, "qmix", "3m", 2, [0.4, 0.4, 0.8, 0.8])
    runs = records.read_all(tmp_path)
    ends, values = estimates.scores(runs, "steps", 2)
    assert ends.tolist() == [200, 400]
    assert values == pytest.approx(np.array([[0.5, 1.0], [0.4, 0.8]]))
    ends, values = estimates.scores(runs[:1], "seconds", 8)  # every other part is empty
    assert ends == pytest.approx(np.arange(1, 9) / 2)
    assert values == pytest.approx(np.array([[0, 0, 0.5, 1, 1, 1, 1, 1]]))
    runs[1].seconds = runs[1].seconds + 10  # its first evaluation comes after the other run's end
    assert estimates.scores(runs, "seconds", 2)[1] == pytest.approx(
        np.array([[0.5, 1.0], [0.4, 0.4]])
    )


def test_runs_with_other_options_are_kept_apart_and_unfinished_ones_left_out(call, tmp_path):
    for mixer, value in (("qmix", 1.0), ("vdn", 0.5)):
        for seed in (1, 2):
            values = [0.0] * 10 + [value] * 10
            write_run(tmp_path / "runs" / mixer, "qmix", "3m", seed, values, mixer=mixer)
    write_run(tmp_path / "runs", "qmix_lstm", "3m", 1, [0.0] * 3, total_timesteps=400)
    status, _, err = call("plot", "runs", "--out", "figures", "--reps", "500")
    found = {row["script"]: float(row["IQM"]) for row in rows(tmp_path / "figures/results.csv")}
    assert (status, found) == (0, {"qmix.py --mixer qmix": 1.0, "qmix.py --mixer vdn": 0.5})
    assert err.startswith("left out, because it is not finished: runs/smaclite__3m__qmix_lstm__1")


def test_an_evaluation_that_reports_no_success_has_none(tmp_path):
    write_run(tmp_path, "qmix", "chain", 1, [5.0] * 4, won=False)
    with SummaryWriter(str(next(tmp_path.iterdir()))) as writer:
        for step, value in ((200, 0.5), (300, 1.0)):
            writer.add_scalar("eval/success", value, step)
    (run,) = records.read_all(tmp_path)
    assert (run.metric, run.values.tolist()) == ("success rate", [0, 0.5, 1, 0])


def write_record(path: Path, record: records.Record):
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write_record(path, record)


def report_success(folder: Path, points: dict[int, float]):
    with SummaryWriter(str(folder)) as writer:
        for step, value in points.items():
            writer.add_scalar("eval/success", value, step)


def test_a_run_that_never_succeeds_has_a_success_rate_of_0(call, tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / "runs", "qmix", "chain", seed, [5.0] * 4, won=False)
    for run in sorted((tmp_path / "runs").iterdir())[:2]:
        report_success(run, {400: 0.6})
    assert call("plot", "runs", "--reps", "20")[0] == 0
    (row,) = rows(tmp_path / "figures/results.csv")
    assert (row["metric"], row["seeds"], row["worst_seed"]) == ("success rate", "3", "0.000")
    for folder in list((tmp_path / "runs").iterdir()):
        record = records.read_run(folder)
        write_record(tmp_path / f"kept/a__b__c__{record.seed}.json", record)
    assert call("plot", "kept", "--reps", "20", "--out", "kept")[0] == 0
    assert rows(tmp_path / "kept/results.csv") == [row]


def test_a_table_says_how_many_runs_it_leaves_out_and_why(call, tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.5] * 4)
    for seed in (3, 4):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.5] * 4, total_timesteps=900)
    write_run(tmp_path / "runs", "qmix", "8m", 1, [0.5] * 4, total_timesteps=900)
    write_run(tmp_path / "runs/again", "qmix", "3m", 2, [0.5] * 4)
    text = call("plot", "runs", "--reps", "20")[1]
    left_out = "2 runs in 3m (not finished), 1 run in 8m (not finished)"
    assert text.endswith(f"\nLeft out: {left_out}, 1 run in 3m (the seed is there twice).\n")
    text = call("plot", "runs", "--reps", "20", "--envs", "3m", "--seeds", "1", "3")
    assert text[0] == 2  # seed 3 has no finished run
    text = call("plot", "runs", "--reps", "20", "--envs", "3m", "--seeds", "1")[1]
    assert "Left out" not in text


def test_a_run_that_was_made_longer_by_hand_is_drawn_as_it_is_now(call, tmp_path):
    folder = tmp_path / "sweep/smaclite__3m__qmix__1"
    write_run(folder / "runs", "qmix", "3m", 1, [0.5] * 4)
    assert keep(task_of(folder, "-m", "cleanmarl.qmix")) == 0
    (run,) = folder.glob("runs/*")
    args = json.loads((run / "args.json").read_text())
    (run / "args.json").write_text(json.dumps(args | {"total_timesteps": 2000}))
    status, _, err = call("plot", "sweep", "--reps", "20")
    assert (status, rows(tmp_path / "figures/results.csv")[0]["steps"]) == (0, "400")
    says = "drawn to step 400, as recorded; it is being made longer: sweep/smaclite__3m__qmix__1"
    assert (err.startswith(says), err.count("\n")) == (True, 1)
    with SummaryWriter(str(run)) as writer:
        for tag in ("eval/ep_reward", "eval/battle_won"):
            writer.add_scalar(tag, 1.0, 2000)
    status, _, err = call("plot", "sweep", "--reps", "20")
    (row,) = rows(tmp_path / "figures/results.csv")
    assert (status, row["steps"], row["IQM"]) == (0, "2000", "1.000")
    says = "drawn to step 2000, its record ends at step 400: sweep/smaclite__3m__qmix__1"
    assert (err.startswith(says), err.count("\n")) == (True, 1)


def test_a_metric_is_drawn_from_runs_and_records(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5] * 4)
    (run,) = (tmp_path / "runs").iterdir()
    with SummaryWriter(str(run)) as writer:
        for step in (200, 400):
            writer.add_scalar("eval/ep_length", 7.0, step)
    write_record(tmp_path / "kept/a__b__c__1.json", records.read_run(run))
    for folder in ("runs", "kept"):
        assert call("plot", folder, "--metric", "eval/ep_length", "--out", folder)[0] == 0
        (row,) = rows(tmp_path / folder / "results.csv")
        assert (row["metric"], row["IQM"], row["steps_to_win"]) == ("eval/ep_length", "7.000", "")
    assert call("plot", "kept", "--metric", "eval/ep_reward")[0] == 0
    assert rows(tmp_path / "figures/results.csv")[0]["metric"] == "reward"
    says = "unknown metric 'eval/ep_rewad'; did you mean eval/ep_reward"
    status, out, err = call("plot", "kept", "--metric", "eval/ep_rewad")
    assert (status, out, says in err, err.count("\n")) == (2, "", True, 1)
    says = "unknown metric 'x'; known are eval/battle_won, eval/ep_length, eval/ep_reward"
    assert says in call("plot", "runs", "--metric", "x")[2]


def test_runs_without_a_metric_are_left_out_and_the_table_says_so(call, tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.5] * 4)
        record = records.read_run(next((tmp_path / "runs").glob(f"*__{seed}__*")))
        record.evaluations = record.evaluations if seed == 1 else None  # an old record
        write_record(tmp_path / f"kept/a__b__c__{seed}.json", record)
    status, out, _ = call("plot", "kept", "--metric", "eval/ep_reward")
    assert status == 0
    assert out.endswith("\nLeft out: 1 run in 3m (without eval/ep_reward).\n")
    assert "Left out" not in call("plot", "kept")[1]


def test_points_that_a_resumed_run_writes_again_are_not_worth_a_line(tmp_path, caplog):
    write_run(tmp_path, "qmix", "3m", 1, [0.5] * 4)
    (run,) = tmp_path.iterdir()
    with SummaryWriter(str(run), purge_step=300) as writer:
        for step in (300, 400):
            writer.add_scalar("eval/ep_reward", 1.0, step)
            writer.add_scalar("eval/battle_won", 1.0, step)
    assert records.read_run(run).values.tolist() == [0.5, 0.5, 1.0, 1.0]
    assert caplog.records == []


GOOD = {"env_type": "smaclite", "env_name": "3m", "seed": 1, "total_timesteps": 400}
ANY_JSON = [
    "[]",
    "{}",
    "1",
    "null",
    '"word"',
    "true",
    "",
    "{",
    "nan",
    "[1, {}]",
    "\xff\xfe",
    "[" * 9999,
]
ANY_JSON += ["[[]]", "[null]", "\0", "Infinity"]
WRONG_ARGS = [
    {"env_type": 3},
    {"env_name": None},
    {"env_name": ["3m"]},
    {"seed": "1"},
    {"seed": True},
    {"seed": 1.5},
    {"total_timesteps": "400"},
    {"total_timesteps": None},
    {"total_timesteps": [400]},
    {"env_options": [1]},
    {"env_options": None},
    {"env_family": 3},
    {"exploration_fraction": "much"},
]
WRONG_RECORD = [
    {"steps": []},
    {"steps": 3},
    {"steps": {}},
    {"steps": ["100", "200"]},
    {"steps": [100]},
    {"steps": [[100], [200]]},
    {"steps": [True, False]},
    {"steps": [10**400, 10**401]},
    {"seconds": None},
    {"seconds": [1.0]},
    {"seconds": [float("nan"), 1.0]},
    {"values": "0.5"},
    {"values": [0.5, None]},
    {"values": [0.5, float("inf")]},
    {"metric": "fame"},
    {"metric": 1},
    {"script": None},
    {"script": ["qmix"]},
    {"command": 7},
    {"machine": {}},
    {"args": []},
    {"args": "seed"},
    {"q_tot": [1]},
    {"q_tot": 3},
    {"q_tot": ["1", "2"]},
    {"evaluations": []},
    {"evaluations": {"eval/ep_reward": [1.0]}},
    {"evaluations": {"eval/ep_reward": "x"}},
    {"began_with": 3},
    {"version": 1},
]


@pytest.mark.parametrize(
    "text",
    [*ANY_JSON, *(json.dumps(GOOD | wrong) for wrong in WRONG_ARGS)],
    ids=str.__len__,
)
def test_a_damaged_args_json_is_named_in_one_line(call, tmp_path, begun, text):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5] * 4)
    (run,) = (tmp_path / "runs").iterdir()
    _, path = begun
    for file in (run / "args.json", path):
        file.write_bytes(text.encode("latin-1"))
    says = "args.json is not the args.json of a run: "
    status, out, err = call("plot", "runs")
    assert (status, out, err.count("\n"), says in err) == (2, "", 1, True)
    with pytest.raises(ValueError, match=says):
        plan(["qmix"], ["3m"], [1], tmp_path / "sweep", try_envs=False)


@pytest.mark.parametrize(
    "text", [*ANY_JSON, '[{"command": "x"}]', '[{"command": 1}]'], ids=str.__len__
)
def test_a_damaged_run_json_is_named_in_one_line(call, tmp_path, text):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5] * 4)
    (run,) = (tmp_path / "runs").iterdir()
    (run / "run.json").write_bytes(text.encode("latin-1"))
    status, out, err = call("plot", "runs")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "run.json is not the run.json of a run: " in err


@pytest.mark.parametrize(
    "wrong",
    [*ANY_JSON, *WRONG_RECORD, *({"args": GOOD | wrong} for wrong in WRONG_ARGS)],
    ids=lambda wrong: str(wrong)[:40],
)
def test_a_damaged_record_is_named_in_one_line(call, tmp_path, record, wrong):
    (task,) = plan(["qmix"], ["3m"], [1], tmp_path / "sweep", try_envs=False)
    task.folder.mkdir(parents=True)
    records.write_record(task.record, record)
    if isinstance(wrong, dict):
        wrong = json.dumps(json.loads(task.record.read_text()) | wrong)
    task.record.write_bytes(wrong.encode("latin-1"))
    says = f"{task.record.name} is not the record of a run: "
    status, out, err = call("plot", "sweep")
    assert (status, out, err.count("\n"), says in err) == (2, "", 1, True)
    with pytest.raises(ValueError, match=re.escape(says)):
        plan(["qmix"], ["3m"], [1], tmp_path / "sweep", try_envs=False)


@pytest.mark.parametrize("name", [one for one in records.Record.__dataclass_fields__][:10])
def test_a_record_without_a_field_is_named(call, tmp_path, record, name):
    path = tmp_path / "sweep/a__b__c__1.json"
    path.parent.mkdir()
    records.write_record(path, record)
    content = json.loads(path.read_text())
    del content[name]
    path.write_text(json.dumps(content))
    status, _, err = call("plot", "sweep")
    assert (status, f"is not the record of a run: {name} is missing" in err) == (2, True)


def test_damaged_curves_a_folder_and_a_pipe_in_place_of_a_file_are_named(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5] * 4)
    (run,) = (tmp_path / "runs").iterdir()
    for name in ("run.json", "args.json"):
        text = (run / name).read_text()
        (run / name).unlink()
        (run / name).mkdir()
        assert f"{name} is not the {name} of a run: " in call("plot", "runs")[2]
        (run / name).rmdir()
        os.mkfifo(run / name)
        assert "it is not a file" in call("plot", "runs")[2]
        (run / name).unlink()
        (run / name).write_text(text)
    (events,) = run.glob("events*")
    content = events.read_bytes()
    for damaged in (b"", b"x" * 500, content[: len(content) // 2], content[::-1]):
        events.write_bytes(damaged)
        status, out, err = call("plot", "runs")
        assert (status, out, "Traceback" in err) == (2, "", False)


def test_a_damaged_status_does_not_end_a_sweep(tmp_path):
    task = Task("qmix 3m 1", tmp_path, [], {})
    path = tmp_path / "runs/run/status.json"
    path.parent.mkdir(parents=True)
    for text in (*ANY_JSON, '{"step": "x", "seconds": 0, "total_timesteps": 3}'):
        path.write_bytes(text.encode("latin-1"))
        assert progress.look(task, None)[-1] == "waiting"


def test_times_between_points_of_the_speed_are_interpolated():
    points = [SimpleNamespace(step=step, value=100) for step in (100, 200)]
    events = SimpleNamespace(Tags=lambda: {"scalars": ["charts/SPS"]}, Scalars=lambda _: points)
    evaluations = [SimpleNamespace(step=step) for step in (50, 150)]
    assert records.times(events, evaluations).tolist() == [0.5, 1.5]


def test_a_run_that_is_just_beginning_does_not_disturb_the_others(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5])
    (tmp_path / "runs/new").mkdir()
    (tmp_path / "runs/new/args.json").write_text("{}")
    assert call("plot", "runs")[0] == 0


def test_a_run_is_drawn_under_its_script_in_any_folder(copied, call, tmp_path):
    (module, _) = planning.load_script(str(copied))
    words = ["--total-timesteps", "300", "--batch-size", "4", "--num-eval-ep", "1"]
    args = planning.read_arguments(module, words)
    module.train(args, folder=tmp_path / "runs/any name")
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5])
    assert call("plot", "runs", "--out", "figures")[0] == 0
    found = {row["script"]: row["seeds"] for row in rows(tmp_path / "figures/results.csv")}
    assert found == {"qmix.py": "1", "my_qmix.py": "1"}
    assert ">my_qmix.py<" in (tmp_path / "figures/curves_steps.svg").read_text()


def test_of_two_runs_with_the_same_seed_one_is_drawn_and_a_line_says_so(call, tmp_path):
    for folder in ("one", "two"):
        write_run(tmp_path / "runs" / folder, "qmix", "3m", 1, [0.5])
    status, _, err = call("plot", "runs", "--out", "figures")
    assert (status, err.count("\n")) == (0, 1)
    assert "two runs of qmix.py in 3m with seed 1" in err
    assert rows(tmp_path / "figures/results.csv")[0]["seeds"] == "1"


def test_the_interval_of_a_single_seed_is_its_value_and_is_not_shown(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.5])
    status, out, _ = call("plot", "runs", "--out", "figures")
    (row,) = rows(tmp_path / "figures/results.csv")
    assert status == 0
    assert row["IQM"] == row["low"] == row["high"] == "0.500"
    assert " to 0.500" not in out


def test_with_fewer_than_five_seeds_a_table_has_their_range(call, tmp_path):
    for seed, value in enumerate([0.1, 0.2, 0.6], 1):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [value])
    status, out, _ = call("plot", "runs", "--reps", "2")
    assert status == 0
    assert "| range of seeds |" in out and "95% interval" not in out
    assert "| 0.300 | 0.100 to 0.600 |" in out


def test_a_table_marks_the_ranges_among_its_intervals(call, tmp_path):
    for seed, value in enumerate([0.1, 0.2, 0.3, 0.4, 0.6], 1):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [value])
    for seed, value in enumerate([0.2, 0.8], 1):
        write_run(tmp_path / "runs", "qmix", "8m", seed, [value])
    status, out, _ = call("plot", "runs", "--reps", "20")
    assert status == 0
    assert "| 95% interval |" in out
    assert "| 0.200 to 0.800 (range) |" in out and out.count("(range)") == 1


@pytest.mark.parametrize("seeds", [[0.37, 0.3475, 0.395], [0.3475] * 5])
def test_no_interval_begins_below_the_worst_seed(call, tmp_path, seeds):
    for seed, value in enumerate(seeds, 1):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [value])
    assert call("plot", "runs", "--reps", "200")[0] == 0
    (row,) = rows(tmp_path / "figures/results.csv")
    assert row["low"] == row["worst_seed"]


def test_each_variant_has_its_own_line(call, tmp_path):
    for value in (0, 0.6):
        folder = tmp_path / f"runs/{value}"
        write_run(folder, "qmix", "3m", 1, [value], td_lambda=value, double_q=True)
    assert call("plot", "runs", "--out", "figures")[0] == 0
    scripts = [row["script"] for row in rows(tmp_path / "figures/results.csv")]
    assert scripts == ["qmix.py --td-lambda 0", "qmix.py --td-lambda 0.6"]


def test_the_figures_have_a_panel_for_each_environment_and_a_line_for_each_script(call, tmp_path):
    for script in ("qmix", "qmix_lstm"):
        for env in ("3m", "2s3z", "MMM", "8m", "Foraging-8x8-2p-3f-v3"):
            won = not env.startswith("Foraging")
            write_run(tmp_path / "runs", script, env, 1, [0.0, 0.5, 1.0], won)
    assert call("plot", "runs", "--out", "figures", "--reps", "20")[0] == 0
    expected = {
        "curves_steps": ["3m", "Foraging-8x8-2p-3f-v3", "reward (IQM)", "environment steps"],
        "curves_seconds": ["2s3z", "MMM", "win rate (IQM)", "minutes", "qmix_lstm.py"],
        "aggregate": ["4 battles", "IQM of the win rates", "median", "qmix_lstm.py"],
    }
    for name, texts in expected.items():
        picture = (tmp_path / f"figures/{name}.svg").read_text()
        assert [text for text in texts if f">{text}<" not in picture] == []


def test_the_same_runs_give_the_same_files(call, tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.0, 0.1 * seed, 1.0])
    for out in ("first", "second"):
        assert call("plot", "runs", "--out", out, "--reps", "20")[0] == 0
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}
        for out in ("first", "second")
    )
    assert len(first) == 5 and first == second


def test_a_legend_that_is_wider_than_the_panels_widens_the_figure(call, tmp_path):
    widths = []
    for scripts in (("qmix",), ("qmix_lstm", "qmix_memefficient")):
        for script in scripts:
            write_run(tmp_path / "runs", script, "3m", 1, [0.0, 0.5, 1.0])
        assert call("plot", "runs", "--out", "figures", "--reps", "20")[0] == 0
        picture = (tmp_path / "figures/curves_steps.svg").read_text()
        widths.append(float(re.search(r'width="([\d.]+)pt"', picture)[1]))
    assert widths[1] > widths[0]


def test_folders_are_drawn_together_and_some_environments_alone(call, tmp_path):
    for mixer in ("qmix", "vdn"):
        for env in ("3m", "8m", "MMM")[: 3 if mixer == "qmix" else 2]:
            write_run(tmp_path / mixer, "qmix", env, 1, [0.5], mixer=mixer)
    words = "plot qmix vdn --envs 8m 3m --out figures --reps 20"
    assert call(*words.split())[0] == 0
    found = [(row["environment"], row["script"]) for row in rows(tmp_path / "figures/results.csv")]
    scripts = ["qmix.py --mixer qmix", "qmix.py --mixer vdn"]
    assert found == [(env, script) for env in ("8m", "3m") for script in scripts]
    words = "plot qmix --envs smaclite:MMM maps/3m.toml --out named --reps 20"
    assert call(*words.split())[0] == 0
    assert [row["environment"] for row in rows(tmp_path / "named/results.csv")] == ["MMM", "3m"]
    says = "benchmark: error: no finished run of 2s3z; there are runs of 3m, 8m, MMM\n"
    assert call("plot", "qmix", "--envs", "3m", "2s3z") == (2, "", says)


def test_numbers_in_names_of_environments_are_in_order(call, tmp_path):
    names = ["3m", "8m", "10m_vs_11m", "MMM", "terran_5_vs_5", "terran_10_vs_10"]
    for env in reversed(names):
        write_run(tmp_path / "runs", "qmix_lstm" if env == "MMM" else "qmix", env, 1, [0.5])
    assert call("plot", "runs", "--out", "figures", "--reps", "20")[0] == 0
    assert [row["environment"] for row in rows(tmp_path / "figures/results.csv")] == names
    titles = re.findall(r">(\w+)</text>", (tmp_path / "figures/curves_steps.svg").read_text())
    assert [title for title in titles if title in names] == names


def test_plot_can_be_limited_to_some_seeds(call, tmp_path):
    for seed in (1, 2, 3, 4):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [seed / 4])
    assert call("plot", "runs", "--seeds", "2", "4", "--out", "figures", "--reps", "20")[0] == 0
    (row,) = rows(tmp_path / "figures/results.csv")
    assert (row["seeds"], row["IQM"]) == ("2", "0.750")
    says = "benchmark: error: no finished run with seed 0, 7; there are runs with 1, 2, 3, 4\n"
    assert call("plot", "runs", "--seeds", "7", "1", "0") == (2, "", says)


# Figures and tables for a paper


def luminance(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, as in the guidelines for web content (WCAG 2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    parts = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def test_text_in_figures_has_contrast_on_light_and_dark_pages(call, tmp_path):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.0, 1.0])
    assert call("plot", "runs", "--reps", "20")[0] == 0
    picture = (tmp_path / "figures/curves_steps.svg").read_text()
    light, dark = (luminance(colour) for colour in re.findall(r"\bcolor: (#\w+)", figures.FOLLOW))
    assert (1 + 0.05) / (light + 0.05) >= 4.5
    assert (dark + 0.05) / (luminance("#22272e") + 0.05) >= 4.5  # the lightest of dark pages
    assert f"<style>{figures.FOLLOW}</style>" in picture
    assert set(re.findall(r"<text style=\"[^\"]*?fill: (\S+?)[;\"]", picture)) == {"currentColor"}


def test_a_narrow_figure_has_a_panel_in_a_row_and_its_legend_above(call, tmp_path):
    for env in ("3m", "8m"):
        write_run(tmp_path / "runs", "qmix", env, 1, [0.0, 1.0])
    assert call("plot", "runs", "--reps", "20", "--columns", "1")[0] == 0
    picture = (tmp_path / "figures/curves_steps.svg").read_text()
    sides = ("width", "height")
    width, height = (float(re.search(rf'{side}="([\d.]+)pt"', picture)[1]) for side in sides)
    assert width < 4.06 * 72  # on 358 pixels of a phone, text of 9 points has at least 11 pixels
    assert height > 4 * 72
    places = {text: float(y) for y, text in re.findall(r'y="([\d.]+)"[^>]*>([^<]+)<', picture)}
    assert places["qmix.py"] < places["3m"] < places["8m"]


def test_each_of_the_four_scripts_has_one_look_in_all_figures():
    labels = ["qmix_lstm.py", "mine.py", "qmix.py --gamma 0.9", "qmix.py --gamma 0.99"]
    looks = figures.looks_of(labels)
    assert (
        looks["qmix_lstm.py"]
        == figures.looks_of(["qmix_lstm.py"])["qmix_lstm.py"]
        == figures.LOOKS[3]
    )
    assert looks["qmix.py --gamma 0.9"] == figures.LOOKS[0]
    many = figures.looks_of([f"mine.py --gamma {i}" for i in range(24)])
    assert len(set(many.values())) == 24


@pytest.fixture
def two_scripts(tmp_path):
    """Runs of two scripts in two battles; my_qmix is better in 3m, and as good in 8m."""
    finals = {("qmix", "3m"): [0.1, 0.2, 0.6], ("my_qmix", "3m"): [0.5, 0.7, 0.9]}
    finals |= {("qmix", "8m"): [0.5, 0.5, 0.5], ("my_qmix", "8m"): [0.5, 0.5]}
    for (script, env), values in finals.items():
        for seed, value in enumerate(values, 1):
            write_run(tmp_path / "runs", script, env, seed, [0.0] * 9 + [value])
    return finals


def test_scripts_are_compared_with_a_baseline(call, tmp_path, two_scripts):
    words = ["--baseline", "qmix", "--reps", "500", "--names", "my_qmix=Mine"]
    status, out, _ = call("plot", "runs", *words)
    (row,) = rows(tmp_path / "figures/comparison.csv")
    # 8 of 9 pairs in 3m; half of all in 8m
    assert (status, float(row["probability"])) == (0, pytest.approx((8 / 9 + 1 / 2) / 2))
    assert (row["script"], row["baseline"], row["environments"]) == ("Mine", "qmix.py", "2")
    assert 0.5 < float(row["low"]) < 8 / 9 < 2 * float(row["high"]) <= 1.5
    assert "| script | environments | probability of improvement over `qmix.py` |" in out
    assert "| Mine | 2 | 0.694 |" in out and out == (tmp_path / "figures/results.md").read_text()
    picture = (tmp_path / "figures/comparison.svg").read_text()
    for text in ("over qmix.py", "final win rate", "share of the runs above", "Mine", "qmix.py"):
        assert f">{text}<" in picture


def test_the_comparison_follows_its_definitions():
    x, y = [np.array([1.0, 2.0])], [np.array([1.0, 0.0, 3.0])]
    assert estimates.improvement(x, y) == pytest.approx((0.5 + 1 + 0 + 1 + 1 + 0) / 6)
    assert estimates.improvement(x, y) + estimates.improvement(y, x) == pytest.approx(1)
    tasks = [np.array([0.2, 0.8]), np.array([0.5, 0.5, 0.5])]
    above = estimates.profile(tasks, np.array([0.0, 0.2, 0.5, 0.9]))
    assert above == pytest.approx([1, (1 / 2 + 1) / 2, (1 / 2 + 0) / 2, 0])
    one = [np.array([0.7])]
    assert estimates.interval(estimates.improvement, [one, [np.array([0.2])]], 50) == (1, 1, 1)


def test_the_interval_of_an_improvement_is_that_of_resampled_seeds():
    x, y = np.array([0.1, 0.5, 0.6, 0.9]), np.array([0.2, 0.3, 0.7])
    _, low, high = estimates.interval(estimates.improvement, [[x], [y]], 4000)
    rng = np.random.default_rng(5)
    draws = []
    for _ in range(4000):
        drawn = [rng.choice(x, 4)], [rng.choice(y, 3)]
        draws.append(estimates.improvement(*drawn))
    assert (low, high) == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.09)


def test_rewards_of_several_environments_have_no_profiles(call, tmp_path):
    for env in ("Foraging-8x8-2p-3f-v3", "Foraging-8x8-2p-2f-coop-v3"):
        for script in ("qmix", "qmix_lstm"):
            write_run(tmp_path / "runs", script, env, 1, [1.0, 2.0], won=False)
    status, _, err = call("plot", "runs", "--baseline", "qmix", "--reps", "20")
    assert status == 0
    assert "no profiles: rewards of several environments cannot be compared" in err
    words = ["--envs", "lbf:Foraging-8x8-2p-3f-v3", "--baseline", "qmix", "--reps", "20"]
    assert "no profiles" not in call("plot", "runs", *words)[2]


@pytest.mark.parametrize(("kind", "begins"), [("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_figures_have_the_format_that_is_asked_for_and_are_the_same_each_time(
    call, tmp_path, kind, begins
):
    write_run(tmp_path / "runs", "qmix", "3m", 1, [0.0, 0.5, 1.0])
    for out in ("first", "second"):
        words = ["--out", out, "--reps", "20", "--format", kind]
        assert call("plot", "runs", *words)[0] == 0
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / out).glob(f"*.{kind}")}
        for out in ("first", "second")
    )
    assert len(first) == 3 and first == second
    assert all(content.startswith(begins) for content in first.values())


def test_names_stand_in_figures_and_tables(call, tmp_path):
    for script in ("qmix", "qmix_lstm"):
        for value in (0, 0.6):
            folder = tmp_path / f"runs/{value}"
            write_run(folder, script, "3m", 1, [0.5, 0.5], td_lambda=value)
    words = ["--names", "qmix=QMIX", "qmix_lstm.py --td-lambda 0=LSTM | one step", "--reps", "20"]
    status, out, _ = call("plot", "runs", *words)
    assert status == 0
    assert [row["script"] for row in rows(tmp_path / "figures/results.csv")] == [
        "QMIX --td-lambda 0",
        "QMIX --td-lambda 0.6",
        "LSTM | one step",
        "qmix_lstm.py --td-lambda 0.6",
    ]
    assert r"| LSTM \| one step |" in out and "| `qmix_lstm.py --td-lambda 0.6` |" in out
    assert ">QMIX --td-lambda 0.6<" in (tmp_path / "figures/curves_steps.svg").read_text()


def test_a_table_for_latex_has_the_cells_of_the_table(call, tmp_path, two_scripts):
    words = ["--latex", "--names", r"qmix=QMIX & $\lambda$", "--baseline", "my_qmix"]
    assert call("plot", "runs", *words, "--reps", "20")[0] == 0
    text = (tmp_path / "figures/results.tex").read_text()
    assert text.startswith("\\begin{tabular}{llrrrrr}\n\\toprule\nenvironment & script & seeds &")
    assert "& range of seeds &" in text
    assert r"3m & \texttt{my\_qmix.py} & 3 & 0.700 &" in text
    assert r"3m & QMIX \& $\lambda$ & 3 & " in text  # formulas are the user's own
    improvement = (tmp_path / "figures/comparison.tex").read_text()
    assert r"over \texttt{my\_qmix.py}" in improvement


def test_a_suite_is_drawn_with_names_in_a_format_and_for_latex(call, mine):
    write_run(Path("runs"), "qmix", "3m", 1, [1.0] * 4, gamma=0.9, double_q=False)
    words = [
        "--suite",
        mine,
        "--names",
        "qmix=QMIX",
        "qmix_lstm=LSTM",
        "--latex",
        "--format",
        "pdf",
    ]
    assert call("plot", "runs", *words, "--reps", "20", "--metric", "eval/ep_reward")[0] == 0
    found = rows(Path("figures/results.csv"))
    assert [row["script"] for row in found] == ["LSTM", "LSTM", "QMIX", "QMIX"]
    assert found[2]["metric"] == "reward"
    assert {path.name for path in Path("figures").iterdir()} == {
        "battles.pdf",
        "results.csv",
        "results.md",
        "results.tex",
    }
    assert r"battles & 3m & QMIX & " in Path("figures/results.tex").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--baseline qmx", "unknown --baseline 'qmx'; did you mean qmix.py"),
        ("--baseline qmix --envs 8m --seeds 3", "no other script shares an environment"),
        ("--names qmix", "a name must be like qmix=\"QMIX\", got 'qmix'"),
        ("--names qmix=", 'a name must be like qmix="QMIX"'),
        ("--names qmax=A", "unknown script in --names 'qmax'; did you mean qmix"),
        ("--names qmix=A my_qmix=A", "would give qmix.py and my_qmix.py the same name, A"),
        ("--suite field --baseline qmix", "--baseline compares scripts in the same environments"),
        ("--metric eval/won", "unknown metric 'eval/won'; did you mean eval/battle_won"),
    ],
)
def test_wrong_options_of_a_figure_are_refused_in_one_line(
    call, tmp_path, two_scripts, words, says
):
    status, out, err = call("plot", "runs", *words.split(), "--reps", "20")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert not (tmp_path / "figures").exists()


def test_records_say_what_the_run_folders_said(call, tmp_path):
    for seed in (1, 2):
        folder = tmp_path / f"sweep/smaclite__3m__qmix__{seed}/runs"
        write_run(folder, "qmix", "3m", seed, [0.0, seed / 3])
    assert call("plot", "sweep", "--out", "before", "--reps", "50")[0] == 0
    for folder in (tmp_path / "sweep").iterdir():
        assert keep(task_of(folder, "-m", "cleanmarl.qmix")) == 0
    assert call("plot", "sweep", "--out", "both", "--reps", "50")[0] == 0
    for folder in (tmp_path / "sweep").glob("*/"):
        shutil.rmtree(folder)
    record = json.loads((tmp_path / "sweep/smaclite__3m__qmix__2.json").read_text())
    assert (record["steps"], record["values"]) == ([100, 200], [0.0, 0.6667])
    assert (record["commit"], record["command"]) == ("1234567", "python -m cleanmarl.qmix")
    assert call("plot", "sweep", "--out", "after", "--reps", "50")[0] == 0
    folders = ("before", "both", "after")
    before, both, after = (rows(tmp_path / name / "results.csv") for name in folders)
    assert before == both == after and after[0]["seeds"] == "2"


def test_a_file_that_is_not_a_record_is_named(call, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep/smaclite__3m__qmix__3.json").write_text("[]")
    status, _, err = call("plot", "sweep")
    assert (status, err.count("\n")) == (2, 1)
    assert "sweep/smaclite__3m__qmix__3.json is not the record of a run" in err


def test_a_record_has_the_lowest_and_the_highest_q_tot(tmp_path):
    write_run(tmp_path, "qmix", "3m", 1, [0.5], q_tot=[0.0, 4.5, -70.25, 3.0])
    (record,) = records.read_all(tmp_path)
    assert record.q_tot == [-70.25, 4.5]
    write_record(tmp_path / "record.json", record)
    assert records.read_record(tmp_path / "record.json").q_tot == [-70.25, 4.5]


@pytest.mark.parametrize("entry", ['"q_tot": null', '"version": ""'])
def test_records_that_were_made_without_an_entry_are_read(tmp_path, record, entry):
    write_record(tmp_path / "record.json", record)
    text = (tmp_path / "record.json").read_text()
    assert entry in text
    (tmp_path / "record.json").write_text(text.replace(f",\n{entry}", ""))
    name = entry.split('"')[1]
    assert not getattr(records.read_record(tmp_path / "record.json"), name)


# Suites

SUITE = """
[arguments]
num_eval_ep = 8

[[tasks]]
family = "foraging"
envs = ["lbf:Foraging-8x8-2p-3f-v3", "lbf:Foraging-8x8-2p-2f-coop-v3"]
script = "qmix_lstm"
total_timesteps = 3000

[[tasks]]
family = "battles"
envs = ["3m"]
total_timesteps = 2000
seeds = [1, 2, 3, 4]
arguments = { gamma = 0.9, double_q = false }

[[tasks]]
family = "games"
envs = ["pz:tests.games:two_step_game"]
total_timesteps = 1000
seeds = [7]
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A small suite in the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(SUITE)
    return "mine.toml"


def plan_suite(name: str, **options) -> list[Task]:
    return plan((), (), options.pop("seeds", ()), suite=name, **options)


def test_a_suite_is_trained_with_the_first_seeds_first_and_of_these_the_shortest_runs(mine):
    folders = [task.folder.name for task in plan_suite(mine)]
    foraging = [
        "lbf__Foraging-8x8-2p-3f-v3__qmix_lstm",
        "lbf__Foraging-8x8-2p-2f-coop-v3__qmix_lstm",
    ]
    first = ["pz__two_step_game__qmix__7", "smaclite__3m__qmix__1"]
    assert folders[:4] == [*first, *(f"{name}__1" for name in foraging)]
    assert folders[4:7] == ["smaclite__3m__qmix__2", *(f"{name}__2" for name in foraging)]
    assert folders[-1] == "smaclite__3m__qmix__4"
    assert not Path("sweep").exists()


def test_a_task_of_a_suite_has_its_arguments_and_those_of_the_suite(mine):
    (battle, *_) = plan_suite(mine, families=["battles"])
    names = ("num_eval_ep", "total_timesteps", "gamma", "double_q", "eval_steps")
    assert [battle.args[name] for name in names] == [8, 2000, 0.9, False, 50]
    assert battle.command[:2] == ["-m", "cleanmarl.qmix"]
    (foraging, *_) = plan_suite(mine, families=["foraging"])
    assert [foraging.args[name] for name in names] == [8, 3000, 0.99, True, 50]


def test_words_after_the_dashes_win_over_a_suite(mine):
    passed = ["--total-timesteps", "50", "--num_eval_ep=2", "--double-q"]
    tasks = plan_suite(mine, passed=passed)
    assert {task.args["total_timesteps"] for task in tasks} == {50}
    assert {task.args["num_eval_ep"] for task in tasks} == {2}
    assert {task.args["double_q"] for task in tasks} == {True}
    assert {task.args["gamma"] for task in tasks} == {0.9, 0.99}
    assert all(task.command.count("--total-timesteps") == 1 for task in tasks)


def test_tasks_of_a_suite_are_chosen_by_family_environment_and_seed(mine):
    def titles(**options) -> list[str]:
        return [task.title for task in plan((), suite=mine, **{"envs": (), "seeds": ()} | options)]

    assert titles(families=["games"]) == ["qmix pz:tests.games:two_step_game 7"]
    assert len(titles(families=["games", "battles"])) == 5
    assert titles(envs=["3m"], seeds=[5, 6]) == ["qmix 3m 5", "qmix 3m 6"]
    coop = "qmix_lstm lbf:Foraging-8x8-2p-2f-coop-v3"
    for env in ("lbf:Foraging-8x8-2p-2f-coop-v3", "Foraging-8x8-2p-2f-coop-v3"):
        assert titles(envs=[env], seeds=[9]) == [f"{coop} 9"]


def test_the_command_trains_the_suite_that_it_is_given(call, mine, monkeypatch):
    trained = []
    monkeypatch.setattr(benchmark, "sweep", lambda tasks, *_: trained.extend(tasks) or 0)
    words = ["--suite", mine, "--families", "battles", "--seeds", "2", "--", "--gamma", "0.5"]
    assert call("run", *words)[0] == 0
    assert [task.title for task in trained] == ["qmix 3m 2"]
    assert trained[0].args["gamma"] == 0.5
    trained.clear()
    assert call("run", "--suite", mine)[0] == 0
    assert len(trained) == 3 + 3 + 4 + 1


def test_your_own_script_is_trained_on_a_suite(copied, mine):
    Path(mine).write_text(SUITE.replace('"qmix_lstm"', '"./my_qmix.py"'))
    task = plan_suite(mine, families=["foraging"])[0]
    assert task.folder.name == "lbf__Foraging-8x8-2p-3f-v3__my_qmix__1"
    assert task.command[0] == str(copied)
    assert read_suite(mine)[0].script_name == "my_qmix"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('family = "games"', 'fmaily = "games"', "tasks[2].fmaily: unknown field; did you mean"),
        ('family = "games"', "", "tasks[2].family: missing"),
        ('family = "games"', 'family = "my games"', "tasks[2].family: expected a word of letters"),
        ("[arguments]", "[argument]", "mine.toml: argument: unknown field; did you mean arguments"),
        ("num_eval_ep = 8", "num_eval = 8", "mine.toml: arguments.num_eval: unknown argument of"),
        ("num_eval_ep = 8", 'num_eval_ep = "8"', "--num-eval-ep must be a whole number, got '8'"),
        ("num_eval_ep = 8", "seed = 8", "mine.toml: arguments.seed: the sweep sets it"),
        ("gamma = 0.9", "gama = 0.9", "tasks[1].arguments.gama: unknown argument of qmix.py; did"),
        ("gamma = 0.9", "gamma = 2", "tasks[1]: --gamma must be from 0 to 1, got 2"),
        ("gamma = 0.9", "gamma = [1]", "tasks[1]: --gamma must be a number, got [1]"),
        ("gamma = 0.9", "total_timesteps = 9", "tasks[1].total_timesteps: is in arguments, too"),
        ("{ gamma = 0.9, double_q = false }", "3", "tasks[1].arguments: expected a table of arg"),
        (
            "timesteps = 2000",
            "timesteps = 2e3",
            "tasks[1].total_timesteps: expected a whole number",
        ),
        ("timesteps = 2000", "timesteps = 0", "tasks[1].total_timesteps: expected a whole number"),
        ("[1, 2, 3, 4]", "[1, 2, 2]", "tasks[1].seeds: expected a list of seeds, each once"),
        ("[1, 2, 3, 4]", "[]", "tasks[1].seeds: expected a list of seeds, each once, got []"),
        ("[1, 2, 3, 4]", '["1"]', "tasks[1].seeds[0]: expected a whole number"),
        ('["3m"]', '["4m"]', "tasks[1].envs: unknown map '4m'; did you mean 8m"),
        ('["3m"]', '"3m"', "tasks[1].envs: expected a list of names"),
        ('["3m"]', "[]", "tasks[1].envs: give an environment"),
        ('["3m"]', '["3m", "3m"]', "tasks[1].envs: 3m is there twice with qmix"),
        ('["3m"]', '["3m walls"]', "tasks[1].envs: unknown map '3m walls'"),
        ('["3m"]', '["3m a=1 b"]', "tasks[1].envs: an option must be like N=5, got 'b'"),
        ('"qmix_lstm"', '"qmix_lsmt"', "tasks[0].script: there is no script 'qmix_lsmt'; did you"),
        ('"qmix_lstm"', "1", "tasks[0].script: expected a name or a path, got 1"),
        ("[[tasks]]", "[[task]]", "mine.toml: task: unknown field; did you mean tasks"),
        (SUITE, "", "mine.toml: tasks: a suite needs a task, [[tasks]]"),
        (SUITE, "[tasks]", "mine.toml: tasks: expected tables [[tasks]], got {}"),
        (SUITE, "tasks = [1]", "mine.toml: tasks[0]: expected a table with family, envs"),
        ("[arguments]", "[arguments", "mine.toml: Expected"),
    ],
)
def test_a_wrong_suite_is_refused_in_one_line_that_names_the_file_and_the_key(
    call, mine, old, new, says
):
    assert old in SUITE
    Path(mine).write_text(SUITE.replace(old, new))
    status, out, err = call("run", "--suite", mine)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("benchmark: error: mine.toml: ")
    assert says in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--suite fild", "there is no suite 'fild'; did you mean field?"),
        ("--suite no.toml", "there is no suite 'no.toml'; give field, or a TOML file"),
        (
            "--suite field --families matrices",
            "unknown family of field 'matrices'; did you mean ma",
        ),
        ("--suite mine.toml --envs 4m", "unknown task of mine.toml '4m'; did you mean 3m"),
        ("--suite mine.toml --families games --envs 3m", "unknown task of mine.toml '3m'"),
        ("--families games", "--families chooses tasks of a suite: give --suite, too"),
    ],
)
def test_a_wrong_choice_of_a_suite_is_refused_in_one_line(call, mine, words, says):
    for command in ("run", "plot runs"):
        status, out, err = call(*command.split(), *words.split())
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert says in err


@pytest.mark.parametrize("words", ["--scripts qmix", "--variants gamma=1"])
def test_a_suite_has_its_own_scripts_and_arguments(call, mine, words):
    status, _, err = call("run", "--suite", mine, *words.split())
    assert (status, err.count("\n")) == (2, 1)
    assert f"--suite has scripts and arguments, so no {words.split()[0]}: copy the suite" in err


def test_a_missing_package_is_named_with_its_remedies(call, mine):
    Path(mine).write_text(SUITE.replace('"games"', '"games"\npackage = "no_such_package"'))
    status, _, err = call("run", "--suite", mine)
    says = "tasks of games need no_such_package, which is not installed: pip install "
    says += "no_such_package; to train the rest, give --families foraging battles\n"
    assert (status, err) == (2, f"benchmark: error: {says}")
    assert len(plan_suite(mine, families=["foraging", "battles"])) == 10
    err = call("run", "--suite", mine, "--families", "games")[2]
    assert err.endswith("pip install no_such_package\n")


FAMILIES = dict.fromkeys(task.family for task in read_suite("field"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_environments_of_the_suite_of_the_field_open(tmp_path, family):
    for task in choose_tasks("field", [family]):
        if task.package:
            pytest.importorskip(task.package)
    tasks = plan_suite("field", families=[family], runs=tmp_path)
    assert len({task.args["env_name"] for task in tasks}) > 0
    assert {task.args["num_eval_ep"] for task in tasks} <= {1, 32}


def test_the_table_of_a_suite_has_a_row_for_each_task_in_its_order(call, mine):
    for seed in (1, 2):
        values, q_tot = [0.0] * 9 + [0.5 * seed], [0.5, -1234.5 * seed]
        write_run(Path("runs"), "qmix_lstm", "Foraging-8x8-2p-3f-v3", seed, values, False, q_tot)
    for seed in (1, 2, 3, 4, 5):
        write_run(Path("runs"), "qmix", "3m", seed, [1.0] * 4, gamma=0.9, double_q=False)
    write_run(Path("runs"), "qmix_lstm", "3m", 1, [0.0])  # another script
    write_run(Path("runs"), "qmix", "8m", 1, [0.0])  # another environment
    status, out, _ = call("plot", "runs", "--suite", mine, "--out", "figures", "--reps", "20")
    assert (status, out) == (0, Path("figures/results.md").read_text())
    missing = "foraging (Foraging-8x8-2p-2f-coop-v3); games (two_step_game)"
    assert out.endswith(f"\n\nnot trained yet: {missing}\n")
    lines = [line for line in out.splitlines() if line.startswith("|")]
    head, _, *body = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert [row[:2] for row in body] == [["foraging", "Foraging-8x8-2p-3f-v3"], ["battles", "3m"]]
    lstm, battle = [dict(zip(head, row, strict=True)) for row in body]
    assert (lstm["script"], lstm["arguments"], lstm["seeds"]) == ("`qmix_lstm.py`", "", "2 of 3")
    assert (lstm["metric"], lstm["final score"], lstm["worst seed"]) == ("reward", "0.750", "0.500")
    assert (lstm["steps"], lstm["minutes"]) == ("1,000", "0.2")
    assert lstm["largest `train/q_tot`"] == "2,469.00"
    assert (battle["arguments"], battle["seeds"]) == ("`--gamma 0.9 --no-double-q`", "4")
    assert (battle["time to win"], battle["largest `train/q_tot`"]) == ("3 s", "")
    listed = rows(Path("figures/results.csv"))
    assert [row["seeds"] for row in listed] == ["2", "0", "4", "0"]
    assert [row["largest_q_tot"] for row in listed] == ["2469.0", "", "", ""]


def test_runs_of_a_task_with_several_settings_have_a_row_each(call, mine):
    for gamma in (0.9, 0.95):
        write_run(Path(f"runs/{gamma}"), "qmix", "3m", 1, [1.0], gamma=gamma)
    out = call("plot", "runs", "--suite", mine, "--families", "battles", "--reps", "20")[1]
    assert [row["arguments"] for row in rows(Path("figures/results.csv"))] == [
        "--gamma 0.9",
        "--gamma 0.95",
    ]
    assert out.count("1 of 4") == 2


def test_a_suite_has_a_figure_for_each_family_with_a_panel_for_each_task(call, mine):
    for env in ("Foraging-8x8-2p-3f-v3", "Foraging-8x8-2p-2f-coop-v3"):
        write_run(Path("runs"), "qmix_lstm", env, 1, [0.5, 1.0], won=False)
    write_run(Path("runs"), "qmix", "3m", 1, [0.5, 1.0])
    words = ("--suite", mine, "--out", "figures", "--reps", "20")
    assert call("plot", "runs", *words)[0] == 0
    figures = {path.stem: path.read_text() for path in Path("figures").glob("*.svg")}
    assert figures.keys() == {"foraging", "battles"}
    for text in (
        "Foraging-8x8-2p-3f-v3",
        "Foraging-8x8-2p-2f-coop-v3",
        "qmix_lstm.py",
        "reward (IQM)",
    ):
        assert f">{text}<" in figures["foraging"]
    assert ">win rate (IQM)<" in figures["battles"] and ">qmix_lstm.py<" not in figures["battles"]


def test_the_table_of_a_suite_has_other_seeds_if_they_are_given(call, mine):
    for seed in (1, 8):
        write_run(Path("runs"), "qmix", "3m", seed, [seed / 8])
    words = ("--suite", mine, "--envs", "3m", "--seeds", "8", "9", "--reps", "20")
    assert call("plot", "runs", *words)[0] == 0
    (row,) = rows(Path("figures/results.csv"))
    assert (row["seeds"], row["of_seeds"], row["IQM"]) == ("1", "2", "1.000")


def test_tasks_of_equal_names_in_two_packages_are_kept_apart(call, mine):
    own = {"env_type": "pz", "env_family": "my_games"}
    write_run(Path("runs"), "qmix", "two_step_game", 7, [3.0], won=False, **own)
    out = call("plot", "runs", "--suite", mine, "--families", "games", "--reps", "20")[1]
    assert out.endswith("not trained yet: games (two_step_game)\n")


def test_the_suite_of_the_page_is_planned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (text,) = (text for text in blocks(ROOT / "docs/benchmark.md", "text") if "[[tasks]]" in text)
    Path("my_suite.toml").write_text(text)
    assert len(plan_suite("my_suite.toml", families=["battles"])) == 2 * 5


def test_a_suite_without_any_run_says_so(call, mine):
    says = "benchmark: error: no finished run in nowhere\n"
    assert call("plot", "nowhere", "--suite", mine) == (2, "", says)


RESULTS = ROOT / "docs/results.md"
TRIALS = ROOT / "docs/trials.md"
RANDOM_BATTLES = ROOT / "docs/random_battles.md"
PAGES = (RESULTS, TRIALS, RANDOM_BATTLES)


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def shown(kind: str, page: Path) -> list[str]:
    """The words after `run` or `plot` in commands of a page that take too long to run."""
    text = "".join(blocks(page, "text"))
    command = rf"^python -m cleanmarl.benchmark {kind} (.*)$"
    return re.findall(command, text.replace("\\\n", " "), re.MULTILINE)


def parsed(kind: str, words: str) -> dict:
    """The arguments of `plan` or `plot` from the words after the command."""
    own, _, passed = words.partition(" -- ")
    args = vars(benchmark.read([kind, *shlex.split(own)]))
    if kind == "run":
        args["passed"] = passed.split()
        args["try_envs"] = not args["suite"]  # the packages of a suite may be missing
    return {name: args[name] for name in args if name not in ("address", "cpus")}


@pytest.mark.parametrize("words", shown("run", ROOT / "docs/benchmark.md"))
def test_the_sweeps_that_are_only_shown_can_be_planned(tmp_path, monkeypatch, words):
    (scenario,) = blocks(ROOT / "docs/battles.md", "toml")
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(scenario)
    assert plan(**parsed("run", words))


def test_the_published_records_are_of_the_published_sweeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("docs").symlink_to(ROOT / "docs")
    commands = [words for page in PAGES for words in shown("run", page)]
    sweeps = [plan(**parsed("run", words)) for words in commands]  # or an error
    of_sweeps = {task.record for tasks in sweeps for task in tasks}
    folders = {record.parent for record in of_sweeps}
    assert folders
    assert {record for folder in folders for record in folder.glob("*.json")} <= of_sweeps


def dense(line: str) -> str:
    """A row of a table without space around its cells."""
    return re.sub(r" *\| *", "|", line)


PLOTTED = [(page, words) for page in PAGES for words in shown("plot", page)]


@pytest.mark.parametrize(("page", "words"), PLOTTED)
def test_the_published_tables_are_those_of_the_published_records(monkeypatch, page, words):
    monkeypatch.chdir(ROOT)
    args = parsed("plot", words)
    if args["suite"]:
        tasks = choose_tasks(*(args[name] for name in ("suite", "families", "envs", "seeds")))
        found = groups.find_runs(tasks, args["runs"])
        text = tables.suite_markdown(tables.suite_table(found, args["reps"]))
    else:
        chosen = groups.choose(args["runs"], args["envs"], args["seeds"])
        text = tables.markdown(tables.table(chosen, args["reps"]))
    on_page = page.read_text().splitlines()
    assert [line for line in text.splitlines() if dense(line) not in on_page] == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("nowhere", "no finished run in nowhere"),
        ("", "give a folder with runs"),
        ("nowhere --points 0", "--points must be at least 1, got 0"),
        ("nowhere --reps -1", "--reps must be at least 1, got -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(call, words, says):
    assert call("plot", *words.split()) == (2, "", f"benchmark: error: {says}\n")
