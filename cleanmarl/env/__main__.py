"""Check an environment before training in it, or list those there are.

python -m cleanmarl.env check pz:my_games:courier
python -m cleanmarl.env list
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports, too

from cleanmarl import training  # first: it sets the threads of NumPy and PyTorch

# isort: split
import sys
from dataclasses import dataclass
from functools import partial

from tyro.conf import Positional

from cleanmarl.env import make_env
from cleanmarl.env.check import check
from cleanmarl.env.listing import table
from cleanmarl.env.tasks import Task, read_task
from cleanmarl.training.arguments import (
    SET_BY_SCRIPT,
    WITH_ARGUMENT,
    option,
    parse,
    read_options,
)
from cleanmarl.training.errors import reader_may_leave
from cleanmarl.training.memory import amount, buffer_bytes, memory, notes_on


@dataclass
class Check:
    """Play random legal episodes in an environment, and tell its sizes and its problems."""

    task: Positional[str]
    """for example 3m, mine.toml, lbf:NAME, pz:FAMILY:NAME, gym:MODULE:ID"""
    options: Positional[tuple[str, ...]] = ()
    """options of the task, for example N=5 local_ratio=0"""
    time_limit: int | None = None
    """steps of an episode; None for the environment's own limit"""
    agent_ids: bool = True
    """append a one-hot agent id to each observation"""
    clock: bool = True
    """append the share of time left to observations and state"""
    env_state: bool = True
    """the mixer sees the task's own state; if it has none, all observations"""
    episodes: int = 5
    """random episodes to play; after two, for at most 10 seconds"""
    buffer_size: int = 5000
    """episodes in the replay buffer"""


@dataclass
class List:
    """Print the environments there are, with their sizes and time limits.

    Teams fit where all sizes are equal.
    """


def options_of(task: Task, args: Check) -> dict:
    """The task's options. Raises Refused."""
    options = read_options([*task.options, *args.options])
    for name in options:
        if hasattr(args, name) and name in WITH_ARGUMENT:
            raise training.Refused(f"{name} has its own argument: {option(name)}")
        if name in (*WITH_ARGUMENT, *SET_BY_SCRIPT):
            raise training.Refused(f"{name} is no option of a task: leave it out")
    return options


def check_task(args: Check) -> int:
    """Print the report; returns the exit status."""
    task = read_task(args.task)
    name = (task.env_type, task.env_name, task.env_family or "mpe")
    names = ("agent_ids", "clock", "env_state", "time_limit")
    team = {name: getattr(args, name) for name in names}
    with training.refuse_on_error():
        options = options_of(task, args)
        make = partial(make_env, *name, **team, **options)
        make().close()
    report, env = check(make, args.episodes)
    for note in notes_on(env, args.buffer_size):
        report.say("note", note)
    if size := buffer_bytes(env.unwrapped, args.buffer_size):
        here = f" of {amount(memory())}" if memory() else ""
        report.say("full buffer", f"up to {amount(size)}{here} for {args.buffer_size:,} episodes")
    with reader_may_leave(sys.stdout), training.closing(env):
        print(report, flush=True)
    return 1 if report.problems else 0


def main():
    with training.one_line_errors("env"):
        about = {"prog": "python -m cleanmarl.env", "description": "Environments to train in."}
        args = parse(Check | List, sys.argv[1:], **about)
        if isinstance(args, Check):
            sys.exit(check_task(args))
        with reader_may_leave(sys.stdout):
            for line in table():
                print(line, flush=True)


if __name__ == "__main__":
    main()
