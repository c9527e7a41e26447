"""The script that made a run, its arguments, its environment and its networks."""

import json
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

from cleanmarl.arguments import check, load_file
from cleanmarl.checkpoint import Refused, load_model
from cleanmarl.run import refusing

OWN = Path(__file__).parents[1]  # where the project's own scripts are


class Trained(NamedTuple):
    """A run whose networks are loaded."""

    folder: Path
    script: ModuleType
    """what made it: `Args`, `open_env`, `play_greedily`, `action_values`, ..."""
    args: Any
    """its arguments, but on the CPU and with other episodes to play"""
    saved: dict
    """its own arguments, by name"""
    session: dict
    """the last of run.json: command, commit, versions"""
    networks: torch.nn.Module
    step: int
    """environment steps after which these are its networks"""


def read_json(path: Path):
    """Raises Refused if this is not a file of a run."""
    wanted = "wanted the folder of a run, for example runs/smaclite__3m__..."
    try:
        content = json.loads(path.read_text())
        if not content:
            raise ValueError
        return content
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "is not that of a run"
        raise Refused(f"{path}: {reason}; {wanted}") from None


def find_script(session: dict, script: Path | None) -> Path:
    """The file of the script. Raises Refused if it is not where it was."""
    if script is None and not session.get("script_file"):
        raise Refused("run.json does not say which script made the run: add --script FILE")
    path = script or Path(session["script_file"])
    if not path.is_file() and path.parent.name == OWN.name:
        path = OWN / path.name  # made in another clone of this project
    if not path.is_file():
        raise Refused(f"there is no script {path}: say with --script FILE where it is now")
    return path


def load_script(path: Path) -> ModuleType:
    """The script as a module. Raises Refused if it cannot be watched."""
    try:
        module = load_file(path)
    except Exception as error:
        raise Refused(f"{path} cannot be imported: {error!r}") from error
    needed = ("Args", "open_env", "Networks", "play_greedily", "action_values")
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
        raise Refused(f"{folder} and {module.__file__} differ in their arguments: {sorted(differ)}")
    args = module.Args(**saved | {"device": "cpu", "num_eval_ep": num_episodes})
    check(args)
    with refusing():
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.torch_threads)
        env = module.open_env(args)
        networks = module.Networks(args, env)
        env.close()
        if not hasattr(networks, "target_mixer"):
            raise Refused(f"the Networks of {module.__file__} have no target_mixer to ask")
        asked = {name: getattr(networks, name) for name in ("target_agent", "target_mixer")}
        step = load_model(folder, which, **asked)
    return Trained(folder, module, args, saved, session, networks, step)
