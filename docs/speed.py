"""How fast the scripts train, where their time goes, and how the cost grows.

    python docs/speed.py rates
    python docs/speed.py parts --scripts qmix qmix_lstm --maps 3m MMM
    python docs/speed.py growth

Each training is the whole of a script, with its evaluations and checkpoints, and with epsilon at
its end; its second half counts. `rates` prints environment steps a second: the median of five spans
of time, the lowest and the highest. `parts` prints microseconds per step, and beside them what the
work itself would take. For that, the script's functions are replaced by ones that look at the clock
when they are entered and left: about a microsecond a call, which counts where it happens. `growth`
draws docs/images/speed.svg.
"""

import cleanmarl  # noqa: F401  first: it prepares NumPy and PyTorch

# isort: split
import contextlib
import functools
import gc
import importlib
import io
import signal
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal
from unittest import mock

import numpy as np
import torch
import tyro
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cleanmarl import arguments
from cleanmarl.battle import BattleEnv
from cleanmarl.battle.speed import measure
from cleanmarl.run import Run

LBF = "--env-type lbf --env-name Foraging-8x8-2p-3f-v3"
RATES = (
    "qmix --env-name 3m",
    "qmix --env-name 2s3z",
    "qmix_memefficient --env-name 2s3z",
    "qmix_lstm --env-name 3m",
    f"qmix_lstm {LBF}",
    f"qmix {LBF}",
    "qmix --env-type pz --env-name simple_spread_v3",
    "qmix_multienvs --env-name MMM --num-envs 8 --train-freq 8 --n-epochs 1",
    "qmix_multienvs --env-name 2s3z --num-envs 16 --train-freq 40 --n-epochs 1",
)
# What the cost grows with: its values, and the training with one of them
GROWTH = {
    "agents": (
        ["3m", "8m", "10m_vs_11m", "25m", "27m_vs_30m"],
        "qmix --env-name {} --time-limit 25",
    ),
    "num_envs": (
        [1, 2, 4, 8, 16, 32, 64],
        "qmix_multienvs --env-name 2s3z --num-envs {} --train-freq 40 --n-epochs 1",
    ),
    "batch_size": ([5, 10, 20, 40, 80], "qmix --env-name 2s3z --batch-size {}"),
}
# A script's functions, and what they count as, without the time of those below that they call
PARTS = {
    "in_numpy": "acting",
    "act": "acting",
    "collect_episode": "storing",
    "Collector.step": "storing",
    "EpisodeBuffer.store": "storing",
    "EpisodeBuffer.sample": "sampling",
    "qmix_loss": "forward",
    "episode_targets": "forward",
    "agent_inputs": "forward",
    "chunk_loss": "forward",
    "update": "optimizer",
    "Networks.update_targets": "optimizer",
    "evaluate": "evaluation",
    "rollout": "logging",
    "Run.advance": "logging",
    "Run.log": "logging",
    "Run.save": "logging",
}
COLUMNS = ["environment", "acting", "storing", "sampling", "forward", "backward", "optimizer"]
COLUMNS += ["evaluation", "logging", "rest"]
SPANS = 5


@dataclass
class Args:
    report: tyro.conf.Positional[Literal["rates", "parts", "growth"]]
    """what to measure"""
    scripts: tuple[str, ...] = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
    """scripts, for `rates` and `parts`"""
    maps: tuple[str, ...] = ("3m", "2s3z", "MMM", "27m_vs_30m")
    """maps, for `parts`"""
    seconds: float = 20.0
    """how long each training counts"""
    picture: Path = Path("docs/images/speed.svg")
    """file that `growth` draws to"""


def rates(script: str, options: str, seconds: float, begin=lambda: None) -> list[float]:
    """Train with a command line: environment steps a second in each span.

    `begin()` is called when the first span begins. Before it there are updates, and in the spans.
    """
    module = importlib.import_module(f"cleanmarl.{script}")
    words = ["--exploration-fraction", "0", *options.split()]
    args = arguments.parse(module.Args, module.__doc__, words, module.Args())
    advance = Run.advance
    marks = []  # (time, step)
    began = time.perf_counter()
    updates_before = 0  # that is, before the first span

    def count(run, step):
        nonlocal updates_before
        advance(run, step)
        due = began + seconds
        if marks:
            due = marks[0][0] + seconds / SPANS * len(marks)
        updates = run.latest.get("train/num_updates", 0)
        no_updates = len(marks) in (0, SPANS) and updates == updates_before
        if time.perf_counter() < due or no_updates:
            return
        if not marks:
            begin()
            updates_before = updates
        marks.append((time.perf_counter(), step))
        if len(marks) > SPANS:
            run.stopped = signal.SIGINT

    with (
        mock.patch.object(Run, "advance", count),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        tempfile.TemporaryDirectory() as parent,
        contextlib.suppress(SystemExit),  # of a run that is stopped
    ):
        gc.collect()  # what is left of the last training
        module.train(args, folder=Path(parent) / "run")
    return [(step - before) / (now - then) for (then, before), (now, step) in pairwise(marks)]


class Clock:
    """Time by part: a part does not count while another that it calls does.

    All of an evaluation counts as that.
    """

    def __init__(self):
        self.spent = Counter()
        self.calls = Counter()
        self.parts = ["rest"]
        self.last = time.perf_counter()

    def turn(self):
        now = time.perf_counter()
        self.spent[self.parts[-1]] += now - self.last
        self.last = now

    def clear(self):
        self.spent.clear()
        self.calls.clear()
        self.last = time.perf_counter()

    def timed(self, part: str, function):
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


def watched(opener, clock: Clock):
    """A function that opens environments, whose time counts as that of the environment."""

    def open_env(*args, **options):
        env = opener(*args, **options)
        env.reset = clock.timed("environment", env.reset)
        env.step = clock.timed("environment", env.step)
        return env

    return open_env


class Operations(TorchDispatchMode):
    """Counts the operations of PyTorch."""

    number = 0

    def __torch_dispatch__(self, function, types, args=(), options=None):
        self.number += 1
        return function(*args, **(options or {}))


def parts(script: str, map_name: str, seconds: float) -> tuple[float, dict, dict]:
    """Steps a second; microseconds per step by part; and per step the work of the updates.

    That is GFLOP, GB sampled, and operations of PyTorch.
    """
    module = importlib.import_module(f"cleanmarl.{script}")
    clock = Clock()
    last = []  # arguments of the last update
    with contextlib.ExitStack() as patches:

        def patch(target, name, function):
            patches.enter_context(mock.patch.object(target, name, function))

        @functools.wraps(module.update)
        def update(*args):
            last[:] = args
            clock.calls["rows"] += args[2]["reward"].numel()
            return update.__wrapped__(*args)

        patch(module, "update", update)
        for name, part in PARTS.items():
            *owner, function = name.split(".")
            target = getattr(module, owner[0], None) if owner else module
            if hasattr(target, function):
                patch(target, function, clock.timed(part, getattr(target, function)))
        patch(torch.Tensor, "backward", clock.timed("backward", torch.Tensor.backward))
        for opener in ("open_env", "make_vector_env"):
            if hasattr(module, opener):
                patch(module, opener, watched(getattr(module, opener), clock))
        rate = statistics.median(rates(script, f"--env-name {map_name}", seconds, clock.clear))
    with FlopCounterMode(display=False) as flops, Operations() as operations:
        module.update(*last)
    batch = last[2]
    size = sum(value.nbytes for value in batch.values())
    batches = clock.calls["rows"] / batch["reward"].numel()  # as large as the last one
    work = {"GFLOP": batches * flops.get_total_flops() / 1e9, "GB": batches * size / 1e9}
    work["operations"] = clock.calls["update"] * operations.number
    share = 1 / (rate * sum(clock.spent.values()))  # of a step
    spent = {part: 1e6 * share * clock.spent[part] for part in COLUMNS}
    return rate, spent, {name: share * amount for name, amount in work.items()}


def fastest(call, times: int = 100) -> float:
    """Seconds that a call takes, the least of some rounds."""
    spans = []
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(times):
            call()
        spans.append((time.perf_counter() - began) / times)
    return min(spans)


def machine() -> dict[str, float]:
    """What one core does a second: GFLOP of a large product of matrices, GB copied, operations."""
    torch.set_num_threads(1)
    square = torch.rand(1024, 1024)
    small = torch.rand(4)
    block = np.zeros(2**24, np.float32)
    return {
        "GFLOP": 2 * 1.024**3 / fastest(lambda: square @ square, 1),
        "GB": block.nbytes / 1e9 / fastest(block.copy, 1),
        "operations": 1 / fastest(lambda: torch.add(small, small)),
    }


def print_row(*cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def print_parts(args: Args):
    reached = machine()
    print(f"One core: {reached['GFLOP']:.0f} GFLOPS, {reached['GB']:.1f} GB/s copied, ", end="")
    print(f"{1e6 / reached['operations']:.1f} us for an operation of PyTorch on four numbers.\n")
    floors = ("floor: environment", "matrices", "copies", "calls")
    print_row("script", "map", "steps/s", *COLUMNS, "", *floors)
    right = ["---:"] * (len(COLUMNS) + 1)
    print_row("---", "---", *right, "---", *["---:"] * len(floors))
    for map_name in args.maps:
        bare = 1e6 / measure(BattleEnv(map_name), 1.0)
        for script in args.scripts:
            rate, spent, work = parts(script, map_name, args.seconds)
            floor = [bare, *(1e6 * work[name] / reached[name] for name in reached)]
            cells = [f"{spent[part]:.0f}" for part in COLUMNS]
            least = [f"{time:.0f}" for time in floor]
            print_row(f"`{script}.py`", map_name, f"{rate:,.0f}", *cells, "", *least)


def print_rates(args: Args):
    print_row("command", "steps/s", "lowest to highest")
    print_row("---", "---:", "---:")
    for script, options in (line.split(" ", 1) for line in RATES):
        if script in args.scripts:
            spans = rates(script, options, args.seconds)
            middle = f"{statistics.median(spans):,.0f}"
            between = f"{min(spans):,.0f} to {max(spans):,.0f}"
            print_row(f"`{script}.py {options}`", middle, between)


def draw_growth(args: Args):
    import matplotlib.pyplot as plt

    grey = "#808080"  # legible on white and on black
    coloured = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    plt.rcParams |= dict.fromkeys(coloured, grey) | {"font.size": 9, "svg.fonttype": "none"}
    look = {"figsize": (10.2, 3), "layout": "constrained", "sharey": True, "squeeze": False}
    figure, axes = plt.subplots(1, len(GROWTH), **look)
    for axis, (name, (values, command)) in zip(axes[0], GROWTH.items(), strict=True):
        script, options = command.split(" ", 1)
        spans = [rates(script, options.format(value), args.seconds) for value in values]
        middles = [statistics.median(span) for span in spans]
        print()
        print_row(name, *values)
        print_row("---", *["---:"] * len(values))
        print_row(f"`{script}.py`", *(f"{middle:,.0f}" for middle in middles))
        places = range(len(values))
        lows, highs = list(map(min, spans)), list(map(max, spans))
        axis.plot(places, middles, "o-", color="#0072b2")
        axis.fill_between(places, lows, highs, color="#0072b2", alpha=0.15)
        axis.set(yscale="log", xlabel=name, title=f"{script}.py")
        axis.set_xticks(places, values, fontsize=7 if name == "agents" else None)
        axis.minorticks_off()
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("environment steps per second")
    figure.savefig(args.picture, transparent=True)


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    {"rates": print_rates, "parts": print_parts, "growth": draw_growth}[args.report](args)
