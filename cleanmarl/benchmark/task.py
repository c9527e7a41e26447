"""One run of a sweep: `train` does it in a process of Ray, and keeps its record and its team."""

import contextlib
import ctypes
import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from cleanmarl.benchmark.records import (
    Record,
    Unfinished,
    read_args,
    read_record,
    read_run,
    write_record,
)
from cleanmarl.training.arguments import option
from cleanmarl.training.checkpoint import write_atomically
from cleanmarl.training.kept import kept_steps, name_of

# Files of a run folder that make its team, see `keep`.
OF_TEAM = ("args.json", "team.json", "best.pt", "model.pt")
EXPLORES = "exploration_fraction"
LONGER = {"total_timesteps", EXPLORES}  # arguments that change if a run is made longer


@dataclass
class Task:
    """One run: the command line of a script, and its folder."""

    title: str
    folder: Path
    command: list[str]
    """the words after `python`"""
    args: dict
    """all arguments of the script"""

    @property
    def finished(self) -> bool:
        """Whether the run has a record of as many steps, or more. Raises ValueError."""
        if not self.record.exists():
            return False
        done = read_record(self.record).args["total_timesteps"]
        return done >= self.args.get("total_timesteps", 0)

    @property
    def record(self) -> Path:
        """The file that `keep` writes when the run is finished."""
        return self.folder.with_name(self.folder.name + ".json")

    @property
    def began(self) -> Path:
        """The file of `keep_beginning`."""
        return self.folder / "began.json"

    @property
    def team(self) -> Path:
        """The folder beside the record in which `keep` puts the trained team."""
        return self.folder.with_name(self.folder.name + ".team")


def read_began(task: Task) -> dict:
    """If a run was made longer before it was finished: arguments with which it began."""
    try:
        began = json.loads(task.began.read_text())
        return began if isinstance(began, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def keep_beginning(task: Task, run: Path):
    """Before a run is made longer for the first time: write down what this changes."""
    if task.args.get(EXPLORES) is None or task.began.exists():
        return
    own = read_args(run / "args.json")
    if own["total_timesteps"] < task.args["total_timesteps"]:
        began = {name: own[name] for name in sorted(LONGER & own.keys())}
        write_atomically(task.began, json.dumps(began).encode())


def lock(log) -> bool:
    """Try to lock a log.

    The script that writes to the log inherits the lock, and keeps it if it outlives its parent.
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
    """In a script's process, before the script starts: make it save and end if its parent dies.

    This works only on Linux, which then sends SIGTERM.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # Ray's processes block Ctrl-C
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def train(task: Task, python_path: str) -> int:
    """Train in the task's folder, from its last checkpoint if it has one; returns the exit status.

    Ray calls this function. If its process or machine dies, Ray calls it again on any machine.
    """
    folder = task.folder
    settings = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": python_path}
    with contextlib.suppress(ValueError):  # raised if this is not the main thread
        # Ray cancels with SIGINT, which nohup makes processes ignore
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with (folder / "log.txt").open("a") as log:
        while not lock(log):  # a script that lost its parent is still saving
            time.sleep(0.1)
        words = list(task.command)
        if saved := checkpoints(folder):
            keep_beginning(task, saved[0].parent)
            words += resumed_words(task, saved[0].parent)
        else:
            shutil.rmtree(folder / "runs", ignore_errors=True)
        print("\n$ python", *words, file=log, flush=True)
        options = {"cwd": folder, "env": os.environ | settings, "stdout": log, "stderr": log}
        script = subprocess.Popen([sys.executable, *words], preexec_fn=follow_parent, **options)
        try:
            while script.poll() is None:
                time.sleep(0.1)
        finally:  # a stopped sweep raises KeyboardInterrupt
            script.terminate()
            script.wait()
        return script.returncode or keep(task)


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of the run in a task's folder."""
    return [*folder.glob("runs/*/checkpoint.pt"), *folder.glob("runs/*/checkpoint.old")]


def resumed_words(task: Task, run: Path) -> list[str]:
    """The words that resume a task's run.

    A run that is made longer explores for as many steps as before.
    """
    words = ["--resume", str(run.relative_to(task.folder))]
    wanted = task.args.get(EXPLORES)
    own = read_args(run / "args.json") if wanted is not None else {}
    fraction = own.get(EXPLORES, wanted)
    if own and own["total_timesteps"] < task.args["total_timesteps"]:
        fraction = fraction * own["total_timesteps"] / task.args["total_timesteps"]
    return words if fraction == wanted else [*words, option(EXPLORES), str(fraction)]


def keep(task: Task) -> int:
    """Keep the team and the record of a run whose script ended with 0.

    The record comes last: a run with a record is finished. Returns 1 if the run is not finished.
    """
    for path in task.folder.glob("runs/*/args.json"):
        with contextlib.suppress(Unfinished):
            record = read_run(path.parent)
            keep_team(path.parent, task.team)
            write_record(task.record, replace(record, **told_by(task, record)))
            return 0
    with (task.folder / "log.txt").open("a") as log:
        print("the script has ended, but its run is not finished", file=log)
    return 1


def told_by(task: Task, record: Record) -> dict:
    """What a task and the older record of its run, if there is one, add to its new record."""
    # The record's command does the whole run on any machine: no --resume, no local folder.
    words = [Path(word).name if word.endswith(".py") else word for word in task.command]
    before, older = read_began(task), None
    if task.record.exists():
        older = read_record(task.record)
        before = {name: older.args[name] for name in LONGER & older.args.keys()}
    changes = {n: v for n, v in before.items() if n in LONGER and v != record.args.get(n)}
    began_with = (older and older.began_with) or changes or None
    if began_with and EXPLORES in began_with:
        words += [option(EXPLORES), str(record.args[EXPLORES])]
    return {"command": shlex.join(["python", *words]), "began_with": began_with}


def keep_team(run: Path, folder: Path):
    """Copy a run's networks, and what is needed to load them; nothing if none were saved."""
    kept = [name_of(step) for step in kept_steps(run)]
    if not (run / "best.pt").exists() and not kept:
        return
    folder.mkdir(exist_ok=True)
    for name in (*OF_TEAM, *kept):
        if (run / name).exists():
            (folder / name).parent.mkdir(exist_ok=True)
            write_atomically(folder / name, (run / name).read_bytes())
