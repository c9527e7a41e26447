"""The command line: `python -m cleanmarl.benchmark run` and `plot`."""

import argparse
import sys
from pathlib import Path

import cleanmarl.benchmark
from cleanmarl.benchmark.plot import plot
from cleanmarl.benchmark.sweep import plan, sweep
from cleanmarl.training.arguments import Parser


def count(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {word}")
    return int(word)


def seed(word: str) -> int:
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"must be whole numbers of at least 0, got {word}")
    return int(word)


def make_parser() -> Parser:
    shape = argparse.RawDescriptionHelpFormatter
    about = {"prog": "benchmark", "description": cleanmarl.benchmark.__doc__}
    parser = Parser(**about, formatter_class=shape)
    commands = parser.add_subparsers(dest="command", required=True, metavar="run|plot")
    add_run(commands)
    add_plot(commands)
    return parser


def add_run(commands):
    about = "train every combination of scripts, environments, variants and seeds"
    usage = "benchmark run [options] [-- arguments of the scripts]"
    command = commands.add_parser("run", help=about, description=about, usage=usage)
    command.add_argument(
        "--scripts",
        nargs="+",
        default=["qmix"],
        metavar="SCRIPT",
        help="qmix, qmix_memefficient, qmix_multienvs, qmix_lstm, ./my_qmix.py (default: qmix)",
    )
    command.add_argument(
        "--envs",
        nargs="+",
        default=["3m"],
        metavar="ENV",
        help="for example 3m mine.toml lbf:Foraging-8x8-2p-3f-v3 pz:sisl:pursuit_v5 (default: 3m)",
    )
    command.add_argument(
        "--seeds",
        nargs="+",
        type=seed,
        default=[1, 2, 3],
        metavar="SEED",
        help="(default: 1 2 3)",
    )
    command.add_argument(
        "--variants",
        nargs="+",
        default=[],
        metavar="VARIANT",
        help='values of an argument, "td_lambda=0 0.6 0.9"; several arguments are combined',
    )
    command.add_argument(
        "--runs",
        type=Path,
        default=Path("sweep"),
        metavar="FOLDER",
        help="folder of the sweep; finished runs in it are not trained again (default: sweep)",
    )
    command.add_argument(
        "--address",
        default="",
        help="address of a Ray cluster, or auto (default: Ray runs on this machine)",
    )
    command.add_argument(
        "--cpus",
        type=count,
        metavar="NUMBER",
        help="runs at the same time on this machine (default: one for each core)",
    )


def add_plot(commands):
    about = "draw curves and write tables of finished runs"
    command = commands.add_parser("plot", help=about, description=about)
    command.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="folders with the runs, at any depth",
    )
    command.add_argument(
        "--envs",
        nargs="+",
        default=[],
        metavar="ENV",
        help="environments to draw, in this order, named as for run (default: all)",
    )
    command.add_argument(
        "--seeds",
        nargs="+",
        type=seed,
        default=[],
        metavar="SEED",
        help="seeds to draw (default: all)",
    )
    command.add_argument(
        "--out",
        type=Path,
        default=Path("figures"),
        metavar="FOLDER",
        help="folder to write to (default: figures)",
    )
    command.add_argument(
        "--points",
        type=count,
        default=20,
        metavar="NUMBER",
        help="points of a curve; each is the mean of the evaluations in its part (default: 20)",
    )
    command.add_argument(
        "--reps",
        type=count,
        default=2000,
        metavar="NUMBER",
        help="samples of the bootstrap (default: 2000)",
    )


def main():
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    try:
        args = vars(make_parser().parse_args(words[:cut]))
        if args.pop("command") == "plot":
            print(plot(**args), end="")
            sys.exit()
        where = {name: args.pop(name) for name in ("address", "cpus")}
        sys.exit(sweep(plan(**args, passed=words[cut + 1 :]), **where))
    except (ValueError, ImportError, OSError) as error:
        print(f"benchmark: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
