"""Write one HTML page that shows what a trained team does, and its networks' values.

python -m cleanmarl.watch RUN_FOLDER

A second run is shown beside it, in the same episodes:

python -m cleanmarl.watch RUN_A RUN_B
"""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the imports, too

from cleanmarl import training  # first: it sets the threads of NumPy and PyTorch

# isort: split
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from cleanmarl.teams import folder_to_write, path_of
from cleanmarl.training.checkpoint import write_output
from cleanmarl.watch.page import page
from cleanmarl.watch.trained import load, named


@dataclass
class Args:
    """Watch a trained team: a page with its worst, median and best episode."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """folder of a run, or a published team: team:3m; RUN@best, RUN@last or RUN@STEP chooses its
    networks"""
    other: Annotated[Positional[Path | None], arg(metavar="[RUN_B]")] = None
    """a second run, to show both in the same episodes"""
    episodes: int = 32
    """greedy episodes to play"""
    which: Literal["best", "last"] | int = "last"
    """networks to watch: best, last, or a kept step"""
    out: Path | None = None
    """file to write; None for watch.html in the folder, watch_STEP.html or compare.html"""
    script: Path | None = None
    """script that made the run, if you moved it"""
    trust: bool = False
    """run the script that the folder names, wherever it is"""


def write_page(args: Args) -> Path:
    """Play the episodes and write their page. Raises Refused."""
    if args.episodes < 1:
        raise training.Refused(f"--episodes must be at least 1, got {args.episodes}")
    runs = [named(text, args.which) for text in (args.run, args.other) if text]
    teams = [load(*run, args.episodes, args.script, args.trust) for run in runs]
    path = args.out or folder_of_page(runs[0][0]) / name_of_page(*runs)
    if not path.parent.is_dir():
        raise training.Refused(f"cannot write {path}: there is no folder {path.parent}")
    try:
        write_output(path, page(*teams).encode())
    except OSError as error:
        raise training.Refused(f"cannot write {path}: {error.strerror}") from error
    return path


def name_of_page(first: tuple, *second: tuple) -> str:
    """The file's name for the networks of a run, or of two runs."""
    if second:
        return "compare.html"
    which = first[1]
    return "watch.html" if which in ("best", "last") else f"watch_{which}.html"


def folder_of_page(run: Path) -> Path:
    """The folder of a run; for a published team a new one, teams/NAME."""
    home = folder_to_write(path_of(run))
    if home != run:
        home.mkdir(parents=True, exist_ok=True)
    return home


def main():
    with training.one_line_errors("watch"):
        args = training.arguments.parse(Args, sys.argv[1:], prog="python -m cleanmarl.watch")
        print(write_page(args))


if __name__ == "__main__":
    main()
