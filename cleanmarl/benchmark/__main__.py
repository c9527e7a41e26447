"""The command line: `python -m cleanmarl.benchmark run` and `plot`."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports, too

from cleanmarl import training  # first: it sets the threads of NumPy and PyTorch

# isort: split
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

import cleanmarl.benchmark
from cleanmarl.benchmark.planning import plan
from cleanmarl.benchmark.plot import plot
from cleanmarl.benchmark.sweep import sweep


@dataclass
class Run:
    """Train every combination of scripts, environments, variants and seeds, or a suite.

    Words after -- are arguments of the scripts.
    """

    scripts: tuple[str, ...] = ("qmix",)
    """qmix, qmix_memefficient, qmix_multienvs, qmix_lstm, ./my_qmix.py"""
    envs: tuple[str, ...] = ("3m",)
    """for example 3m, mine.toml, lbf:NAME, pz:sisl:pursuit_v5, "pz:simple_spread_v3 N=5" """
    seeds: tuple[int, ...] = (1, 2, 3)
    """seeds of each script in each environment"""
    variants: tuple[str, ...] = ()
    """values of an argument, "td_lambda=0 0.6 0.9", for the scripts that have it; several arguments
    are combined"""
    suite: str = ""
    """field, or a TOML file, with tasks and their scripts; --envs and --seeds choose some"""
    families: tuple[str, ...] = ()
    """families of the suite to train; without it, all"""
    runs: Path = Path("sweep")
    """folder of the sweep; finished runs in it are not trained again"""
    address: str = ""
    """address of a Ray cluster, or auto; without it, Ray runs on this machine"""
    cpus: int | None = None
    """runs at the same time on this machine; None for one per core"""


@dataclass
class Plot:
    """Draw curves and write tables of finished runs."""

    runs: Positional[tuple[Path, ...]]
    """folders with the runs, at any depth"""
    envs: tuple[str, ...] = ()
    """environments to draw, in this order, named as for run; without it, all"""
    seeds: tuple[int, ...] = ()
    """seeds to draw; without it, all"""
    suite: str = ""
    """field, or a TOML file: one table with a row for each of its tasks"""
    families: tuple[str, ...] = ()
    """families of the suite to draw; without it, all"""
    out: Path = Path("figures")
    """folder to write to"""
    points: int = 20
    """points of a curve; each is the mean of the evaluations in its part"""
    reps: int = 2000
    """samples of the bootstrap"""
    metric: str = ""
    """of evaluations, for example eval/ep_reward; without it, win or success rate, else reward"""
    format: Literal["svg", "pdf", "png"] = "svg"
    """format of the figures"""
    columns: int = 3
    """panels in a row of a figure, for example 1 for a phone or a column of a paper"""
    latex: bool = False
    """write the tables for LaTeX, too"""
    names: tuple[str, ...] = ()
    """names of scripts in figures and tables, for example ow_qmix="OW-QMIX" """
    baseline: str = ""
    """script with which the others are compared: probability of improvement, profiles"""


def read(words: list[str]) -> Run | Plot:
    """The command and its arguments. If they are wrong, tyro says why and exits with status 2.

    With a suite, scripts, environments and seeds have no defaults.
    """
    about = {"prog": "benchmark", "description": cleanmarl.benchmark.__doc__}
    args = training.arguments.parse(Run | Plot, words, **about)
    if isinstance(args, Run) and args.suite:
        given = {word.partition("=")[0] for word in words}
        for name in ("scripts", "envs", "seeds"):
            if f"--{name}" not in given:
                setattr(args, name, ())
    return args


def main():
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    args, passed = read(words[:cut]), words[cut + 1 :]
    try:
        if isinstance(args, Plot):
            print(plot(**vars(args)), end="")
            sys.exit()
        which = (args.scripts, args.envs, args.seeds, args.runs, args.variants, passed)
        tasks = plan(*which, args.suite, args.families)
        sys.exit(sweep(tasks, args.address, args.cpus))
    except (ValueError, ImportError, OSError) as error:
        print(f"benchmark: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
