"""Which parts of a training take how much time, beside the least time that the work needs.

    python docs/tools/where_time_goes.py --scripts qmix qmix_lstm --maps 3m MMM

Each training runs a whole script; the second half of the time counts (as in speed.py). The table
has microseconds per environment step. The program replaces the script's functions by functions that
read the clock at entry and exit. This takes about a microsecond per call, which the table includes.
"""

import cleanmarl  # noqa: F401  first: it prepares NumPy and PyTorch

# isort: split
import functools
import importlib
import statistics
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
import tyro
from battle_speed import measure  # in this folder
from speed import print_row, rates  # in this folder
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cleanmarl.battle import BattleEnv

# A script's functions and their parts; a part excludes the functions of other parts that it calls
PARTS = {
    "acting": "acting",
    "act": "acting",
    "act_together": "acting",
    "collect_episode": "storing",
    "Collector.step": "storing",
    "EpisodeBuffer.store": "storing",
    "EpisodeBuffer.sample": "sampling",
    "qmix_loss": "forward",
    "update": "optimizer",
    "Networks.update_targets": "optimizer",
    "evaluate": "evaluation",
    "training.Progress.metrics": "logging",
    "Run.advance": "logging",
    "Run.log": "logging",
    "Run.save": "logging",
}
COLUMNS = ["environment", "acting", "storing", "sampling", "forward", "backward", "optimizer"]
COLUMNS += ["evaluation", "logging", "rest"]
FLOORS = ["floor: environment", "matrices", "copies", "calls"]


@dataclass
class Args:
    scripts: tuple[str, ...] = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
    """scripts to train with"""
    maps: tuple[str, ...] = ("3m", "2s3z", "MMM", "27m_vs_30m")
    """maps to train on"""
    seconds: float = 20.0
    """seconds that count of each training"""


class Clock:
    """Time of each part, without the time of other parts that it calls.

    All the time of an evaluation counts as evaluation.
    """

    def __init__(self):
        self.parts = ["rest"]  # running parts, the innermost last
        self.clear()

    def clear(self):
        self.spent = Counter()  # seconds of each part
        self.calls = Counter()  # of each function
        self.last = time.perf_counter()

    def turn(self):
        now = time.perf_counter()
        self.spent[self.parts[-1]] += now - self.last
        self.last = now

    def timed(self, part: str, function):
        """The function; its time counts for a part."""

        @functools.wraps(function)
        def call(*args, **options):
            self.turn()
            self.parts.append("evaluation" if "evaluation" in self.parts else part)
            self.calls[function.__name__] += 1
            try:
                return function(*args, **options)
            finally:
                self.turn()
                self.parts.pop()

        return call


class Watched:
    """Replace functions of a script by timed ones.

    Attributes:
        clock: the times
        last_update: arguments of the last update
        rows: transitions in the batches of all updates
    """

    def __init__(self, script: str):
        self.module = importlib.import_module(f"cleanmarl.{script}")
        self.clock = Clock()
        self.last_update = ()
        self.rows = 0

    def clear(self):
        self.clock.clear()
        self.rows = 0

    def __enter__(self):
        self.patches = ExitStack()
        for name, part in PARTS.items():
            *owners, function = name.split(".")
            target = self.module
            for owner in owners:
                target = getattr(target, owner, None)
            if hasattr(target, function):
                timed = self.clock.timed(part, getattr(target, function))
                self.replace(target, function, timed)
        self.replace(self.module, "update", self.counted(self.module.update))
        backward = self.clock.timed("backward", torch.Tensor.backward)
        self.replace(torch.Tensor, "backward", backward)
        for opener in ("open_env", "make_vector_env"):
            if hasattr(self.module, opener):
                self.replace(self.module, opener, self.watched(getattr(self.module, opener)))
        return self

    def __exit__(self, *error):
        self.patches.close()

    def replace(self, target, name: str, function):
        self.patches.enter_context(mock.patch.object(target, name, function))

    def counted(self, update):
        """An update that records its arguments."""

        def call(*args):
            self.last_update = args
            self.rows += args[2]["reward"].numel()
            return update(*args)

        return call

    def watched(self, opener):
        """A function that opens timed environments."""

        def open_env(*args, **options):
            env = opener(*args, **options)
            env.reset = self.clock.timed("environment", env.reset)
            env.step = self.clock.timed("environment", env.step)
            return env

        return open_env


class Operations(TorchDispatchMode):
    """Count the operations of PyTorch."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), options=None):
        self.number += 1
        return function(*args, **(options or {}))


def parts(command: str, seconds: float) -> tuple[float, dict, dict]:
    """Steps per second; microseconds per step and part; work of the updates per step.

    The work is GFLOP, GB sampled, and operations of PyTorch.
    """
    with Watched(command.partition(" ")[0]) as watched:
        spans = rates(command, seconds, watched.clear)
    rate = statistics.median(spans)
    clock = watched.clock
    share = 1 / (rate * sum(clock.spent.values()))  # per step
    spent = {part: 1e6 * share * clock.spent[part] for part in COLUMNS}

    # The counter counts matrix products, but not oneDNN's recurrent layer
    plain = torch.backends.mkldnn.flags(enabled=False)
    with plain, FlopCounterMode(display=False) as flops, Operations() as operations:
        watched.module.update(*watched.last_update)
    batch = watched.last_update[2]
    size = sum(value.nbytes for value in batch.values())
    batches = watched.rows / batch["reward"].numel()  # in units of the last batch
    work = {
        "GFLOP": share * batches * flops.get_total_flops() / 1e9,
        "GB": share * batches * size / 1e9,
        "operations": share * clock.calls["update"] * operations.number,
    }
    return rate, spent, work


def fastest(call, times: int = 100) -> float:
    """Seconds of a call, the least of some rounds."""
    spans = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(times):
            call()
        spans.append((time.perf_counter() - began) / times)
    return min(spans)


def machine() -> dict[str, float]:
    """Work of one core per second: GFLOP of a large matrix product, GB copied, operations."""
    torch.set_num_threads(1)
    square = torch.rand(1024, 1024)
    small = torch.rand(4)
    block = np.zeros(2**24, np.float32)
    return {
        "GFLOP": 2 * 1.024**3 / fastest(lambda: square @ square, 1),
        "GB": block.nbytes / 1e9 / fastest(block.copy, 1),
        "operations": 1 / fastest(lambda: torch.add(small, small)),
    }


def main(args: Args):
    reached = machine()
    print(f"One core: {reached['GFLOP']:.0f} GFLOPS, {reached['GB']:.1f} GB/s copied, ", end="")
    print(f"{1e6 / reached['operations']:.1f} us per operation of PyTorch on four numbers.\n")
    print_row("script", "map", "steps/s", *COLUMNS, "", *FLOORS)
    print_row("---", "---", "---:", *["---:"] * len(COLUMNS), "---", *["---:"] * len(FLOORS))
    for map_name in args.maps:
        environment = 1e6 / measure(BattleEnv(map_name), args.seconds / 10)
        for script in args.scripts:
            rate, spent, work = parts(f"{script} --env-name {map_name}", args.seconds)
            least = [environment]
            least += [1e6 * work[name] / reached[name] for name in reached]
            cells = [f"{spent[part]:.0f}" for part in COLUMNS]
            floors = [f"{microseconds:.0f}" for microseconds in least]
            print_row(f"`{script}.py`", map_name, f"{rate:,.0f}", *cells, "", *floors)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
