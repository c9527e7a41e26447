"""Size of the replay buffer in the checkpoints, and the time that checkpoints take.

    python docs/checkpoint_cost.py > table.md

trains `qmix.py` in each environment, with its defaults and from the start, for some thousand
episodes. There is a checkpoint every 1,000 episodes, which writes these episodes to the disk.
"""

import contextlib
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import tyro

from cleanmarl import qmix
from cleanmarl.run import Run


@dataclass
class Args:
    maps: tuple[str, ...] = ("3m", "MMM", "27m_vs_30m", "Foraging-8x8-2p-3f-v3")
    """maps, or environments of Level-Based Foraging, to train in one after the other"""
    episodes: int = 5000
    """episodes to train for, a multiple of 1,000"""


@dataclass
class Cost:
    steps: int = 0  # of the environment
    episodes: int = 0
    in_memory: int = 0  # bytes of the replay buffer
    on_disk: int = 0  # bytes of the folder with the episodes
    seconds: float = 0.0  # of training
    checkpoints: list[float] = field(default_factory=list)  # seconds that each took


def measure(name: str, episodes: int) -> Cost:
    """Train until there are `episodes` episodes."""
    cost = Cost()
    advance, save = Run.advance, Run.save

    def counted_advance(run: Run, step: int):  # called once per episode
        advance(run, step)
        cost.episodes += 1
        if cost.episodes == episodes:
            run.stopped = signal.SIGINT

    def timed_save(run: Run):
        files = list(run.files)
        began = time.perf_counter()
        save(run)
        if run.files == files:  # at the end, without new episodes
            return
        cost.checkpoints.append(time.perf_counter() - began)
        cost.seconds = run.seconds
        cost.steps = run.step
        cost.in_memory = sum(array.nbytes for one in run.episodes for array in one.values())
        cost.on_disk = sum(path.stat().st_size for path in (run.folder / "episodes").iterdir())

    env_type = "lbf" if name.startswith("Foraging") else "smaclite"
    with (
        mock.patch.object(Run, "advance", counted_advance),
        mock.patch.object(Run, "save", timed_save),
        contextlib.redirect_stdout(sys.stderr),
        tempfile.TemporaryDirectory() as parent,
        contextlib.suppress(SystemExit),  # of a run that is stopped
    ):
        args = qmix.Args(env_type=env_type, env_name=name, checkpoint_every=1000)
        qmix.train(args, folder=Path(parent) / "run")
    return cost


def print_row(*cells):
    print("|", " | ".join(cells), "|", flush=True)


def main(args: Args):
    sizes = ["in memory, MB", "on disk, MB", "ratio"]
    times = ["seconds per checkpoint", "share of training"]
    print_row("environment", "episodes", "steps", *sizes, *times)
    print_row("---", *["---:"] * 7)
    for name in args.maps:
        cost = measure(name, args.episodes)
        spent = sum(cost.checkpoints)
        cells = [name, f"{cost.episodes:,}", f"{cost.steps:,}"]
        cells += [f"{size / 1e6:,.1f}" for size in (cost.in_memory, cost.on_disk)]
        cells.append(f"{cost.in_memory / cost.on_disk:.1f}")
        cells.append(f"{spent / len(cost.checkpoints):.2f}")
        cells.append(f"{spent / cost.seconds:.1%}")
        print_row(*cells)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
