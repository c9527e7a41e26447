"""How fast the scripts train, and how the cost grows.

    python docs/tools/speed.py rates
    python docs/tools/speed.py growth

Each training runs a whole script, with evaluations and checkpoints, and with epsilon at its final
value. The second half of the time counts. `rates` prints environment steps per second: the median
of five spans of time, the lowest and the highest. `growth` prints the medians and draws
docs/images/speed.svg, and speed_narrow.svg for phones.
"""

import cleanmarl  # noqa: F401  first: it prepares NumPy and PyTorch

# isort: split
import contextlib
import gc
import importlib
import io
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal
from unittest import mock

import tyro
from matplotlib import rc_context
from matplotlib.ticker import EngFormatter

from cleanmarl.benchmark.figures import STYLE, looks_of, new_figure, save_figure
from cleanmarl.training import Run
from cleanmarl.training.arguments import parse

SPANS = 5
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
# Quantity on which the cost depends: its values, and the training with one of them
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


@dataclass
class Args:
    report: tyro.conf.Positional[Literal["rates", "growth"]]
    """what to measure"""
    scripts: tuple[str, ...] = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
    """scripts, for `rates`"""
    seconds: float = 20.0
    """seconds that count of each training"""
    picture: Path = Path("docs/images/speed.svg")
    """file for the figure of `growth`"""


class TimedRun(Run):
    """Train for some seconds, then time spans of the same total length, and stop.

    Both halves make updates.

    Args:
        seconds: length of each half
        begin: called when the first span begins
        marks: receives the time and the step at the start of each span, and at the end
    """

    def __init__(self, seconds: float, begin: Callable, marks: list, *args, **options):
        super().__init__(*args, **options)
        self.span = seconds / SPANS
        self.due = time.perf_counter() + seconds
        self.begin_spans = begin
        self.marks = marks
        self.updates_before = 0

    def advance(self, step: int):
        super().advance(step)
        updates = self.latest.get("train/num_updates", 0)
        wait_for_updates = len(self.marks) in (0, SPANS) and updates == self.updates_before
        if time.perf_counter() < self.due or wait_for_updates:
            return
        if not self.marks:
            self.updates_before = updates
            self.begin_spans()
            self.due = time.perf_counter()
        self.due += self.span
        self.marks.append((time.perf_counter(), step))
        if len(self.marks) > SPANS:
            self.stopped = signal.SIGINT


def marks_of(command: str, seconds: float, begin: Callable = lambda: None) -> list:
    """Time and step at the start of each span of a training, and at the end.

    Args:
        command: for example `qmix --env-name 3m`
        seconds: length of all spans together
        begin: called when the first span begins
    """
    script, *words = command.split()
    module = importlib.import_module(f"cleanmarl.{script}")
    args = parse(module.Args, ["--exploration-fraction", "0", *words])
    marks: list[tuple[float, int]] = []
    gc.collect()  # free the last training
    with (
        mock.patch.object(module, "Run", partial(TimedRun, seconds, begin, marks)),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        tempfile.TemporaryDirectory() as parent,
        contextlib.suppress(SystemExit),  # a stopped run raises it
    ):
        module.train(args, folder=Path(parent) / "run")
    return marks


def rates(command: str, seconds: float, begin: Callable = lambda: None) -> list[float]:
    """Environment steps per second in each span of a training."""
    marks = marks_of(command, seconds, begin)
    return [(step - before) / (now - then) for (then, before), (now, step) in pairwise(marks)]


def print_row(*cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def print_rates(args: Args):
    print_row("command", "steps/s", "lowest to highest")
    print_row("---", "---:", "---:")
    for command in RATES:
        script, _, options = command.partition(" ")
        if script in args.scripts:
            spans = rates(command, args.seconds)
            middle = f"{statistics.median(spans):,.0f}"
            print_row(f"`{script}.py {options}`", middle, f"{min(spans):,.0f} to {max(spans):,.0f}")


def draw_growth(args: Args):
    found = {}
    for name, (values, command) in GROWTH.items():
        found[name] = [rates(command.format(value), args.seconds) for value in values]
        print()
        print_row(name, *values)
        print_row("---", *["---:"] * len(values))
        script = command.partition(" ")[0]
        print_row(f"`{script}.py`", *(f"{statistics.median(span):,.0f}" for span in found[name]))
    draw(found, args.picture, columns=3)
    draw(found, args.picture.with_stem(f"{args.picture.stem}_narrow"), columns=1)


def draw(found: dict[str, list[list[float]]], picture: Path, columns: int):
    """Draw medians of spans as a line, and a band from the lowest to the highest."""
    with rc_context(STYLE):
        figure, panels = new_figure(len(found), 3.2, columns)
        for panel, (name, spans) in zip(panels, found.items(), strict=True):
            values, command = GROWTH[name]
            script = f"{command.partition(' ')[0]}.py"
            colour, dashes = looks_of([script])[script]
            middles = [statistics.median(span) for span in spans]
            places = range(len(spans))
            panel.plot(places, middles, "o", linestyle=dashes, color=colour)
            lows, highs = map(min, spans), map(max, spans)
            panel.fill_between(places, list(lows), list(highs), color=colour, alpha=0.15)
            panel.set(yscale="log", ylim=(200, 6e4), xlabel=name, title=script)
            panel.set(ylabel="steps per second (median)")
            panel.yaxis.set_major_formatter(EngFormatter(sep=""))
            panel.set_xticks(places, [str(value).partition("_")[0] for value in values])
            panel.minorticks_off()
        save_figure(figure, picture)


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    if args.report == "rates":
        print_rates(args)
    else:
        draw_growth(args)
