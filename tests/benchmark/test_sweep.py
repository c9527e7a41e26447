"""`python -m cleanmarl.benchmark run`: what sweeps train, refuse and resume."""

import fcntl
import json
import os
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

import pytest
import torch

from cleanmarl import qmix
from cleanmarl.benchmark import __main__ as benchmark
from cleanmarl.benchmark import (
    progress,
    records,
    sweep,
)
from cleanmarl.benchmark.planning import plan
from cleanmarl.benchmark.task import Task, is_training, keep, resumed_words, train
from tests.benchmark.runs import task_of, write_run
from tests.helpers import MODULES, ROOT, TWO_STEPS, equal_weights, scalars, trained

pytest.importorskip("ray", reason='sweeps need Ray: pip install -e ".[benchmark]"')

SMALL = ["--hidden-dim", "8", "--hyper-dim", "8", "--batch-size", "4", "--buffer-size", "12"]
SMALL += ["--num-eval-ep", "1", "--eval-steps", "20", "--log-every", "5"]
SMALL += ["--checkpoint-every", "10"]


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


def test_no_run_is_resumed_with_other_arguments_than_its_own(call, begun):
    task, path = begun
    path.write_text(json.dumps(task.args | {"gamma": 0.5, "checkpoint_every": 7}))
    status, _, err = call("run", "--seeds", "1")
    assert (status, "has --gamma 0.5, not --gamma 0.99: remove it" in err) == (2, True)
    assert plan(["qmix"], ["3m"], [1], task.folder.parent, passed=["--gamma", "0.5"])


def test_a_run_with_a_tuple_is_resumed(copied, tmp_path, monkeypatch):
    text = copied.read_text()
    copied.write_text(
        text.replace("    seed:", "    sizes: tuple[int, ...] = (8, 9)\n    seed:", 1)
    )
    monkeypatch.chdir(tmp_path)
    (task,) = plan(["./my_qmix.py"], ["3m"], [1])
    path = task.folder / "runs/run/args.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(task.args))
    (again,) = plan(["./my_qmix.py"], ["3m"], [1])
    assert again.args["sizes"] == (8, 9)


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


def test_networks_to_begin_with_are_found_from_the_folders_of_the_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (task,) = plan(["qmix"], ["3m"], [1], "sweep", passed=["--init-from", "runs/last"])
    assert task.args["init_from"] == str(tmp_path / "runs" / "last")
    assert task.command[-2:] == ["--init-from", str(tmp_path / "runs" / "last")]
    (task,) = plan(["qmix"], ["3m"], [1], "sweep", passed=["--init-from", "team:3m"])
    assert task.args["init_from"] == "team:3m"
