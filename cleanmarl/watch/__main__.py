"""Write one HTML page that shows what a trained team does, and its networks' values.

python -m cleanmarl.watch RUN_FOLDER
"""

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

from cleanmarl.teams import folder_to_write, path_of
from cleanmarl.training.checkpoint import write_output
from cleanmarl.watch.page import page
from cleanmarl.watch.trained import load


@dataclass
class Args:
    """Watch a trained team: a page with its worst, median and best episode."""

    run: Positional[Path]
    """folder of a run, or a published team: team:3m"""
    episodes: int = 32
    """greedy episodes to play"""
    which: Literal["best", "last"] | int = "last"
    """networks to watch: best, last, or a kept step"""
    out: Path | None = None
    """file to write; None for watch.html in the folder, or watch_STEP.html for a kept step"""
    script: Path | None = None
    """script that made the run, if you moved it"""
    trust: bool = False
    """run the script that the folder names, wherever it is"""


def write_page(args: Args) -> Path:
    """Play the episodes and write their page. Raises Refused."""
    if args.episodes < 1:
        raise training.Refused(f"--episodes must be at least 1, got {args.episodes}")
    run = load(args.run, args.which, args.episodes, args.script, args.trust)
    home = folder_to_write(path_of(args.run))
    if home != args.run:  # a published team
        home.mkdir(parents=True, exist_ok=True)
    name = "watch.html" if args.which in ("best", "last") else f"watch_{args.which}.html"
    path = args.out or home / name
    if not path.parent.is_dir():
        raise training.Refused(f"cannot write {path}: there is no folder {path.parent}")
    try:
        write_output(path, page(run).encode())
    except OSError as error:
        raise training.Refused(f"cannot write {path}: {error.strerror}") from error
    return path


def main():
    with training.one_line_errors("watch"):
        args = training.arguments.parse(Args, sys.argv[1:], prog="python -m cleanmarl.watch")
        print(write_page(args))


if __name__ == "__main__":
    main()
