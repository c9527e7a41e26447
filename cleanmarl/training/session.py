"""How a run was made, and what another program must know of its team."""

import inspect
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from cleanmarl.training.arguments import own_modules, script_of
from cleanmarl.training.errors import Refused, warn
from cleanmarl.training.sources import digest_of, scenario_of

PACKAGE = "cleanmarl-qmix"


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z")


def description(args, env) -> dict:
    """What another program must know of a run's team, for team.json.

    `inputs` says where the parts of an agent network's input stand.
    """
    env = env.unwrapped
    has_ids = getattr(env, "agent_ids", getattr(args, "agent_ids", True))
    ids = env.n_agents if has_ids else 0
    clock = int(getattr(env, "clock", False))
    obs_size = env.obs_size - ids - clock
    inputs = {"obs": [0, obs_size], "agent_id": [obs_size, obs_size + ids]}
    inputs["time_left"] = [obs_size + ids, env.obs_size]
    if getattr(args, "last_action", False):
        inputs["last_action"] = [env.obs_size, env.obs_size + env.n_actions]
    about = {"package": version(PACKAGE)}
    about |= script_now(type(args)) | {"commit": commit()}
    about |= {"n_agents": env.n_agents, "n_actions": env.n_actions, "obs_size": obs_size}
    about["obs_dtype"] = env.observation_space["obs"].dtype.name
    about |= {"state_size": env.state_size, "time_limit": env.time_limit, "inputs": inputs}
    for name in ("env_type", "env_name", "env_family", "env_options"):
        about[name] = getattr(args, name)
    about["scenario"] = scenario_of(args)
    for name in ("agent_names", "action_names", "observation_names"):
        about[name] = getattr(env, name, None)
    about["own_actions"] = getattr(env, "own_actions", None)
    return about


def file_of(Args: type) -> Path:
    """The script that has these arguments. Raises Refused if it is no file."""
    try:
        return Path(inspect.getfile(Args)).resolve()
    except (OSError, TypeError):  # a cell of a notebook
        raise Refused("Args is in no file: save the script as one, and import it") from None


def script_now(Args: type) -> dict:
    """A run's script as it is now, for run.json; without its file, it has no digest."""
    about = {"script": script_of(Args), "script_file": str(file_of(Args)), "script_sha256": None}
    with suppress(OSError):
        about["script_sha256"] = digest_of_script(file_of(Args))
    return about


def digest_of_script(script: Path) -> str:
    """Of its file and, if it imports files beside it, of these. Raises OSError."""
    digests = [digest_of(file) for file in (script, *own_modules(script).values())]
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


def warn_if_changed(about: dict, script: Path):
    """Warn if a script is no longer that of a run; `about` is its team.json."""
    if about.get("script") != script.stem:
        return  # another one was asked for
    with suppress(OSError):
        if about.get("script_sha256") not in (None, digest_of_script(script)):
            warn(f"{script.name} has changed since the run was trained with it")


@cache
def commit() -> str:
    """The commit of this clone; empty without git."""
    words = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    here = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}
    with suppress(OSError):
        # Installed by pip, this folder may stand in a repository of the user's, which ignores it
        if subprocess.run(["git", "ls-files"], **here).stdout:
            return subprocess.run(words, **here).stdout.strip()
    return ""


def made_with() -> dict[str, str]:
    """Command, commit, version of this package, versions of others, and machine of a run."""
    machine = platform.processor()
    with suppress(OSError, IndexError):  # the processor's name on Linux
        machine = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())[0]
    module = getattr(sys.modules["__main__"], "__spec__", None)  # set by python -m
    program = ["-m", module.name] if module else sys.argv[:1]
    versions = [f"{name} {version(name)}" for name in ("torch", "numpy", "numba", "gymnasium")]
    return {
        "command": shlex.join(["python", *program, *sys.argv[1:]]),
        "commit": commit(),
        "version": version(PACKAGE),
        "versions": ", ".join([f"Python {platform.python_version()}", *versions]),
        "machine": f"{machine}, {os.cpu_count()} cores, {platform.platform(terse=True)}",
    }
