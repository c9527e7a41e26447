"""The progress of a sweep's runs, on a terminal or in a log."""

import contextlib
import json
import os
import time
from collections import Counter
from pathlib import Path

from tqdm import tqdm

from cleanmarl.benchmark.records import METRICS
from cleanmarl.benchmark.task import Task, is_training


def tail(folder: Path) -> str:
    """The last lines of a log."""
    with contextlib.suppress(FileNotFoundError), (folder / "log.txt").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 8192))
        return log.read().decode(errors="replace")
    return ""


def status_of(folder: Path) -> dict:
    """The progress of the run in a folder, from its status.json."""
    for path in folder.glob("runs/*/status.json"):
        # It may be removed when the run starts again, or damaged
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            status = json.loads(path.read_text())
            if status["seconds"] > 0 and status["total_timesteps"] >= 0 and status["step"] >= 0:
                return status
    return {}


def look(task: Task, state: str | None) -> tuple[str, ...]:
    """The row of a run in the table; `state` is None unless the run has ended."""
    if task.finished:
        state = "finished"
    elif state is None:
        state = "running" if is_training(task.folder) else "waiting"
    status = status_of(task.folder)
    if not status:
        return task.title, "", "", "", "", state
    speed = status["step"] / status["seconds"]
    left = ""
    if state == "running" and speed > 0:
        steps_left = max(0, status["total_timesteps"] - status["step"])
        left = tqdm.format_interval(steps_left / speed)
    evaluation = ""
    for name in [name for name in METRICS if name in status][:1]:
        evaluation = f"{METRICS[name]} {status[name]:.2f}"
    return task.title, str(status["step"]), tqdm.format_sizeof(speed), evaluation, left, state


def table(rows: list[tuple[str, ...]]):
    """The rows as a table of rich; waiting and finished runs come last."""
    from rich.table import Table

    counts = Counter(row[-1].split()[0] for row in rows)
    title = ", ".join(f"{number} {state}" for state, number in counts.items())
    drawn = Table("run", title=f"{len(rows)} runs: {title}", title_justify="left")
    for column in ("steps", "steps/s", "last evaluation", "left"):
        drawn.add_column(column, justify="right")
    drawn.add_column("state")
    later = {"waiting": 1, "finished": 2}
    for row in sorted(rows, key=lambda row: later.get(row[-1], 0)):
        drawn.add_row(*row)
    return drawn


def tell(rows: list[tuple[str, ...]], told: dict[str, tuple]):
    """Without a terminal: print a line when a state changes, and each minute for a running run."""
    for title, steps, speed, evaluation, left, state in rows:
        news = (state, state == "running" and int(time.monotonic() // 60))
        if told.get(title) != news:
            parts = {"": evaluation, " steps": steps, " steps/s": speed, " left": left}
            news_of = [part + unit for unit, part in parts.items() if part]
            print(f"{title}: {state}", *news_of, sep=", ", flush=True)
        told[title] = news
