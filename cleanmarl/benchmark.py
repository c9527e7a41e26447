"""Sweeps of the four scripts on Ray; curves and tables of their results, with rliable's statistics.

    python -m cleanmarl.benchmark run --scripts qmix qmix_lstm --envs 3m 2s3z --seeds 1 2 3 \\
        -- --total-timesteps 200000
    python -m cleanmarl.benchmark plot sweep --out figures

What follows -- is for the scripts. The same command again completes a sweep that was interrupted.
"""

import contextlib
import csv
import ctypes
import fcntl
import io
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Literal

import numpy as np
import tyro
from tqdm import tqdm

from cleanmarl import arguments
from cleanmarl.arguments import FREE
from cleanmarl.checkpoint import Refused, write_atomically
from cleanmarl.run import SHOWN, refusing

SCRIPTS = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
# The sweep sets these arguments
OWN = {"env_type", "env_name", "env_family", "seed", "torch_threads"}
OWN |= {"resume", "evaluate", "which", "list_envs"}
SAME_CURVE = FREE - {"total_timesteps", "device"}  # two runs may differ in these
GREY = "#808080"  # legible on white and on black
LOOKS = (  # colour, and dashes for those who cannot tell it
    ("#0072b2", "-"),
    ("#e69f00", (0, (1, 1.5))),
    ("#009e73", (0, (5, 2))),
    ("#cc79a7", (0, (6, 2, 1, 2))),
    ("#d55e00", (0, (3, 1, 1, 1, 1, 1))),
    ("#56b4e9", (0, (10, 2))),
)


@dataclass
class Run:
    """Train with every script, in every environment, with every seed.

    What follows -- is for the scripts.
    """

    scripts: tuple[Literal[SCRIPTS], ...] = ("qmix",)
    """scripts to train with"""
    envs: tuple[str, ...] = ("3m",)
    """as in 3m mine.toml lbf:Foraging-8x8-2p-3f-v3 pz:simple_spread_v3 pz:sisl:pursuit_v5"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """seeds to train with"""
    runs: Path = Path("sweep")
    """folder of the sweep; finished runs in it are not trained again, others are resumed"""
    address: str = ""
    """address of a Ray cluster, or auto; without it, Ray runs on this machine during the sweep"""
    cpus: int | None = None
    """runs at once on this machine; None for as many as there are cores"""


@dataclass
class Plot:
    """Draw curves and write tables from the finished runs in one or more folders."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """folders in which, at any depth, the runs are"""
    envs: tuple[str, ...] = ()
    """environments to draw, in this order, named as for `run`; without it, all"""
    seeds: tuple[int, ...] = ()
    """seeds to draw; without it, all"""
    out: Path = Path("figures")
    """folder to write to"""
    points: int = 20
    """parts of a training, over each of which the evaluations of a run are averaged"""
    reps: int = 2000
    """samples of the bootstrap"""


@dataclass
class Task:
    """One training: a script's own command line, in a folder of its own."""

    title: str
    folder: Path
    command: list[str]  # what follows `python`
    args: dict  # all arguments of the script


def parse(kind, words: list[str], program: str):
    """`tyro.cli`, but raises ValueError, in one line, where that would draw a box."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(kind, args=words, prog=program)
    except SystemExit as end:
        if end.code == 0:  # --help
            raise
        _, text, *_ = re.split("[─-]{3,}", said.getvalue())  # below the title
        raise ValueError(f"{program}: {' '.join(re.sub('[│╮]', ' ', text).split())}") from None


def record_of(folder: Path) -> Path:
    """The file that there is when a training has finished."""
    return folder.with_name(folder.name + ".json")


def option(name: str, value) -> str:
    return f"--{name.replace('_', '-')} {value}"


def plan(run: Run, passed: list[str]) -> list[Task]:
    """The trainings of a sweep, checked as the scripts do it. Raises ValueError, in one line."""
    tasks = {}
    for word in passed:
        if word.startswith("--") and word[2:].partition("=")[0].replace("-", "_") in OWN:
            reason = "cannot be passed on to the scripts, the sweep sets it: see run --help"
            raise ValueError(f"{word} {reason}")
    for seed, env, script in itertools.product(run.seeds, run.envs, run.scripts):
        module, (*kind, name) = import_module(f"cleanmarl.{script}"), env.split(":")
        name = str(Path(name).resolve()) if name.endswith(".toml") else name
        words = ["--env-type", kind[0] if kind else "smaclite", "--env-name", name]
        words += ["--seed", str(seed)]
        words += ["--env-family", kind[1]] if len(kind) > 1 else []
        words += ["--torch-threads", "1", *passed]
        args = read_arguments(module, words)
        if seed == run.seeds[0]:
            with refusing():
                module.open_env(args).close()
        folder = run.runs.resolve() / f"{args.env_type}__{Path(name).stem}__{script}__{seed}"
        command = ["-m", f"cleanmarl.{script}", *words]
        task = Task(f"{script} {env} {seed}", folder, command, asdict(args))
        if tasks.setdefault(folder, task) is not task:
            both = f"{tasks[folder].title} and {task.title}"
            raise ValueError(f"{both} would share the folder {folder.name}")
    for task in tasks.values():
        check_folder(task)
    return list(tasks.values())


def read_arguments(module, words: list[str]):
    """A script's `Args`, checked. Raises Refused, in one line."""
    try:
        args = arguments.parse(module.Args, module.__doc__, words, module.Args())
        arguments.check(args)
    except Refused as error:
        raise Refused(f"{arguments.script_of(module.Args)}.py: {error}") from None
    return args


def check_folder(task: Task):
    """Raise ValueError if a run in the folder was begun, or has finished, with other arguments."""
    begun = [json.loads(path.read_text()) for path in task.folder.glob("runs/*/args.json")]
    if record_of(task.folder).exists():
        begun = [read_record(record_of(task.folder)).args]
    for found in begun:
        known = task.args.keys() & found.keys()  # an argument may be younger than the run
        names = sorted(n for n in known - SAME_CURVE if found[n] != task.args[n])
        if names:
            there = " ".join(option(name, found[name]) for name in names)
            here = " ".join(option(name, task.args[name]) for name in names)
            differ = f"the run in {task.folder} has {there}, not {here}"
            raise ValueError(f"{differ}: remove it or choose other --runs")


def lock(log) -> bool:
    """Try to lock a log.

    A script that writes to it has the lock too, and keeps it if it outlives its parent.
    """
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def is_training(folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), (folder / "log.txt").open("r+") as log:
        return not lock(log)
    return False


def follow_parent():
    """In the process of a script, before it begins: have it saved and ended when its parent dies.

    Only Linux can do that: it sends SIGTERM then.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray's processes do not hear Ctrl-C
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def made_with(folder: Path) -> dict[str, str]:
    """What a run in a folder was made with at last, by its run.json: commit, versions, machine."""
    for path in folder.glob("runs/*/run.json"):
        session = json.loads(path.read_text())[-1]
        return {name: session[name] for name in ("commit", "versions", "machine")}
    return {}


def write_record(folder: Path, command: list[str]):
    """Say beside the folder of a finished training what it was made with, and its evaluations."""
    record = {"command": shlex.join(["python", *command])} | made_with(folder)
    for path in folder.glob("runs/*/args.json"):
        curve = read_run(path.parent)
        record |= vars(curve) if curve else {}
    lines = []
    for name, value in record.items():
        lines.append(f'"{name}": {json.dumps(value, default=np.ndarray.tolist)}')
    write_atomically(record_of(folder), "{{\n{}\n}}\n".format(",\n".join(lines)).encode())


def train(folder: Path, command: list[str], python_path: str) -> int:
    """Train in `folder`, from its last checkpoint if it has one; returns the script's exit status.

    Ray calls this, and calls it again on any machine if its process or machine dies.
    """
    settings = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path}
    with contextlib.suppress(ValueError):  # raised where this is not the main thread
        # Ray cancels by SIGINT, which may be ignored behind nohup
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with (folder / "log.txt").open("a") as log:
        while not lock(log):  # a script that has lost its parent is about to end
            time.sleep(0.1)
        saved = [*folder.glob("runs/*/checkpoint.pt"), *folder.glob("runs/*/checkpoint.old")]
        words = list(command)
        if saved:
            words += ["--resume", str(saved[0].parent.relative_to(folder))]
        else:
            shutil.rmtree(folder / "runs", ignore_errors=True)
        print("\n$ python", *words, file=log, flush=True)
        options = {"cwd": folder, "env": os.environ | settings, "stdout": log, "stderr": log}
        script = subprocess.Popen([sys.executable, *words], preexec_fn=follow_parent, **options)
        try:
            while script.poll() is None:
                time.sleep(0.1)
        finally:  # by a KeyboardInterrupt if the sweep is stopped
            script.terminate()
            script.wait()
        if script.returncode == 0:
            write_record(folder, command)
    return script.returncode


def tail(folder: Path) -> str:
    """The last lines of a log."""
    with contextlib.suppress(FileNotFoundError), (folder / "log.txt").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
        return log.read().decode(errors="replace")
    return ""


def status_of(folder: Path) -> dict:
    """How far the run in a folder is, by its status.json."""
    for path in folder.glob("runs/*/status.json"):
        with contextlib.suppress(FileNotFoundError):  # the run begins anew
            return json.loads(path.read_text())
    return {}


def look(task: Task, state: str | None) -> tuple[str, ...]:
    """The row of a training in the table; its state is looked for unless it has ended."""
    if record_of(task.folder).exists():
        state = "finished"
    elif state is None:
        state = "running" if is_training(task.folder) else "waiting"
    status = status_of(task.folder)
    if not status:
        return task.title, "", "", "", "", state
    speed = status["step"] / status["seconds"]
    seconds_left = max(0, status["total_timesteps"] - status["step"]) / speed
    left = tqdm.format_interval(seconds_left) if state == "running" else ""
    shown = [name for name in SHOWN if name in status]
    evaluation = f"{shown[0].removeprefix('eval/')} {status[shown[0]]:.2f}" if shown else ""
    return task.title, str(status["step"]), tqdm.format_sizeof(speed), evaluation, left, state


def show(rows: list[tuple[str, ...]]):
    """The table; what is going on comes first."""
    from rich.table import Table

    states, later = Counter(row[-1].split()[0] for row in rows), {"waiting": 1, "finished": 2}
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    title = f"{len(rows)} runs: {counts}"
    table = Table("run", title=title, title_justify="left")
    for column in ("steps", "steps/s", "last evaluation", "left"):
        table.add_column(column, justify="right")
    table.add_column("state")
    for row in sorted(rows, key=lambda row: later.get(row[-1], 0)):
        table.add_row(*row)
    return table


def tell(rows: list[tuple[str, ...]], told: dict[str, tuple]):
    """Without a terminal: a line where a state has changed, and each minute for what is running."""
    for title, steps, speed, evaluation, left, state in rows:
        news = (state, state == "running" and int(time.monotonic() // 60))
        if told.get(title) != news:
            parts = {"": evaluation, " steps": steps, " steps/s": speed, " left": left}
            news_of = [part + unit for unit, part in parts.items() if part]
            print(f"{title}: {state}", *news_of, sep=", ", flush=True)
        told[title] = news


def need(name: str):
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(f'{error.name} is missing: pip install -e ".[benchmark]"') from error


def outcome(ray, ref) -> str:
    """The state of a training that has ended."""
    try:
        status = ray.get(ref)
    except ray.exceptions.TaskCancelledError:
        return "stopped"
    except Exception as error:  # its process or machine died too often, or the disk is full
        return f"failed: {str(error).strip().splitlines()[-1]}"
    return f"failed with exit status {status}" if status else "finished"


def watch(ray, tasks: list[Task], todo: dict, signals: list[int]) -> dict[str, str]:
    """Show how far the trainings are until all have ended; returns their states.

    On a signal they save and stop.
    """
    from rich.console import Console
    from rich.live import Live

    ended, told, console = {}, {}, Console()
    with Live(console=console) if console.is_terminal else contextlib.nullcontext() as live:
        while todo:
            if signals:  # cancel each time round: a run that just begins does not hear it
                for ref in todo:
                    ray.cancel(ref)
            for ref in ray.wait(list(todo), num_returns=len(todo), timeout=1)[0]:
                task = todo.pop(ref)
                ended[task.title] = outcome(ray, ref)
                while is_training(task.folder):  # it saves
                    time.sleep(0.1)
            rows = [look(task, ended.get(task.title)) for task in tasks]
            if live:
                live.update(show(rows))
            else:
                tell(rows, told)
    return ended


def train_all(ray, run: Run, tasks: list[Task], todo: list[Task], signals: list) -> dict[str, str]:
    """Have Ray train; returns the states of what has ended.

    Raises ConnectionError where there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or else Ray warns
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    if not run.address:
        options |= {"num_cpus": run.cpus, "include_dashboard": False}
        options["object_store_memory"] = 10**8  # it stores nothing
    ray.init(run.address or "local", **options)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    try:
        refs = {}
        remote = ray.remote(max_retries=10)(train)  # one for all: Ray keeps their order then
        for task in todo:
            task.folder.mkdir(parents=True, exist_ok=True)
            here = remote.options(num_cpus=1, num_gpus=int(task.args["device"] == "cuda"))
            refs[here.remote(task.folder, task.command, path)] = task
        return watch(ray, tasks, refs, signals)
    finally:
        ray.shutdown()


def sweep(run: Run, passed: list[str]) -> int:
    """Train what is not finished yet; returns the exit status.

    Raises ValueError, ImportError or OSError before anything starts.
    """
    ray, _ = need("ray"), need("rich")
    if run.address and run.cpus:
        reason = "they exclude each other"
        raise ValueError(f"--cpus is for this machine and --address for a cluster: {reason}")
    if ":" in run.address:
        host, _, port = run.address.rpartition(":")
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError as error:  # Ray would try again and again
            raise ValueError(f"no Ray cluster at --address {run.address}: {error}") from None
    tasks, ended, signals = plan(run, passed), {}, []
    todo = [task for task in tasks if not record_of(task.folder).exists()]
    if todo:
        ended = train_all(ray, run, tasks, todo, signals)
    for task in tasks:
        if ended.get(task.title, "").startswith("failed"):
            lines = [line for line in tail(task.folder).splitlines() if line.strip()]
            title = f"\n{task.title} {ended[task.title]}; {task.folder / 'log.txt'} ends with"
            print(title, *lines[-10:], sep="\n  ")
    finished = sum(record_of(task.folder).exists() for task in tasks)
    advice = ", the same command resumes the others" if finished < len(tasks) else ""
    print(f"{finished} of {len(tasks)} runs are finished{advice}")
    return 128 + signals[0] if signals else int(finished < len(tasks))


@dataclass
class Curve:
    """The evaluations of a run."""

    script: str
    args: dict
    metric: str
    steps: np.ndarray
    seconds: np.ndarray  # of training, without interruptions
    values: np.ndarray


def read_run(folder: Path) -> Curve | None:
    """The evaluations in a run folder; if it is not finished None, and a line."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    args = json.loads((folder / "args.json").read_text())
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    tag, metric = "eval/ep_reward", "reward"
    if "eval/battle_won" in tags:
        tag, metric = "eval/battle_won", "battles won"
    names = [name for name in (tag, "charts/SPS") if name in tags]
    curves = [[(event.step, event.value) for event in events.Scalars(name)] for name in names]
    if len(curves) < 2 or curves[0][-1][0] < args["total_timesteps"]:
        print(f"left out, since it is not finished: {folder}", file=sys.stderr)
        return None
    (steps, values), (logged, speed) = (np.array(curve).T for curve in curves)
    seconds = np.interp(steps, logged, logged / speed)
    script = folder.name.split("__")[2]
    return Curve(script, args, metric, steps.astype(int), seconds.round(1), values.round(4))


def read_record(path: Path) -> Curve:
    """The evaluations in a record. Raises ValueError, in one line, if the file is none."""
    try:
        found = json.loads(path.read_text())
        values = [found[field.name] for field in fields(Curve)]
        return Curve(*(np.array(part) if isinstance(part, list) else part for part in values))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a run: {error!r}") from None


def read(folder: Path) -> list[Curve]:
    """The finished runs in a folder, at any depth: records, and run folders without a record."""
    records = sorted(folder.rglob("*__*__*__*.json"))
    told = {path.with_suffix("") for path in records}
    paths = [path for path in sorted(folder.rglob("args.json")) if told.isdisjoint(path.parents)]
    runs = [read_run(path.parent) for path in paths]
    return [*map(read_record, records), *filter(None, runs)]


def group(curves: list[Curve]) -> dict[tuple[str, str], dict[str, list[Curve]]]:
    """(environment, metric) -> script -> a run of each seed.

    To the script belong the options in which its runs differ there.
    """
    seen, groups = defaultdict(set), defaultdict(lambda: defaultdict(dict))
    for curve in curves:
        for name in curve.args.keys() - OWN - SAME_CURVE:
            seen[curve.args["env_name"], curve.script, name].add(curve.args[name])
    varied = {(script, name) for (_, script, name), values in seen.items() if len(values) > 1}
    for curve in sorted(curves, key=lambda one: (SCRIPTS.index(one.script), one.args["seed"])):
        names = [name for name in curve.args if (curve.script, name) in varied]
        options = [option(name, curve.args[name]) for name in names]
        labels = groups[Path(curve.args["env_name"]).stem, curve.metric]
        labels[" ".join([f"{curve.script}.py", *options])][curve.args["seed"]] = curve
    return {
        env: {label: list(runs.values()) for label, runs in labels.items()}
        for env, labels in groups.items()
    }


def scores(runs: list[Curve], x: str, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `points` parts of a training ends, and its mean evaluations [seeds, points].

    `x` is steps or seconds.
    Time ends with the fastest run. In a part without evaluations they are interpolated.
    """
    last = {"steps": max, "seconds": min}[x](getattr(run, x)[-1] for run in runs)
    ends, rows = np.linspace(0, last, points + 1)[1:], []
    for run in runs:
        part = np.searchsorted(ends, getattr(run, x))
        part[0] = min(part[0], points - 1)  # at least one counts
        there = np.intersect1d(part, range(points))
        rows.append(np.interp(range(points), there, [run.values[part == i].mean() for i in there]))
    return ends, np.array(rows)


def iqm(scores: np.ndarray) -> np.ndarray:
    """rliable's aggregate_iqm of [seeds, tasks, points], of all points at once: [points]."""
    from scipy.stats import trim_mean

    return trim_mean(scores.reshape(-1, scores.shape[-1]), 0.25, axis=0)


def estimate(scores: np.ndarray, statistic, reps: int) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of scores [seeds, tasks, points], and its 95% interval [2, points].

    The interval is from a stratified bootstrap.
    """
    np.random.seed(0)  # rliable draws from here, whatever it is given as random_state
    library = need("rliable.library")
    points, intervals = library.get_interval_estimates({"": scores}, statistic, reps=reps)
    return points[""], intervals[""]


def figure(number: int, width: float):
    """A figure with panels in rows of up to three, and its panels."""
    plt = need("matplotlib.pyplot")
    coloured = ["text.color", "axes.labelcolor", "axes.edgecolor", "legend.labelcolor"]
    coloured += ["xtick.color", "ytick.color"]
    plt.rcParams |= dict.fromkeys(coloured, GREY)
    # With a fixed salt, what is equal gets equal names
    plt.rcParams |= {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "cleanmarl"}
    columns, rows = min(number, 3), -(-number // 3)
    size = {"figsize": (width * columns, 2.7 * rows + 0.3), "layout": "constrained"}
    picture, axes = plt.subplots(rows, columns, squeeze=False, **size)
    for axis in axes.flat[number:]:
        axis.set_visible(False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    return picture, axes.flat[:number]


def draw_curve(axis, look: tuple, label: str, x: np.ndarray, scores: np.ndarray, reps: int):
    """Interquartile mean of scores [seeds, tasks, points] and its interval, over x."""
    middle, (low, high) = estimate(scores, iqm, reps)
    axis.plot(x, middle, color=look[0], linestyle=look[1], linewidth=1.8, label=label)
    axis.fill_between(x, low, high, color=look[0], alpha=0.15, linewidth=0)


def write_figure(picture, path: Path):
    lines = {line.get_label(): line for axis in picture.axes for line in axis.get_lines()}
    labels = [label for label in lines if not label.startswith("_")]
    look = {"loc": "outside lower center", "ncols": 2, "frameon": False}
    picture.legend([lines[label] for label in labels], labels, **look)
    content = io.BytesIO()
    options = {"transparent": True, "metadata": {"Date": None}}
    options["bbox_inches"] = "tight"  # with all of the legend
    picture.savefig(content, format=path.suffix[1:], **options)
    need("matplotlib.pyplot").close(picture)
    write_atomically(path, content.getvalue())


def draw_curves(groups: dict, looks: dict, x: str, args: Plot):
    """A panel for each environment, over steps or seconds."""
    from matplotlib.ticker import EngFormatter

    picture, axes = figure(len(groups), 3.2)
    for axis, ((env, metric), labels) in zip(axes, groups.items(), strict=True):
        for label, runs in labels.items():
            ends, values = scores(runs, x, args.points)
            places = ends if x == "steps" else ends / 60
            draw_curve(axis, looks[label], label, places, values[:, None], args.reps)
        unit = {"steps": "environment steps", "seconds": "minutes"}[x]
        axis.set(title=env, ylabel=metric, xlabel=unit)
        if metric == "battles won":
            axis.set_ylim(-0.05, 1.05)
        if x == "steps":
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    write_figure(picture, args.out / f"curves_{x}.svg")


def of_last_part(statistic, scores: np.ndarray) -> np.ndarray:
    """A statistic of scores [seeds, tasks, points] in the last of their points: [1]."""
    return np.array([statistic(scores[..., -1])])


def draw_aggregate(groups: dict, looks: dict, args: Plot):
    """Over the battles that all scripts have in common: curves, and statistics of the final scores.

    Final is the last tenth of the training.
    """
    metrics = need("rliable.metrics")
    battles = [labels for (_, metric), labels in groups.items() if metric == "battles won"]
    names = dict.fromkeys(label for labels in battles for label in labels)
    battles = [labels for labels in battles if names.keys() == labels.keys()]
    if not battles:
        reason = "there is no battle that all scripts have fought"
        print(f"no aggregate figure: {reason}", file=sys.stderr)
        return
    statistics = {"mean": metrics.aggregate_mean, "median": metrics.aggregate_median}
    statistics["IQM"] = metrics.aggregate_iqm
    ends = np.linspace(0, 100, args.points + 1)[1:]
    picture, (left, right) = figure(2, 3.8)
    for i, label in enumerate(names):
        seeds = min(len(labels[label]) for labels in battles)
        curves, final = (
            np.stack([scores(labels[label][:seeds], "steps", points)[1] for labels in battles], 1)
            for points in (args.points, 10)
        )  # [seeds, tasks, points]
        draw_curve(left, looks[label], label, ends, curves, args.reps)
        colour, dashes = looks[label]
        for j, statistic in enumerate(statistics.values()):
            middle, interval = estimate(final, partial(of_last_part, statistic), args.reps)
            height = j + 0.3 - 0.6 * (i + 0.5) / len(names)
            line = {"color": colour, "linestyle": dashes, "linewidth": 1.8}
            right.plot(interval[:, 0], [height, height], **line)
            right.plot(middle, [height], "o", color=colour, markersize=4)
    left.set(title=f"{len(battles)} battles", xlabel="training [%]", ylabel="IQM of battles won")
    right.set(title="last tenth of the training", ylim=(-0.5, 2.5))
    right.set(yticks=range(3), yticklabels=statistics)
    write_figure(picture, args.out / "aggregate.svg")


def table(groups: dict, reps: int) -> list[dict]:
    """A row for each environment and script; its result is of the last tenth of the training."""
    rows = []
    for (env, metric), labels in groups.items():
        for label, runs in labels.items():
            final = scores(runs, "steps", 10)[1][:, None, -1:]
            (middle,), ((low,), (high,)) = estimate(final, iqm, reps)
            row = {"environment": env, "metric": metric, "script": label, "seeds": len(runs)}
            row["steps"] = runs[0].args["total_timesteps"]
            row |= {"IQM": f"{middle:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}
            row["minutes"] = " ".join(f"{run.seconds[-1] / 60:.1f}" for run in runs)
            rows.append(row)
    return rows


def markdown(rows: list[dict]) -> str:
    lines = ["| environment | metric | script | seeds | steps | final IQM | 95% interval "]
    lines[0] += "| minutes of each run |"
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | --- |"]
    form = "| {environment} | {metric} | `{script}` | {seeds} | {steps:,} | {IQM} "
    form += "| {low} to {high} | {minutes} |"
    return "\n".join([*lines, *(form.format(**row) for row in rows), ""])


def choose(args: Plot) -> dict[tuple[str, str], dict[str, list[Curve]]]:
    """The runs to draw, in groups.

    Raises ValueError if there are none, or none with a seed or in an environment.
    """
    curves = [curve for folder in args.runs for curve in read(folder)]
    if not curves:
        raise ValueError(f"no finished run in {', '.join(map(str, args.runs))}")
    seeds = sorted({curve.args["seed"] for curve in curves})
    if missing := set(args.seeds).difference(seeds):
        wanted, there = (", ".join(map(str, values)) for values in (sorted(missing), seeds))
        raise ValueError(f"no finished run with seed {wanted}; there are runs with {there}")
    groups = group([curve for curve in curves if curve.args["seed"] in (args.seeds or seeds)])
    names = {env: None for env, _ in groups}
    order = [Path(env.rpartition(":")[2]).stem for env in args.envs] or list(names)
    if missing := set(order) - names.keys():
        wanted = ", ".join(sorted(missing))
        raise ValueError(f"no finished run of {wanted}; there are runs of {', '.join(names)}")
    kept = sorted((key for key in groups if key[0] in order), key=lambda key: order.index(key[0]))
    return {key: groups[key] for key in kept}


def plot(args: Plot) -> int:
    """Draw and write; returns the exit status. Raises ValueError if there is nothing to draw."""
    need("rliable.library")
    groups = choose(args)
    args.out.mkdir(parents=True, exist_ok=True)
    labels = dict.fromkeys(itertools.chain(*groups.values()))
    looks = dict(zip(labels, itertools.cycle(LOOKS), strict=False))
    for x in ("steps", "seconds"):
        draw_curves(groups, looks, x, args)
    draw_aggregate(groups, looks, args)
    rows = table(groups, args.reps)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(args.out / "results.csv", file.getvalue().encode())
    text = markdown(rows)
    write_atomically(args.out / "results.md", text.encode())
    print(text, end="")
    return 0


def main():
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    try:
        args = parse(Run | Plot, words[:cut], "benchmark")
        sys.exit(sweep(args, words[cut + 1 :]) if isinstance(args, Run) else plot(args))
    except (ValueError, ImportError, OSError) as error:
        print(f"benchmark.py: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
