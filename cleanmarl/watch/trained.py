"""The script that made a run, its arguments, its environment and its networks."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from cleanmarl.team import find_script, load_script, read_args
from cleanmarl.teams import path_of
from cleanmarl.training.arguments import check
from cleanmarl.training.checkpoint import load_model, read_json, read_sessions, read_team
from cleanmarl.training.errors import Refused, refuse_on_error
from cleanmarl.training.initial import check_order

NEEDED = ("Args", "open_env", "Networks", "evaluate", "action_values")


class Trained(NamedTuple):
    """A run with its networks loaded."""

    folder: Path
    script: ModuleType
    """the script that made it: `Args`, `open_env`, `evaluate`, `action_values`, ..."""
    args: Any
    """its arguments, except `device` (the CPU) and `num_eval_ep`"""
    saved: dict
    """its own arguments, by name"""
    session: dict
    """the last entry of run.json: command, commit, versions"""
    networks: torch.nn.Module
    step: int
    """environment step at which the networks were saved"""


def session_of(folder: Path) -> dict:
    """How the run was made: run.json or, for a team that was sent, team.json. Raises Refused."""
    team = read_team(folder) if (folder / "team.json").exists() else {}
    if team and not (folder / "run.json").exists():
        return team
    return team | read_sessions(folder)[-1]


def named(text: Path, which: str | int) -> tuple[Path, str | int]:
    """A run and its networks from RUN or RUN@best, RUN@last, RUN@STEP; without @ it is `which`."""
    run, at, asked = str(text).rpartition("@")
    if not at or text.exists():
        return text, which
    if asked.isascii() and asked.isdecimal():
        return Path(run), int(asked)
    if asked not in ("best", "last"):
        raise Refused(f"{text}: expected RUN@best, RUN@last or RUN@STEP, got @{asked}")
    return Path(run), asked


@refuse_on_error()
def load(
    folder: Path,
    which: str | int,
    num_episodes: int,
    script: Path | None = None,
    trust: bool = False,
) -> Trained:
    """Load networks of a run; `which`, `script` and `trust` are as in `load_team`.

    Raises Refused.
    """
    name, folder = folder, path_of(folder)
    saved = read_json(folder / "args.json")
    session = session_of(folder)
    module = load_script(find_script(session, script, folder, trust), NEEDED)
    args = replace(read_args(module, folder), num_eval_ep=num_episodes)
    check(args)
    with refuse_on_error():
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.torch_threads)
        env = module.open_env(args)
        check_order(folder, env.unwrapped)
        networks = module.Networks(args, env)
        env.close()
        if not hasattr(networks, "target_mixer"):
            raise Refused(f"the Networks of {module.__file__} have no target_mixer")
        asked = {name: getattr(networks, name) for name in ("target_agent", "target_mixer")}
        step = load_model(name, which, **asked)
    return Trained(folder, module, args, saved, session, networks, step)
