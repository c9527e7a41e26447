"""Sweeps of the four scripts on Ray, and what came of them: curves and tables with rliable's statistics.

    python -m cleanmarl.benchmark run --scripts qmix qmix_lstm --envs 3m 2s3z --seeds 1 2 3 -- --total-timesteps 200000
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
import platform
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
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import tyro

SCRIPTS = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
OWN = {"env_type", "env_name", "env_family", "seed", "torch_threads", "resume", "evaluate"}  # the sweep sets them
FREE = {"checkpoint_every", "save_model", "capture_video", "use_wnb", "wnb_project", "wnb_entity"}  # matter to no curve
FREE |= {"torch_threads", "resume"}
BAR = "{desc} {n}/{total} steps, {rate_noinv_fmt}, {remaining} left{postfix}"  # the scripts' progress, in their logs
PROGRESS = re.compile(r"^(\w*) (\d+)/\w+ steps, (\S+?)(?: steps|it)/s, (\S+) left.*$", re.MULTILINE)
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
    """Train with every script, in every environment, with every seed; what follows -- is for the scripts."""

    scripts: tuple[Literal[SCRIPTS], ...] = ("qmix",)
    """scripts to train with"""
    envs: tuple[str, ...] = ("3m",)
    """as 3m, mine.toml, lbf:Foraging-8x8-2p-3f-v3, pz:simple_spread_v3, pz:sisl:pursuit_v5"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """seeds to train with"""
    runs: Path = Path("sweep")
    """folder of the sweep; what is finished in it is not trained again, what is not goes on"""
    address: str = ""
    """address of a Ray cluster, or auto; without it, Ray runs on this machine, for as long as the sweep takes"""
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
    """The trainings of a sweep, checked as the scripts do it. Raises ValueError or ImportError, in one line."""
    tasks = {}
    for word in passed:
        if word.startswith("--") and word[2:].partition("=")[0].replace("-", "_") in OWN:
            raise ValueError(f"{word} cannot be passed on to the scripts, the sweep sets it: see run --help")
    for seed, env, script in itertools.product(run.seeds, run.envs, run.scripts):
        module, (*kind, name) = import_module(f"cleanmarl.{script}"), env.split(":")
        name = str(Path(name).resolve()) if name.endswith(".toml") else name
        words = ["--env-type", kind[0] if kind else "smaclite", "--env-name", name, "--seed", str(seed)]
        words += ["--env-family", kind[1]] if len(kind) > 1 else []
        args = parse(module.Args, [*words, "--torch-threads", "1", *passed], f"{script}.py")
        module.check_args(args)
        if seed == run.seeds[0]:
            module.open_env(args).close()
        folder = run.runs.resolve() / f"{args.env_type}__{Path(name).stem}__{script}__{seed}"
        command = ["-m", f"cleanmarl.{script}", *words, "--torch-threads", "1", *passed]
        task = Task(f"{script} {env} {seed}", folder, command, asdict(args))
        if tasks.setdefault(folder, task) is not task:
            raise ValueError(f"{tasks[folder].title} and {task.title} would share the folder {folder.name}")
    for task in tasks.values():
        check_folder(task)
    return list(tasks.values())


def check_folder(task: Task):
    """Raise ValueError if a run in the folder was begun, or has finished, with other arguments."""
    begun = [json.loads(path.read_text()) for path in task.folder.glob("runs/*/args.json")]
    if record_of(task.folder).exists():
        begun = [read_record(record_of(task.folder)).args]
    for found in begun:
        known = (task.args.keys() & found.keys()) - FREE  # an argument may be younger than the run
        names = sorted(name for name in known if found[name] != task.args[name])
        there, here = (" ".join(option(name, args[name]) for name in names) for args in (found, task.args))
        if names:
            raise ValueError(f"the run in {task.folder} has {there}, not {here}: remove it or choose other --runs")


def lock(log) -> bool:
    """Try to lock a log. A script that writes to it has the lock too, and keeps it if it outlives its parent."""
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def is_training(folder: Path) -> bool:
    with contextlib.suppress(FileNotFoundError), (folder / "log.txt").open("r+") as log:
        return not lock(log)
    return False


def follow_parent():
    """In the process of a script, before it begins: SIGTERM, on which it saves, when its parent dies (on Linux)."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray's processes do not hear Ctrl-C
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def made_with(command: list[str]) -> dict[str, str]:
    """What a training is made with: command, commit, versions and machine."""
    words, commit = ["git", "describe", "--always", "--dirty", "--exclude=*"], ""
    with contextlib.suppress(OSError):
        commit = subprocess.run(words, cwd=Path(__file__).parent, capture_output=True, text=True).stdout.strip()
    processor = platform.processor()
    with contextlib.suppress(OSError, IndexError):  # Linux tells its name there only
        processor = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    versions = [f"{name} {version(name)}" for name in ("torch", "numpy", "numba", "gymnasium")]
    return {
        "command": shlex.join(["python", *command]),
        "commit": commit,
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "machine": f"{processor}, {os.cpu_count()} cores, {platform.platform(terse=True)}",
    }


def write_record(folder: Path, made: dict[str, str]):
    """Say beside the folder of a finished training what it was made with, and its evaluations."""
    curve = next(filter(None, (read_run(args.parent) for args in folder.glob("runs/*/args.json"))), None)
    record = made | (vars(curve) if curve else {})
    lines = [f'"{name}": {json.dumps(value, default=np.ndarray.tolist)}' for name, value in record.items()]
    write_atomically(record_of(folder), "{{\n{}\n}}\n".format(",\n".join(lines)).encode())


def train(folder: Path, command: list[str], python_path: str) -> int:
    """Train in `folder`, from its last checkpoint if there is one; returns the exit status of the script.

    Ray calls this, and again, on whatever machine, if the process or the machine that does it dies.
    """
    settings = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path}
    settings |= {"TQDM_MININTERVAL": "1", "TQDM_BAR_FORMAT": BAR}
    made = made_with(command)
    with contextlib.suppress(ValueError):  # raised where this is not the main thread
        signal.signal(signal.SIGINT, signal.default_int_handler)  # Ray cancels by it; behind nohup it may be ignored
    with (folder / "log.txt").open("a") as log:
        while not lock(log):  # a script that has lost its parent is about to end
            time.sleep(0.1)
        saved = [*folder.glob("runs/*/checkpoint.pt"), *folder.glob("runs/*/checkpoint.old")]
        if saved:
            command = [*command, "--resume", str(saved[0].parent.relative_to(folder))]
        else:
            shutil.rmtree(folder / "runs", ignore_errors=True)
        print("\n$ python", *command, file=log, flush=True)
        options = {"cwd": folder, "env": os.environ | settings, "stdout": log, "stderr": log}
        script = subprocess.Popen([sys.executable, *command], preexec_fn=follow_parent, **options)
        try:
            while script.poll() is None:
                time.sleep(0.1)
        finally:  # by a KeyboardInterrupt if the sweep is stopped
            script.terminate()
            script.wait()
        if script.returncode == 0:
            write_record(folder, made)
    return script.returncode


def tail(folder: Path) -> str:
    """The last lines of a log."""
    with contextlib.suppress(FileNotFoundError), (folder / "log.txt").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
        return log.read().decode(errors="replace").replace("\r", "\n")
    return ""


def look(task: Task, state: str | None) -> tuple[str, ...]:
    """The row of a training in the table; its state is looked for unless it has ended."""
    text = tail(task.folder).rpartition("\n$ python")[2]
    doing, steps, speed, left = (PROGRESS.findall(text) or [("", "", "", "")])[-1]
    evaluation = " ".join((re.findall(r"eval/(\w+)=([^,\s]+)", text) or [("",)])[-1])
    if record_of(task.folder).exists():
        state = "finished"
    elif state is None:
        state = (doing or "running") if is_training(task.folder) else "waiting"
    return task.title, steps, speed, evaluation, left if state == "running" else "", state


def show(rows: list[tuple[str, ...]]):
    """The table; what is going on comes first."""
    from rich.table import Table

    states, later = Counter(row[-1].split()[0] for row in rows), {"waiting": 1, "finished": 2}
    title = f"{len(rows)} runs: {', '.join(f'{number} {state}' for state, number in states.items())}"
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
            print(f"{title}: {state}", *(part + unit for unit, part in parts.items() if part), sep=", ", flush=True)
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
    except Exception as error:  # its process or its machine died too often, or the folder cannot be written
        return f"failed: {str(error).strip().splitlines()[-1]}"
    return f"failed with exit status {status}" if status else "finished"


def watch(ray, tasks: list[Task], todo: dict, signals: list[int]) -> dict[str, str]:
    """Show how the trainings come on until all have ended; returns their states. On a signal they stop, and save."""
    from rich.console import Console
    from rich.live import Live

    ended, told, console = {}, {}, Console()
    with Live(console=console) if console.is_terminal else contextlib.nullcontext() as live:
        while todo:
            for ref in todo if signals else ():  # each time round: a run that just begins does not hear it
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


def train_all(ray, run: Run, tasks: list[Task], todo: list[Task], signals: list[int]) -> dict[str, str]:
    """Have Ray train; returns the states of what has ended. Raises ConnectionError where there is no cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or else Ray warns
    local = {"num_cpus": run.cpus, "include_dashboard": False, "object_store_memory": 10**8}  # it stores nothing
    ray.init(run.address or "local", log_to_driver=False, logging_level="ERROR", **{} if run.address else local)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    try:
        refs, remote = {}, ray.remote(max_retries=10)(train)  # one for all: Ray keeps their order then
        for task in todo:
            task.folder.mkdir(parents=True, exist_ok=True)
            here = remote.options(num_cpus=1, num_gpus=int(task.args["device"] == "cuda"))
            refs[here.remote(task.folder, task.command, path)] = task
        return watch(ray, tasks, refs, signals)
    finally:
        ray.shutdown()


def sweep(run: Run, passed: list[str]) -> int:
    """Train what is not finished yet; returns the exit status. Raises ValueError, ImportError or OSError at first."""
    ray, _ = need("ray"), need("rich")
    if run.address and run.cpus:
        raise ValueError("--cpus is for this machine and --address for a cluster: they exclude each other")
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
            lines = [line for line in PROGRESS.sub("", tail(task.folder)).splitlines() if line.strip()]
            print(f"\n{task.title} {ended[task.title]}; {task.folder / 'log.txt'} ends with", *lines[-10:], sep="\n  ")
    finished = sum(record_of(task.folder).exists() for task in tasks)
    print(f"{finished} of {len(tasks)} runs are finished{', the same command goes on' * (finished < len(tasks))}")
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
    tag, metric = ("eval/battle_won", "battles won") if "eval/battle_won" in tags else ("eval/ep_reward", "reward")
    curves = [[(e.step, e.value) for e in events.Scalars(name)] for name in (tag, "charts/SPS") if name in tags]
    if len(curves) < 2 or curves[0][-1][0] < args["total_timesteps"]:
        print(f"left out, since it is not finished: {folder}", file=sys.stderr)
        return None
    (steps, values), (logged, speed) = (np.array(curve).T for curve in curves)
    seconds = np.interp(steps, logged, logged / speed)
    return Curve(folder.name.split("__")[2], args, metric, steps.astype(int), seconds.round(1), values.round(4))


def read_record(path: Path) -> Curve:
    """The evaluations in a record. Raises ValueError, in one line, if the file is none."""
    try:
        found = json.loads(path.read_text())
        names = [field.name for field in fields(Curve)]
        return Curve(*(np.array(found[name]) if isinstance(found[name], list) else found[name] for name in names))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the record of a run: {error!r}") from None


def read(folder: Path) -> list[Curve]:
    """The finished runs in a folder, at any depth: their records, and the run folders that are without one."""
    records = sorted(folder.rglob("*__*__*__*.json"))
    told = {path.with_suffix("") for path in records}
    runs = [path.parent for path in sorted(folder.rglob("args.json")) if told.isdisjoint(path.parents)]
    return [*map(read_record, records), *filter(None, map(read_run, runs))]


def group(curves: list[Curve]) -> dict[tuple[str, str], dict[str, list[Curve]]]:
    """(environment, metric) -> script, with the options in which its runs differ there -> a run of each seed."""
    seen, groups = defaultdict(set), defaultdict(lambda: defaultdict(dict))
    for curve in curves:
        for name in curve.args.keys() - OWN - FREE:
            seen[curve.args["env_name"], curve.script, name].add(curve.args[name])
    varied = {(script, name) for (_, script, name), values in seen.items() if len(values) > 1}
    for curve in sorted(curves, key=lambda curve: (SCRIPTS.index(curve.script), curve.args["seed"])):
        options = [option(name, value) for name, value in curve.args.items() if (curve.script, name) in varied]
        labels = groups[Path(curve.args["env_name"]).stem, curve.metric]
        labels[" ".join([f"{curve.script}.py", *options])][curve.args["seed"]] = curve
    return {env: {label: list(runs.values()) for label, runs in labels.items()} for env, labels in groups.items()}


def scores(runs: list[Curve], x: str, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each of `points` parts of a training ends, in steps or seconds, and its mean evaluations [seeds, points].

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
    """A statistic of scores [seeds, tasks, points], and its 95% interval by stratified bootstrap [2, points]."""
    np.random.seed(0)  # rliable draws from here, whatever it is given as random_state
    points, intervals = need("rliable.library").get_interval_estimates({"": scores}, statistic, reps=reps)
    return points[""], intervals[""]


def figure(number: int, width: float):
    """A figure with panels in rows of up to three, and its panels."""
    plt = need("matplotlib.pyplot")
    plt.rcParams |= {"text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY, "font.size": 9}
    plt.rcParams |= {"xtick.color": GREY, "ytick.color": GREY, "legend.labelcolor": GREY}
    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "cleanmarl"}  # what is equal gets equal names
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


def write_atomically(path: Path, content: bytes):
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def write_figure(picture, path: Path):
    lines = {line.get_label(): line for axis in picture.axes for line in axis.get_lines()}
    labels = [label for label in lines if not label.startswith("_")]
    picture.legend([lines[label] for label in labels], labels, loc="outside lower center", ncols=2, frameon=False)
    content = io.BytesIO()
    options = {"transparent": True, "bbox_inches": "tight", "metadata": {"Date": None}}  # tight: with all of the legend
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
            draw_curve(axis, looks[label], label, ends / (1 if x == "steps" else 60), values[:, None], args.reps)
        axis.set(title=env, ylabel=metric, xlabel={"steps": "environment steps", "seconds": "minutes"}[x])
        if metric == "battles won":
            axis.set_ylim(-0.05, 1.05)
        if x == "steps":
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    write_figure(picture, args.out / f"curves_{x}.svg")


def draw_aggregate(groups: dict, looks: dict, args: Plot):
    """Over the battles that all scripts have in common: curves, and statistics of the last tenth of the training."""
    metrics = need("rliable.metrics")
    battles = [labels for (_, metric), labels in groups.items() if metric == "battles won"]
    names = dict.fromkeys(label for labels in battles for label in labels)
    battles = [labels for labels in battles if names.keys() == labels.keys()]
    if not battles:
        return print("no aggregate figure: there is no battle that all scripts have fought", file=sys.stderr)
    statistics = {"mean": metrics.aggregate_mean, "median": metrics.aggregate_median, "IQM": metrics.aggregate_iqm}
    picture, (left, right) = figure(2, 3.8)
    for i, label in enumerate(names):
        seeds = min(len(labels[label]) for labels in battles)
        curves, final = (
            np.stack([scores(labels[label][:seeds], "steps", points)[1] for labels in battles], 1)
            for points in (args.points, 10)
        )  # [seeds, tasks, points]
        draw_curve(left, looks[label], label, np.linspace(0, 100, args.points + 1)[1:], curves, args.reps)
        for j, statistic in enumerate(statistics.values()):
            middle, interval = estimate(final, lambda x, of=statistic: np.array([of(x[..., -1])]), args.reps)
            height, (colour, dashes) = j + 0.3 - 0.6 * (i + 0.5) / len(names), looks[label]
            right.plot(interval[:, 0], [height, height], color=colour, linestyle=dashes, linewidth=1.8)
            right.plot(middle, [height], "o", color=colour, markersize=4)
    left.set(title=f"{len(battles)} battles", xlabel="training [%]", ylabel="IQM of battles won")
    right.set(title="last tenth of the training", yticks=range(3), yticklabels=statistics, ylim=(-0.5, 2.5))
    write_figure(picture, args.out / "aggregate.svg")


def table(groups: dict, reps: int) -> list[dict]:
    """A row for each environment and script; the result is that of the last tenth of the training."""
    rows = []
    for (env, metric), labels in groups.items():
        for label, runs in labels.items():
            (middle,), ((low,), (high,)) = estimate(scores(runs, "steps", 10)[1][:, None, -1:], iqm, reps)
            row = {"environment": env, "metric": metric, "script": label, "seeds": len(runs)}
            row |= {"steps": runs[0].args["total_timesteps"], "IQM": f"{middle:.3f}", "low": f"{low:.3f}"}
            row |= {"high": f"{high:.3f}", "minutes": " ".join(f"{run.seconds[-1] / 60:.1f}" for run in runs)}
            rows.append(row)
    return rows


def markdown(rows: list[dict]) -> str:
    lines = ["| environment | metric | script | seeds | steps | final IQM | 95% interval | minutes of each run |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | --- |"]
    form = "| {environment} | {metric} | `{script}` | {seeds} | {steps:,} | {IQM} | {low} to {high} | {minutes} |"
    return "\n".join([*lines, *(form.format(**row) for row in rows), ""])


def choose(args: Plot) -> dict[tuple[str, str], dict[str, list[Curve]]]:
    """The runs to draw, in groups. Raises ValueError if there are none, or none with a seed or in an environment."""
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
        raise ValueError(f"no finished run of {', '.join(sorted(missing))}; there are runs of {', '.join(names)}")
    kept = sorted((key for key in groups if key[0] in order), key=lambda key: order.index(key[0]))
    return {key: groups[key] for key in kept}


def plot(args: Plot) -> int:
    """Draw and write; returns the exit status. Raises ValueError if there is nothing to draw."""
    need("rliable.library")
    groups = choose(args)
    args.out.mkdir(parents=True, exist_ok=True)
    looks = dict(zip(dict.fromkeys(itertools.chain(*groups.values())), itertools.cycle(LOOKS), strict=False))
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
