"""Resident memory of a long training whose replay buffer is full.

    python docs/tools/steady_memory.py --scripts qmix qmix_multienvs > table.md

Each script trains in a process of its own, with evaluations, curves and checkpoints. Linux only.
The exit status is 1 if the memory grows by more than `allowed` between the first and the last row.
"""

import contextlib
import importlib
import multiprocessing
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import tyro

from cleanmarl.training import Run


@dataclass
class Args:
    scripts: tuple[str, ...] = ("qmix",)
    """scripts to train with"""
    env_name: str = "3m"
    """map to train on"""
    buffer_size: int = 100
    """episodes in the replay buffer"""
    total_timesteps: int = 300000
    """environment steps after the buffer is full"""
    rows: int = 10
    """times to measure"""
    allowed: float = 10
    """megabytes that the memory may grow"""


def resident() -> float:
    """Megabytes of memory that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class MeasuredRun(Run):
    """Measure the memory after every `part` steps with a full buffer; stop after some rows."""

    def __init__(self, found: list, part: int, rows: int, *args, **options):
        super().__init__(*args, **options)
        self.found = found
        self.part = part
        self.rows = rows
        self.full_at = 0  # steps when the buffer was full

    def advance(self, step: int):  # called once per episode or round
        super().advance(step)
        if len(self.episodes) < self.episodes.maxlen:
            return
        self.full_at = self.full_at or step
        # The first part is not measured: caches fill
        if step - self.full_at >= self.part * (len(self.found) + 1):
            self.found.append((step, resident()))
            if len(self.found) > self.rows:
                self.stopped = 15


def measure(script: str, args: Args, answers):
    """Train a script; put (step, megabytes) of each measurement into a queue."""
    module = importlib.import_module(f"cleanmarl.{script}")
    found = []
    run = partial(MeasuredRun, found, args.total_timesteps // args.rows, args.rows)
    script_args = module.Args(
        env_name=args.env_name,
        buffer_size=args.buffer_size,
        total_timesteps=10**9,
        exploration_fraction=50000 / 10**9,
    )
    with (
        tempfile.TemporaryDirectory() as parent,
        contextlib.redirect_stdout(sys.stderr),
        mock.patch.object(module, "Run", run),
        contextlib.suppress(SystemExit),  # the run was stopped
    ):
        module.train(script_args, folder=Path(parent) / "run")
    answers.put(found)


def main():
    args = tyro.cli(Args, description=__doc__)
    context = multiprocessing.get_context("spawn")
    grew = False
    print("|script|environment steps|resident memory|")
    print("|---|---:|---:|")
    for script in args.scripts:
        answers = context.Queue()
        process = context.Process(target=measure, args=(script, args, answers))
        process.start()
        found = answers.get()
        process.join()
        for step, size in found:
            print(f"|`{script}.py`|{step:,}|{size:.1f} MB|", flush=True)
        grew = grew or found[-1][1] - found[0][1] > args.allowed
    sys.exit(grew)


if __name__ == "__main__":
    main()
