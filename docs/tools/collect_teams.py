"""Publish trained teams in docs/results/teams, and write the table of docs/teams.md.

    python docs/tools/collect_teams.py --runs docs/results/records/defaults runs

--runs are folders with sweeps or runs, at any depth. A team is named TASK-SEED, for example 3m-1;
of another script than qmix.py TASK-SCRIPT-SEED, with VDN TASK-vdn-SEED. It replaces a team of the
same name. Of its networks, only the targets are kept, since evaluations use these.
"""

import json
import re
import sys
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from cleanmarl import training  # first: it sets the threads of NumPy and PyTorch

# isort: split
import torch
import tyro

from cleanmarl import teams
from cleanmarl.benchmark.planning import SCRIPTS
from cleanmarl.training.arguments import own_arguments, title_of
from cleanmarl.training.checkpoint import (
    load_model,
    read_model,
    to_bytes,
    write_atomically,
    write_json,
)
from cleanmarl.training.results import evaluation_of

PAGE = Path(__file__).parents[1] / "teams.md"
ROOM = 40e6  # bytes of all teams


@dataclass
class Args:
    runs: tuple[Path, ...] = ()
    """folders with sweeps or runs; without them, only the table is written"""
    seeds: tuple[int, ...] = ()
    """seeds to publish; without them, all"""
    largest: float = 3
    """megabytes that a team may take; larger ones are left out"""
    episodes: int = 32
    """greedy episodes of each team's evaluation"""


class Found(NamedTuple):
    """A team of a finished run."""

    folder: Path
    args: dict
    about: dict
    """its team.json"""
    variant: list[str]
    """for example ["td_lambda=1"], as in the names of a sweep's folders"""

    @property
    def name(self) -> str:
        words = [title_of(self.args["env_name"], self.args["env_options"])]
        words += [self.about["script"]] if self.about["script"] != "qmix" else []
        words += ["vdn"] if self.args["mixer"] == "vdn" else []
        words += [word for word in self.variant if not word.startswith("mixer=")]
        return "-".join([*words, str(self.args["seed"])])


def read(path: Path):
    return json.loads(path.read_text())


def sweep_folder(folder: Path) -> Path | None:
    """The folder of a sweep's run in which a team is; None if it is not in a sweep."""
    inside = folder.parts[-2:-1] == ("runs",) and (folder.parents[1] / "log.txt").exists()
    if inside:
        return folder.parents[1]
    return folder.with_name(folder.name.removesuffix(".team")) if folder.suffix == ".team" else None


def is_finished(folder: Path) -> bool:
    sweep = sweep_folder(folder)
    if sweep:
        return sweep.with_name(f"{sweep.name}.json").exists()
    path = folder / "run.json"
    return path.exists() and read(path)[-1]["ending"] == "done"


def variant_of(folder: Path, script: str) -> list[str]:
    sweep = sweep_folder(folder)
    return sweep.name.rpartition(f"__{script}__")[2].split("__")[:-1] if sweep else []


def find(root: Path) -> list[Found]:
    """The teams of the finished runs in a folder, at any depth; of a sweep's run, the one kept."""
    found = []
    for path in sorted(root.resolve().rglob("best.pt")):
        folder = path.parent
        sweep = sweep_folder(folder)
        if sweep and folder.suffix != ".team" and sweep.with_name(f"{sweep.name}.team").exists():
            continue
        if not is_finished(folder) or not (folder / "team.json").exists():
            leave_out(folder.name, "its run is not finished, or it has no team.json")
            continue
        about = read(folder / "team.json")
        variant = variant_of(folder, about["script"])
        found.append(Found(folder, read(folder / "args.json"), about, variant))
    return found


def leave_out(name: str, reason: str):
    print(f"left out: {name}: {reason}", file=sys.stderr)


def targets(path: Path) -> bytes:
    """The file of the networks with the targets alone, once under each name: half the size."""
    model = read_model(path)
    for name in [*model]:
        model[name] = model.get(f"target_{name}", model[name])
    return to_bytes(model)


def reason_against(team: Found, content: bytes, args: Args) -> str:
    """Why a team is not published; empty if it is."""
    if args.seeds and team.args["seed"] not in args.seeds:
        return "its seed is not in --seeds"
    if team.about["script"] not in SCRIPTS:
        return f"{team.about['script']}.py is no script of this project"
    if team.args["env_name"].endswith(".toml"):
        return "its scenario is a file of yours"
    if len(content) > args.largest * 1e6:
        return f"it takes {len(content) / 1e6:.1f} MB, more than --largest"
    return ""


def evaluate(folder: Path, script: str, episodes: int) -> dict:
    """What --evaluate --which best writes for a team. Raises Refused."""
    module = import_module(f"cleanmarl.{script}")
    own = own_arguments(module.Args, folder, resume=False)
    args = replace(own, device="cpu", num_eval_ep=episodes, which="best")
    torch.set_num_threads(args.torch_threads)
    env = module.open_env(args)
    agent = module.Networks(args, env).target_agent
    step = load_model(folder, "best", target_agent=agent)
    evaluation = evaluation_of(args, step, module.evaluate(env, agent, args, "test"))
    env.close()
    return evaluation


def publish(team: Found, content: bytes, episodes: int):
    """Write a team's folder, and its evaluation last: without it, it is in no table."""
    folder = teams.TEAMS / team.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").unlink(missing_ok=True)
    script = team.about["script"]
    # In any clone, on any machine
    about = team.about | {"script_file": f"cleanmarl/{script}.py", "scenario": None}
    write_json(folder / "args.json", team.args)
    write_json(folder / "team.json", about)
    write_atomically(folder / "best.pt", content)
    write_json(folder / "evaluation.json", evaluate(folder, script, episodes))


def table() -> list[str]:
    """The table of docs/teams.md."""
    columns, *rows = teams.table()
    lines = [columns, ["---"] * 3 + ["---:"] * 2 + ["---"] * 2]
    lines += [(f"`{name}`", task, f"`{script}.py`", *rest) for name, task, script, *rest in rows]
    return [f"|{'|'.join(line)}|" for line in lines]


def with_table(text: str, lines: list[str]) -> str:
    """A page with these lines in place of its table."""
    head = "|".join(teams.COLUMNS)
    old = re.compile(rf"^\|{re.escape(head)}\|\n(?:\|.*\n)*", re.MULTILINE)
    return old.sub(lambda _: "\n".join(lines) + "\n", text, count=1)


def main(args: Args):
    chosen = {}
    for team in [team for root in args.runs for team in find(root)]:
        content = targets(team.folder / "best.pt")
        if reason := reason_against(team, content, args):
            leave_out(team.name, reason)
        elif team.name in chosen:
            twice = f"{chosen[team.name][0].folder} and {team.folder}"
            raise training.Refused(f"two teams would be {team.name}: {twice}")
        else:
            chosen[team.name] = team, content
    sizes = {path.parent.name: path.stat().st_size for path in teams.TEAMS.glob("*/best.pt")}
    sizes |= {name: len(content) for name, (_, content) in chosen.items()}
    if sum(sizes.values()) > ROOM:
        total = f"{sum(sizes.values()) / 1e6:.1f} MB, more than {ROOM / 1e6:.0f}"
        raise training.Refused(f"all teams would take {total}: choose --seeds or a lower --largest")
    for name, (team, content) in chosen.items():
        publish(team, content, args.episodes)
        print(f"{name}: {len(content) / 1e3:.0f} kB, {teams.row_of(teams.TEAMS / name)[-2]}")
    write_atomically(PAGE, with_table(PAGE.read_text(), table()).encode())
    print(f"{len(sizes)} teams, {sum(sizes.values()) / 1e6:.1f} MB")


if __name__ == "__main__":
    with training.one_line_errors("collect_teams"):
        main(tyro.cli(Args, description=__doc__))
