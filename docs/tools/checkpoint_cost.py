"""Size of the replay buffer in checkpoints, and the time that checkpoints take.

    python docs/tools/checkpoint_cost.py > table.md

The program trains `qmix.py` with its defaults in each environment. Every 1,000 episodes, a
checkpoint writes these episodes to the disk.
"""

import contextlib
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest import mock

import tyro

from cleanmarl import qmix
from cleanmarl.training import Run


@dataclass
class Args:
    envs: tuple[str, ...] = ("3m", "MMM", "27m_vs_30m", "Foraging-8x8-2p-3f-v3")
    """maps, or environments of Level-Based Foraging"""
    episodes: int = 5000
    """episodes to train for in each environment"""
    checkpoint_every: int = 1000
    """episodes between checkpoints"""


@dataclass
class Cost:
    """Memory, disk space and time of a training's replay buffer and checkpoints."""

    episodes: int = 0
    steps: int = 0  # environment steps
    in_memory: int = 0  # bytes of the replay buffer
    on_disk: int = 0  # bytes of the folder with the episodes
    seconds: float = 0.0  # training time
    checkpoints: list[float] = field(default_factory=list)  # seconds of each


class MeasuredRun(Run):
    """Stop after some episodes, and record the cost of the checkpoints."""

    def __init__(self, cost: Cost, episodes: int, *args, **options):
        super().__init__(*args, **options)
        self.cost = cost
        self.last_episode = episodes

    def advance(self, step: int):  # called once per episode
        super().advance(step)
        self.cost.episodes += 1
        if self.cost.episodes == self.last_episode:
            self.stopped = signal.SIGINT

    def save(self):
        before = self.last_packed
        began = time.perf_counter()
        super().save()
        if self.last_packed is before:  # the last checkpoint has no new episodes
            return
        cost = self.cost
        cost.checkpoints.append(time.perf_counter() - began)
        cost.seconds = self.seconds
        cost.steps = self.step
        kept = [array for episode in self.episodes for array in episode.values()]
        cost.in_memory = sum(array.nbytes for array in kept)
        cost.on_disk = sum(path.stat().st_size for path in self.packed_files())


def measure(name: str, args: Args) -> Cost:
    """Train in an environment."""
    cost = Cost()
    env_type = "lbf" if name.startswith("Foraging") else "smaclite"
    task = {"env_type": env_type, "env_name": name, "checkpoint_every": args.checkpoint_every}
    with (
        mock.patch.object(qmix, "Run", partial(MeasuredRun, cost, args.episodes)),
        contextlib.redirect_stdout(sys.stderr),
        tempfile.TemporaryDirectory() as parent,
        contextlib.suppress(SystemExit),  # a stopped run raises it
    ):
        qmix.train(qmix.Args(**task), folder=Path(parent) / "run")
    return cost


def print_row(*cells: str):
    print("|", " | ".join(cells), "|", flush=True)


def main(args: Args):
    sizes = ["in memory, MB", "on disk, MB", "ratio"]
    times = ["seconds per checkpoint", "share of the training time"]
    print_row("environment", "episodes", "steps", *sizes, *times)
    print_row("---", *["---:"] * 7)
    for name in args.envs:
        cost = measure(name, args)
        spent = sum(cost.checkpoints)
        cells = [name, f"{cost.episodes:,}", f"{cost.steps:,}"]
        cells.append(f"{cost.in_memory / 1e6:,.2f}")
        cells.append(f"{cost.on_disk / 1e6:,.2f}")
        cells.append(f"{cost.in_memory / cost.on_disk:.1f}")
        cells.append(f"{spent / len(cost.checkpoints):.2f}")
        cells.append(f"{spent / cost.seconds:.1%}")
        print_row(*cells)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
