"""The trained teams of the project's results, by name.

    python -m cleanmarl.teams

lists them. Where a program wants the folder of a run, team:3m-2 is such a team, and team:3m is the
first seed. They are in docs/results/teams of a clone of the repository.
"""

import argparse
import difflib
import json
import sys
from pathlib import Path

from cleanmarl.errors import Refused

TEAMS = Path(__file__).parents[1] / "docs" / "results" / "teams"
PREFIX = "team:"
COLUMNS = ("name", "task", "script", "steps", "best at", "result", "commit")
RESULTS = {"battle_won": "win rate", "success": "success rate", "ep_reward": "reward"}


def order(name: str) -> tuple[str, int]:
    """Sort key: seed 2 comes before seed 10."""
    stem, _, seed = name.rpartition("-")
    return stem, int(seed) if seed.isdecimal() else 0


def team_names() -> list[str]:
    """The names of all teams. Raises Refused if this installation has none."""
    names = [path.parent.name for path in TEAMS.glob("*/evaluation.json")]
    if not names:
        where = "they are in a clone of the repository, installed with pip install -e ."
        raise Refused(f"there are no trained teams in this installation: {where}")
    return sorted(names, key=order)


def path_of(text: str | Path) -> Path:
    """The folder of a team, for example team:3m; other text is the path of a folder.

    Without a seed, it is the first one. Raises Refused with the nearest names.
    """
    text = str(text)
    if not text.startswith(PREFIX):
        return Path(text)
    name, names = text.removeprefix(PREFIX), team_names()
    for known in names:
        if name in (known, order(known)[0]):
            return TEAMS / known
    stems = dict.fromkeys(order(known)[0] for known in names)
    close = [one for one in stems if one.startswith(f"{name}-")]
    close = close or difflib.get_close_matches(name, [*names, *stems], n=3, cutoff=0.4)
    near = " or ".join(PREFIX + one for one in close[:3])
    advice = f"did you mean {near}?" if close else "python -m cleanmarl.teams lists all"
    raise Refused(f"there is no team {name!r}; {advice}")


def folder_to_write(folder: Path) -> Path:
    """Where results about a team go: its folder or, for a team of the results, teams/NAME here."""
    is_published = folder.resolve().parent == TEAMS.resolve()
    return Path("teams") / folder.name if is_published else folder


def task_of(args: dict) -> str:
    """The word for the task of a run, as sweeps read it: 3m, lbf:NAME, pz:FAMILY:NAME N=5, ..."""
    words = [args["env_type"], args["env_name"]]
    if args["env_type"] == "pz" and args["env_family"] != "mpe":
        words.insert(1, args["env_family"])
    task = args["env_name"] if args["env_type"] == "smaclite" else ":".join(words)
    for name, value in args.get("env_options", {}).items():
        task += f" {name}={value if isinstance(value, str) else json.dumps(value)}"
    return task


def result_of(evaluation: dict) -> str:
    """What a team reaches, for example "win rate 0.969"."""
    name = next(name for name in RESULTS if name in evaluation)
    mean = evaluation[name]["mean"]
    return f"{RESULTS[name]} {mean:.3f}"


def row_of(folder: Path) -> tuple[str, ...]:
    """A team's row in the table; what `COLUMNS` names."""
    names = ("args.json", "team.json", "evaluation.json")
    args, about, evaluation = (json.loads((folder / name).read_text()) for name in names)
    steps = f"{args['total_timesteps']:,}"
    best = f"{evaluation['step']:,}"
    result = result_of(evaluation)
    return folder.name, task_of(args), about["script"], steps, best, result, about["commit"]


def table() -> list[tuple[str, ...]]:
    """A row for each team, below the names of the columns. Raises Refused if there is none."""
    return [COLUMNS, *(row_of(TEAMS / name) for name in team_names())]


def main():
    about = __doc__.partition("\n")[0]
    argparse.ArgumentParser("python -m cleanmarl.teams", description=about).parse_args()
    try:
        rows = table()
    except Refused as error:
        print(f"teams: error: {error}", file=sys.stderr)
        sys.exit(2)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


if __name__ == "__main__":
    main()
