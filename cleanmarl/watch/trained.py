"""The script that made a run, its arguments, its environment and its networks."""

import json
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from cleanmarl.training.arguments import check, load_file
from cleanmarl.training.checkpoint import load_model
from cleanmarl.training.errors import Refused, refuse_on_error

OWN = Path(__file__).parents[1]  # folder of the project's own scripts


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


def read_json(path: Path):
    """Read a JSON file of a run. Raises Refused if it is not one."""
    wanted = "expected the folder of a run, for example runs/smaclite__3m__..."
    try:
        content = json.loads(path.read_text())
        if not content:
            raise ValueError
        return content
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not a run's"
        raise Refused(f"{path}: {reason}; {wanted}") from None


def find_script(session: dict, script: Path | None) -> Path:
    """The file of the script. Raises Refused if it cannot be found."""
    if script is None and not session.get("script_file"):
        raise Refused("run.json does not say which script made the run: add --script FILE")
    path = script or Path(session["script_file"])
    if not path.is_file() and path.parent.name == OWN.name:
        path = OWN / path.name  # made in another clone of this project
    if not path.is_file():
        raise Refused(f"there is no script {path}: give its place with --script FILE")
    return path


def load_script(path: Path) -> ModuleType:
    """The script as a module. Raises Refused if it cannot be watched."""
    try:
        module = load_file(path)
    except Exception as error:
        raise Refused(f"{path} cannot be imported: {error!r}") from error
    needed = ("Args", "open_env", "Networks", "evaluate", "action_values")
    missing = [name for name in needed if not hasattr(module, name)]
    if missing:
        raise Refused(f"{path.name} has no {', '.join(missing)}: copy it from cleanmarl/qmix.py")
    return module


def load(folder: Path, which: str, num_episodes: int, script: Path | None = None) -> Trained:
    """Load the "best" or the "last" networks of a run. Raises Refused."""
    saved = read_json(folder / "args.json")
    session = read_json(folder / "run.json")[-1]
    module = load_script(find_script(session, script))
    if differ := saved.keys() ^ {known.name for known in fields(module.Args)}:
        raise Refused(f"{folder} and {module.__file__} have different arguments: {sorted(differ)}")
    args = module.Args(**saved | {"device": "cpu", "num_eval_ep": num_episodes})
    check(args)
    with refuse_on_error():
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.torch_threads)
        env = module.open_env(args)
        networks = module.Networks(args, env)
        env.close()
        if not hasattr(networks, "target_mixer"):
            raise Refused(f"the Networks of {module.__file__} have no target_mixer")
        asked = {name: getattr(networks, name) for name in ("target_agent", "target_mixer")}
        step = load_model(folder, which, **asked)
    return Trained(folder, module, args, saved, session, networks, step)
