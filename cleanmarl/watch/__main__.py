"""Write one HTML page that shows what a trained team does, and its networks' values.

python -m cleanmarl.watch RUN_FOLDER
"""

from pathlib import Path

import cleanmarl  # noqa: F401  first: it prepares NumPy and PyTorch

# isort: split
from cleanmarl.training.arguments import parse
from cleanmarl.training.checkpoint import write_atomically
from cleanmarl.training.errors import Refused, one_line_errors
from cleanmarl.watch.page import page
from cleanmarl.watch.trained import load


def parse():
    description = "Watch a trained team: a page with its worst, median and best episode."
    parser = Parser(prog="python -m cleanmarl.watch", description=description, allow_abbrev=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    played = "greedy episodes to play (default: 32)"
    parser.add_argument("--episodes", type=int, default=32, metavar="NUMBER", help=played)
    which = {"choices": ["best", "last"], "default": "last"}
    parser.add_argument("--which", **which, help="networks to watch (default: last)")
    out = "file to write (default: watch.html in the folder)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=out)
    where = "script that made the run, if it was moved"
    parser.add_argument("--script", type=Path, metavar="FILE", help=where)
    args = parser.parse_args()
    if args.episodes < 1:
        raise Refused(f"--episodes must be at least 1, got {args.episodes}")
    return args


def main():
    with one_line_errors("watch"):
        args = parse()
        path = args.out or args.run / "watch.html"
        run = load(args.run, args.which, args.episodes, args.script)
        if not path.parent.is_dir():
            raise Refused(f"cannot write {path}: there is no folder {path.parent}")
        try:
            write_atomically(path, page(run).encode())
        except OSError as error:
            raise Refused(f"cannot write {path}: {error.strerror}") from error
        print(path)


if __name__ == "__main__":
    main()
