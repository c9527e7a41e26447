"""Train all runs of a plan on Ray."""

import contextlib
import os
import signal
import socket
import time
from collections import Counter
from pathlib import Path

from cleanmarl.benchmark.extras import need
from cleanmarl.benchmark.progress import look, table, tail, tell
from cleanmarl.benchmark.records import read_session
from cleanmarl.benchmark.task import Task, is_training, train
from cleanmarl.training.errors import warn
from cleanmarl.training.sources import digest_of


def outcome(ray, ref) -> str:
    """The state of a run that has ended."""
    try:
        status = ray.get(ref)
    except ray.exceptions.TaskCancelledError:
        return "stopped"
    except Exception as error:  # its process or machine died too often, or the disk is full
        return f"failed: {str(error).strip().splitlines()[-1]}"
    return f"failed with exit status {status}" if status else "finished"


def watch(ray, tasks: list[Task], todo: dict, signals: list[int]) -> dict[str, str]:
    """Show the progress of the runs until all have ended; returns title -> state.

    On a signal, the runs save and stop.
    """
    from rich.console import Console
    from rich.live import Live

    ended, told, console = {}, {}, Console()
    with Live(console=console) if console.is_terminal else contextlib.nullcontext() as live:
        while todo:
            if signals:  # cancel in every round: a run that is just starting misses it
                for ref in todo:
                    ray.cancel(ref)
            for ref in ray.wait(list(todo), num_returns=len(todo), timeout=1)[0]:
                task = todo.pop(ref)
                ended[task.title] = outcome(ray, ref)
                while is_training(task.folder):  # it is saving
                    time.sleep(0.1)
            rows = [look(task, ended.get(task.title)) for task in tasks]
            if live:
                live.update(table(rows))
            else:
                tell(rows, told)
    return ended


def connect(ray, address: str, cpus: int | None):
    """Start Ray on this machine, or join a cluster. Raises ConnectionError if there is none."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # otherwise Ray warns
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 starves runs on a busy machine
    options = {"log_to_driver": False, "logging_level": "ERROR"}
    if not address:
        options |= {"num_cpus": cpus, "include_dashboard": False}
        options["object_store_memory"] = 10**8  # the runs store nothing in it
    ray.init(address or "local", **options)


def train_all(ray, tasks: list[Task], todo: list[Task], signals: list[int]) -> dict[str, str]:
    """Let Ray do the runs in `todo`; returns title -> state of the runs that have ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    refs = {}
    remote = ray.remote(max_retries=10)(train)  # one for all, so Ray keeps their order
    for task in todo:
        task.folder.mkdir(parents=True, exist_ok=True)
        here = remote.options(num_cpus=1, num_gpus=int(task.args["device"] == "cuda"))
        refs[here.remote(task, path)] = task
    return watch(ray, tasks, refs, signals)


def check_address(address: str, cpus: int | None):
    """Raise ValueError if there is no cluster; Ray itself would retry again and again."""
    if cpus is not None and cpus < 1:
        raise ValueError(f"--cpus must be at least 1, got {cpus}")
    if address and cpus:
        raise ValueError("give either --cpus (this machine) or --address (a cluster), not both")
    if ":" in address:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, port), timeout=10).close()
        except OSError as error:
            raise ValueError(f"no Ray cluster at --address {address}: {error}") from None


def changed_since(tasks: list[Task]) -> Counter:
    """Scripts that have changed since finished runs were trained by them, and how many."""
    changed = Counter()
    for path in [path for task in tasks for path in task.folder.glob("runs/*/run.json")]:
        with contextlib.suppress(ValueError, OSError):  # a finished run needs only its record
            session = read_session(path)
            file, digest = Path(session.get("script_file", "")), session.get("script_sha256")
            if digest and digest_of(file) != digest:
                changed[file.name] += 1
    return changed


def sweep(tasks: list[Task], address: str = "", cpus: int | None = None) -> int:
    """Train all runs that are not finished; returns the exit status.

    Args:
        tasks: made by `plan`
        address: of a Ray cluster, or "auto"; without it, Ray runs on this machine
        cpus: runs at the same time on this machine; None for one per core

    Raises ValueError, ImportError or OSError before anything starts.
    """
    ray, _ = need("ray"), need("rich")
    check_address(address, cpus)
    todo = [task for task in tasks if not task.finished]
    for script, number in changed_since([task for task in tasks if task.finished]).items():
        wanted = "they are not trained again: choose other --runs for that"
        warn(f"{script} has changed since {number} of the finished runs; {wanted}")
    ended, signals = {}, []
    if todo:
        connect(ray, address, cpus)
        try:
            ended = train_all(ray, tasks, todo, signals)
        finally:
            ray.shutdown()
    for task in tasks:
        if ended.get(task.title, "").startswith("failed"):
            lines = [line for line in tail(task.folder).splitlines() if line.strip()]
            title = f"\n{task.title} {ended[task.title]}; {task.folder / 'log.txt'} ends with"
            print(title, *lines[-10:], sep="\n  ")
    finished = sum(task.finished for task in tasks)
    advice = "; the same command resumes the others" if finished < len(tasks) else ""
    print(f"{finished} of {len(tasks)} runs are finished{advice}")
    if signals:
        return 128 + signals[0]
    return 0 if finished == len(tasks) else 1
