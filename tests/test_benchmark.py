"""`python -m cleanmarl.benchmark`: what a sweep trains, refuses and goes on with; what its figures and tables say."""

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
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from cleanmarl import benchmark, qmix
from cleanmarl.benchmark import Run, Task, plan, scores, train
from docs.kill_and_resume import differences
from tests.test_docs import blocks

pytest.importorskip("ray", reason='sweeps need Ray: pip install -e ".[benchmark]"')
from rliable import metrics

SMALL = ["--hidden-dim", "8", "--hyper-dim", "8", "--batch-size", "4", "--buffer-size", "12", "--num-eval-ep", "1"]
SMALL += ["--eval-steps", "20", "--log-every", "5", "--checkpoint-every", "10", "--total-timesteps", "24000"]


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """`call(*words)`: exit status, output and errors of the command, in this process and in an empty folder."""

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
    """Ray on a node with one core; all that it says goes over the loopback interface."""
    from ray.cluster_utils import Cluster

    checks = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 4}
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": checks}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def wait_for(condition, seconds: float = 300):  # Ray's first start on a busy machine takes minutes
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.02)


# What is trained


def test_each_script_trains_in_each_environment_with_each_seed_in_a_folder_of_its_own(tmp_path):
    envs = ("3m", "lbf:Foraging-8x8-2p-3f-v3", "pz:simple_spread_v3", "pz:sisl:pursuit_v5")
    run = Run(scripts=("qmix", "qmix_lstm"), envs=envs, seeds=(1, 2), runs=tmp_path)
    tasks = plan(run, ["--gamma", "0.9"])
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


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--scripts qmax", "invalid choice 'qmax' for argument '--scripts'"),
        ("--envs 3m 4m", "unknown map '4m'; did you mean 8m"),
        ("--envs foo:3m", "env_type must be smaclite"),
        ("--envs nowhere.toml", "nowhere.toml"),
        ("-- --gama 0.9", "qmix.py: Unrecognized options: --gama"),
        ("-- --gamma x", "qmix.py: Error parsing --gamma"),
        ("-- --gamma 2", "--gamma must be from 0 to 1, got 2.0"),
        ("-- --seed 3", "--seed cannot be passed on to the scripts"),
        ("-- --env_name=3m", "--env_name=3m cannot be passed on to the scripts"),
        ("--seeds 1 1", "qmix 3m 1 and qmix 3m 1 would share the folder smaclite__3m__qmix__1"),
        ("--address auto --cpus 2", "--cpus is for this machine and --address for a cluster"),
        ("--address 127.0.0.1:1", "no Ray cluster at --address 127.0.0.1:1: [Errno"),
    ],
)
def test_what_is_wrong_is_one_line_before_anything_starts(call, tmp_path, monkeypatch, words, says):
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("starts with it"))
    status, out, err = call("run", *words.split())
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("benchmark.py: error: ")
    assert says in err
    assert not list(tmp_path.rglob("log.txt"))


def test_without_ray_it_says_how_to_install_it(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert call("run") == (2, "", 'benchmark.py: error: ray is missing: pip install -e ".[benchmark]"\n')


def test_no_run_goes_on_with_other_arguments_than_its_own(call, tmp_path, monkeypatch):
    (task,) = plan(Run(seeds=(1,), runs=tmp_path / "sweep"), [])
    (task.folder / "runs/run").mkdir(parents=True)
    (task.folder / "runs/run/args.json").write_text(json.dumps(task.args | {"gamma": 0.5, "checkpoint_every": 7}))
    status, _, err = call("run", "--seeds", "1")
    assert (status, "has --gamma 0.5, not --gamma 0.99: remove it" in err) == (2, True)
    assert plan(Run(seeds=(1,), runs=tmp_path / "sweep"), ["--gamma", "0.5"])
    (task.folder / "runs/run/args.json").write_text(json.dumps({"gamma": 0.99}))  # of a script with fewer arguments
    assert plan(Run(seeds=(1,), runs=tmp_path / "sweep"), [])
    record = {
        "script": "qmix",
        "args": task.args | {"polyak": 0.5},
        "metric": "",
        "steps": [],
        "seconds": [],
        "values": [],
    }
    benchmark.record_of(task.folder).write_text(json.dumps(record))
    assert "has --polyak 0.5, not --polyak 0.01: remove it" in call("run", "--seeds", "1")[2]


# One training, with little programs in place of the scripts


def test_a_run_begins_goes_on_and_is_finished_only_when_the_script_is(tmp_path):
    folder, record = tmp_path / "run", tmp_path / "run.json"
    (folder / "runs/broken").mkdir(parents=True)
    (folder / "runs/broken/checkpoint.pt.tmp").touch()  # killed before its first checkpoint was whole
    assert train(folder, ["-c", "import sys; sys.exit(3)"], "") == 3
    assert not (folder / "runs").exists() and not record.exists()

    (folder / "runs/run").mkdir(parents=True)
    (folder / "runs/run/checkpoint.old").touch()
    program = ["-c", "import os, sys; print(sys.argv[1:], os.environ['OMP_NUM_THREADS'], os.getcwd())"]
    assert train(folder, [*program, "--seed", "1"], "") == 0
    assert (folder / "log.txt").read_text().endswith(f"['--seed', '1', '--resume', 'runs/run'] 1 {folder}\n")
    made = json.loads(record.read_text())
    assert made.keys() == {"command", "commit", "versions", "machine"}
    assert made["command"] == shlex.join(["python", *program, "--seed", "1"])
    assert f"torch {torch.__version__}" in made["versions"]
    assert f"{os.cpu_count()} cores" in made["machine"]


def test_no_two_scripts_train_the_same_run(tmp_path):
    folder, record = tmp_path / "run", tmp_path / "run.json"
    folder.mkdir()
    with (folder / "log.txt").open("a") as log:  # as a script has it whose parent is dead
        fcntl.flock(log, fcntl.LOCK_EX)
        other = Thread(target=train, args=(folder, ["-c", ""], ""))
        other.start()
        time.sleep(0.5)
        assert benchmark.is_training(folder) and not record.exists()
    other.join(10)
    assert record.exists() and not benchmark.is_training(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_script_is_told_to_stop_when_its_parent_dies(tmp_path):
    program = "import signal, sys; signal.signal(15, lambda *_: (print('saves'), sys.exit())); "
    program += "print('on'); signal.pause()"
    parent = "import sys; from pathlib import Path; from cleanmarl.benchmark import train; "
    parent += "train(Path(sys.argv[1]), ['-c', sys.argv[2]], '')"
    process = subprocess.Popen([sys.executable, "-c", parent, str(tmp_path), program])
    log = tmp_path / "log.txt"
    wait_for(lambda: log.exists() and log.read_text().endswith("on\n"))
    process.kill()
    wait_for(lambda: log.read_text().endswith("saves\n"))
    wait_for(lambda: not benchmark.is_training(tmp_path))


def test_the_table_shows_what_the_log_of_a_script_says(tmp_path):
    program = "import time; from tqdm import tqdm; bar = tqdm(total=90, initial=10, unit=' steps', unit_scale=True); "
    program += "time.sleep(1); bar.set_postfix({'eval/ep_reward': '7.00', 'eval/battle_won': '0.75'}); bar.update(40)"
    task = Task("qmix 3m 1", tmp_path, ["-c", program], {})
    assert benchmark.look(task, None) == ("qmix 3m 1", "", "", "", "", "waiting")
    train(tmp_path, task.command, "")
    benchmark.record_of(tmp_path).unlink()
    title, steps, speed, evaluation, left, state = benchmark.look(task, "running")
    assert (title, steps, evaluation, state) == ("qmix 3m 1", "50", "battle_won 0.75", "running")
    assert 20 < float(speed) <= 40 and re.fullmatch(r"00:0\d", left)
    table = benchmark.show([benchmark.look(task, state) for state in ("failed with exit status 1", "running")])
    assert table.title == "2 runs: 1 failed, 1 running" and table.row_count == 2


# Whole sweeps


SCRIPT = """
import pathlib, signal, sys
checkpoint = pathlib.Path("runs/run/checkpoint.pt")
signal.signal(signal.SIGTERM, lambda *_: (checkpoint.parent.mkdir(parents=True), checkpoint.touch(), sys.exit(143)))
print("begins", flush=True)
if "--resume" not in sys.argv:
    signal.pause()
"""


def test_a_run_that_fails_says_so_at_the_end_and_the_others_finish(call, cluster, tmp_path, monkeypatch):
    programs = {"bad": "import sys; print('no more gold'); sys.exit(5)", "good": ""}
    tasks = [Task(name, tmp_path / name, ["-c", text], {"device": "cpu"}) for name, text in programs.items()]
    monkeypatch.setattr(benchmark, "plan", lambda *_: tasks)
    status, out, err = call("run", "--address", cluster.address)
    assert (status, err) == (1, "")
    assert "good: finished" in out
    assert f"bad failed with exit status 5; {tmp_path / 'bad/log.txt'} ends with\n  $ python" in out
    assert "\n  no more gold\n1 of 2 runs are finished" in out


def test_ctrl_c_has_the_scripts_save_and_the_same_command_goes_on(call, cluster, tmp_path, monkeypatch):
    tasks = [Task(name, tmp_path / name, ["-c", SCRIPT], {"device": "cpu"}) for name in ("one", "two")]
    monkeypatch.setattr(benchmark, "plan", lambda *_: tasks)
    log = tmp_path / "one/log.txt"

    def press():
        wait_for(lambda: log.exists() and log.read_text().endswith("begins\n"))
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=press).start()
    status, out, _ = call("run", "--address", cluster.address)
    assert (status, out.splitlines()[-1]) == (130, "0 of 2 runs are finished, the same command goes on")
    assert (tmp_path / "one/runs/run/checkpoint.pt").exists() and not (tmp_path / "two/log.txt").exists()

    tasks[1].command.append("--resume")
    assert call("run", "--address", cluster.address)[0] == 0
    assert "--resume runs/run\n" in log.read_text()
    assert call("run", "--address", cluster.address) == (0, "2 of 2 runs are finished\n", "")


def test_a_sweep_in_the_background_of_a_shell_script_is_stopped_too(tmp_path):
    sweep = f"-m cleanmarl.benchmark run --seeds 1 --runs {tmp_path} --cpus 1 -- --total-timesteps 10000000"
    process = subprocess.Popen(
        [sys.executable, *sweep.split()],
        cwd=DOCS.parent,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as the shell has it there
        stdout=subprocess.DEVNULL,
    )
    folder = tmp_path / "smaclite__3m__qmix__1"
    try:
        wait_for(lambda: (folder / "log.txt").exists() and "steps/s" in (folder / "log.txt").read_text())
        process.terminate()
        assert process.wait(300) == 128 + signal.SIGTERM
    finally:
        process.kill()
    assert list(folder.glob("runs/*/checkpoint.pt"))


def test_a_sweep_that_loses_a_machine_ends_with_the_same_numbers(call, cluster, tmp_path, monkeypatch):
    node = cluster.add_node(num_cpus=1)
    folders = [tmp_path / f"sweep/smaclite__3m__qmix__{seed}" for seed in (1, 2)]
    going_on = []

    def kill():
        wait_for(lambda: all(list(folder.glob("runs/*/checkpoint.old")) for folder in folders))
        going_on.extend(map(benchmark.is_training, folders))
        cluster.remove_node(node, allow_graceful=False)

    Thread(target=kill).start()
    status, out, _ = call("run", "--address", cluster.address, "--seeds", "1", "2", "--", *SMALL)
    assert (status, out.splitlines()[-1], going_on) == (0, "2 of 2 runs are finished", [True, True])
    assert sorted((folder / "log.txt").read_text().count("--resume") for folder in folders) == [0, 1]
    for folder in folders:
        (one,) = folder.glob("runs/*")
        args = qmix.Args(**json.loads((one / "args.json").read_text()) | {"resume": ""})
        undisturbed = tmp_path / str(args.seed)
        undisturbed.mkdir()
        qmix.train(args, qmix.open_env(args), qmix.open_env(args), undisturbed, Event())
        assert differences(one, undisturbed) == []


# Figures and tables


def write_run(folder: Path, script: str, env: str, seed: int, values: list[float], won: bool = True, **args):
    """A run folder with an evaluation and a speed every 100 steps, which take a second."""
    kind = "smaclite" if won else "lbf"
    run = folder / f"{kind}__{env}__{script}__{seed}__20260101-000000"
    run.mkdir(parents=True)
    own = {"env_type": kind, "env_name": env, "env_family": "mpe", "seed": seed, "total_timesteps": 100 * len(values)}
    (run / "args.json").write_text(json.dumps(own | {"mixer": "qmix", "resume": ""} | args))
    with SummaryWriter(str(run)) as writer:
        for i, value in enumerate(values, 1):
            writer.add_scalar("eval/battle_won" if won else "eval/ep_reward", value, 100 * i)
            writer.add_scalar("charts/SPS", 100, 100 * i)


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
    assert (row["environment"], row["metric"], row["script"]) == ("3m", "battles won", "qmix.py")
    assert (row["seeds"], row["steps"], row["minutes"]) == ("5", "1000", "0.2 0.2 0.2 0.2 0.2")
    assert float(row["IQM"]) == pytest.approx(np.mean(final[1:-1]))
    draws = np.sort(np.random.default_rng(1).choice(final, (20000, 5)), axis=1)[:, 1:-1].mean(1)
    assert [float(row["low"]), float(row["high"])] == pytest.approx(np.percentile(draws, [2.5, 97.5]), abs=0.05)
    assert f"| 3m | battles won | `qmix.py` | 5 | 1,000 | 0.600 | {row['low']} to {row['high']} |" in out
    assert out == (tmp_path / "figures/results.md").read_text()


def test_the_interquartile_mean_is_that_of_rliable():
    values = np.random.default_rng(1).random((5, 3, 7))  # [seeds, tasks, points]
    assert benchmark.iqm(values) == pytest.approx([metrics.aggregate_iqm(values[..., i]) for i in range(7)])


def test_a_part_of_a_training_has_the_mean_of_its_evaluations(tmp_path):
    write_run(tmp_path, "qmix", "3m", 1, [0.0, 1.0, 1.0, 1.0])
    write_run(tmp_path, "qmix", "3m", 2, [0.4, 0.4, 0.8, 0.8])
    runs = benchmark.read(tmp_path)
    ends, values = scores(runs, "steps", 2)
    assert ends.tolist() == [200, 400]
    assert values == pytest.approx(np.array([[0.5, 1.0], [0.4, 0.8]]))
    ends, values = scores(runs[:1], "seconds", 8)  # every other part is empty
    assert ends == pytest.approx(np.arange(1, 9) / 2)
    assert values == pytest.approx(np.array([[0, 0, 0.5, 1, 1, 1, 1, 1]]))
    runs[1].seconds = runs[1].seconds + 10  # its first evaluation comes when the other run has ended
    assert scores(runs, "seconds", 2)[1] == pytest.approx(np.array([[0.5, 1.0], [0.4, 0.4]]))


def test_runs_with_other_options_are_kept_apart_and_unfinished_ones_left_out(call, tmp_path):
    for mixer, value in (("qmix", 1.0), ("vdn", 0.5)):
        for seed in (1, 2):
            write_run(tmp_path / "runs" / mixer, "qmix", "3m", seed, [0.0] * 10 + [value] * 10, mixer=mixer)
    write_run(tmp_path / "runs", "qmix_lstm", "3m", 1, [0.0] * 3, total_timesteps=400)
    status, _, err = call("plot", "runs", "--out", "figures", "--reps", "500")
    found = {row["script"]: float(row["IQM"]) for row in rows(tmp_path / "figures/results.csv")}
    assert (status, found) == (0, {"qmix.py --mixer qmix": 1.0, "qmix.py --mixer vdn": 0.5})
    assert err.startswith("left out, since it is not finished: runs/smaclite__3m__qmix_lstm__1")


def test_the_figures_have_a_panel_for_each_environment_and_a_line_for_each_script(call, tmp_path):
    for script in ("qmix", "qmix_lstm"):
        for env in ("3m", "2s3z", "MMM", "8m", "Foraging-8x8-2p-3f-v3"):
            write_run(tmp_path / "runs", script, env, 1, [0.0, 0.5, 1.0], won=not env.startswith("Foraging"))
    assert call("plot", "runs", "--out", "figures", "--reps", "20")[0] == 0
    for name, texts in {
        "curves_steps": ("3m", "MMM", "Foraging-8x8-2p-3f-v3", "reward", "environment steps", "qmix_lstm.py"),
        "curves_seconds": ("2s3z", "battles won", "minutes", "qmix.py"),
        "aggregate": ("4 battles", "IQM of battles won", "median", "qmix_lstm.py"),
    }.items():
        picture = (tmp_path / f"figures/{name}.svg").read_text()
        assert [text for text in texts if f">{text}<" not in picture] == []


def test_the_same_runs_give_the_same_files(call, tmp_path):
    for seed in (1, 2, 3):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [0.0, 0.1 * seed, 1.0])
    for out in ("first", "second"):
        assert call("plot", "runs", "--out", out, "--reps", "20")[0] == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "first").iterdir()}
    assert len(written) == 5 and all((tmp_path / "second" / name).read_bytes() == written[name] for name in written)


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
    assert call("plot", "qmix", "vdn", "--envs", "8m", "3m", "--out", "figures", "--reps", "20")[0] == 0
    found = [(row["environment"], row["script"]) for row in rows(tmp_path / "figures/results.csv")]
    assert found == [(env, f"qmix.py --mixer {mixer}") for env in ("8m", "3m") for mixer in ("qmix", "vdn")]
    assert call("plot", "qmix", "--envs", "smaclite:MMM", "maps/3m.toml", "--out", "named", "--reps", "20")[0] == 0
    assert [row["environment"] for row in rows(tmp_path / "named/results.csv")] == ["MMM", "3m"]
    says = "benchmark.py: error: no finished run of 2s3z; there are runs of 3m, 8m, MMM\n"
    assert call("plot", "qmix", "--envs", "3m", "2s3z") == (2, "", says)


def test_some_seeds_are_drawn_alone(call, tmp_path):
    for seed in (1, 2, 3, 4):
        write_run(tmp_path / "runs", "qmix", "3m", seed, [seed / 4])
    assert call("plot", "runs", "--seeds", "2", "4", "--out", "figures", "--reps", "20")[0] == 0
    (row,) = rows(tmp_path / "figures/results.csv")
    assert (row["seeds"], row["IQM"]) == ("2", "0.750")
    says = "benchmark.py: error: no finished run with seed 0, 7; there are runs with 1, 2, 3, 4\n"
    assert call("plot", "runs", "--seeds", "7", "1", "0") == (2, "", says)


def test_records_say_what_the_run_folders_said(call, tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / f"sweep/smaclite__3m__qmix__{seed}/runs", "qmix", "3m", seed, [0.0, seed / 3])
    assert call("plot", "sweep", "--out", "before", "--reps", "50")[0] == 0
    for folder in (tmp_path / "sweep").iterdir():
        benchmark.write_record(folder, {"commit": "1234567"})
    assert call("plot", "sweep", "--out", "both", "--reps", "50")[0] == 0
    for folder in (tmp_path / "sweep").glob("*/"):
        shutil.rmtree(folder)
    record = json.loads((tmp_path / "sweep/smaclite__3m__qmix__2.json").read_text())
    assert (record["commit"], record["steps"], record["values"]) == ("1234567", [100, 200], [0.0, 0.6667])
    assert call("plot", "sweep", "--out", "after", "--reps", "50")[0] == 0
    before, both, after = (rows(tmp_path / name / "results.csv") for name in ("before", "both", "after"))
    assert before == both == after and after[0]["seeds"] == "2"
    (tmp_path / "sweep/smaclite__3m__qmix__3.json").write_text("[]")
    status, _, err = call("plot", "sweep")
    assert (status, err.count("\n")) == (2, 1) and "sweep/smaclite__3m__qmix__3.json is not the record of a run" in err


DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results.md"


def shown(kind: str, page: Path) -> list[str]:
    """What follows `run` or `plot` in the commands of a page that are too long to be tried."""
    text = "".join(block for language, block in blocks(page) if language == "text").replace("\\\n", " ")
    return re.findall(rf"^python -m cleanmarl.benchmark {kind} (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("words", shown("run", DOCS / "benchmark.md"))
def test_the_sweeps_that_are_only_shown_can_be_planned(tmp_path, monkeypatch, words):
    (scenario,) = (block for language, block in blocks(DOCS / "battles.md") if language == "toml")
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(scenario)
    own, _, passed = words.partition(" -- ")
    run = benchmark.parse(Run, own.split(), "run")
    assert len(plan(run, passed.split())) == len(run.scripts) * len(run.envs) * len(run.seeds)


@pytest.mark.parametrize("words", shown("run", RESULTS))
def test_the_published_records_are_of_the_published_sweeps(monkeypatch, words):
    monkeypatch.chdir(RESULTS.parents[1])
    own, _, passed = words.partition(" -- ")
    tasks = plan(benchmark.parse(Run, own.split(), "run"), passed.split())  # complains of a record with other arguments
    folder = tasks[0].folder.parent
    assert {*folder.glob("*.json")} <= {benchmark.record_of(task.folder) for task in tasks}


@pytest.mark.parametrize("words", shown("plot", RESULTS))
def test_the_published_tables_are_those_of_the_published_records(monkeypatch, words):
    monkeypatch.chdir(RESULTS.parents[1])
    args = benchmark.parse(benchmark.Plot, words.split(), "plot")
    lines = benchmark.markdown(benchmark.table(benchmark.choose(args), args.reps)).splitlines()
    assert [line for line in lines if line not in RESULTS.read_text().splitlines()] == []
    assert (args.out / "results.md").read_text().splitlines() == lines


def test_where_nothing_is_finished_there_is_nothing_to_plot(call):
    assert call("plot", "nowhere") == (2, "", "benchmark.py: error: no finished run in nowhere\n")
