"""A trained team in your own program: load it, reset it, let it act.

    import cleanmarl

    team = cleanmarl.load_team("runs/smaclite__3m__qmix__1__...", which="best")
    team.reset()
    actions = team.act(obs, avail_actions)

A run's folder needs team.json, args.json and best.pt or model.pt. The environment is not needed.
"""

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Literal

import numpy as np
import torch

from cleanmarl.teams import path_of
from cleanmarl.training.acting import acting
from cleanmarl.training.arguments import check, load_file, with_newer
from cleanmarl.training.checkpoint import (
    file_of,
    load_model,
    read_json,
    read_team,
    write_output,
)
from cleanmarl.training.errors import Refused, refuse_on_error, warn
from cleanmarl.training.session import warn_if_changed

OWN = Path(__file__).parent  # folder of the project's own scripts


class Team:
    """A trained team, made by `load_team`.

    Attributes:
        n_agents, n_actions, obs_size, state_size: sizes; `obs_size` is without ids
        agent_names: [n_agents]
        action_names: [n_agents][n_actions]
        step: environment step of its training at which the networks were saved
        q_values: values of all actions in the last `act`, [..., n_agents, n_actions]; None before
    """

    def __init__(self, script: ModuleType, args, about: dict, agent: torch.nn.Module, step: int):
        self.n_agents = about["n_agents"]
        self.n_actions = about["n_actions"]
        self.obs_size = about["obs_size"]
        self.state_size = about["state_size"]
        numbers = range(self.n_agents)
        self.agent_names = about["agent_names"] or [f"agent {i}" for i in numbers]
        actions = [f"action {j}" for j in range(self.n_actions)]
        self.action_names = about["action_names"] or [actions] * self.n_agents
        self.step = step
        self.q_values: np.ndarray | None = None
        self._args = args
        self._agent = agent
        self._act = script.act
        self._remembers = "memory" in inspect.signature(script.act).parameters
        begin, end = about["inputs"].get("agent_id", (0, 0))
        self._ids = np.eye(self.n_agents, end - begin, dtype=np.float32)
        begin, end = about["inputs"].get("time_left", (0, 0))
        self._time_limit = about["time_limit"] if end > begin else None  # None: agents see no clock
        own = np.array(about["own_actions"] or [self.n_actions] * self.n_agents)
        self._own_actions = np.arange(self.n_actions) < own[:, None]  # [n_agents, n_actions]
        self._full = 255 if about.get("obs_dtype") == "uint8" else 1  # the clock at the start
        self._steps = 0
        self._memory = None  # of recurrent agents
        self._batch: tuple | None = None

    def reset(self):
        """Begin an episode, or a batch of episodes: recurrent agents forget."""
        self._memory = self._batch = self.q_values = None
        self._steps = 0

    def act(
        self,
        obs: np.ndarray,
        avail_actions: np.ndarray | None = None,
        time_left: np.ndarray | float | None = None,
    ) -> np.ndarray:
        """The greedy actions that training's evaluations would take.

        Args:
            obs: [..., n_agents, obs_size], without ids; dimensions before the agents are a batch
                of environments. Shorter observations are padded with zeros, as in training
            avail_actions: [..., n_agents, n_actions], not 0 where an action is available; None if
                all are that an agent has
            time_left: share of the time limit that is left, from 1 to 0, one number or [...]; None
                counts the calls since `reset`. Without a clock it does not matter

        Returns: integers [..., n_agents]

        Raises ValueError if a shape is wrong, an entry is not finite, or an agent has no available
        action.
        """
        if isinstance(obs, dict):
            raise ValueError('obs must be an array: of make_env, take observation["obs"]')
        obs = np.asarray(obs, np.float32)
        wanted = (self.n_agents, self.obs_size)
        if obs.shape[-2:] != wanted:
            raise ValueError(f"obs must be [..., {wanted[0]}, {wanted[1]}], got {obs.shape}")
        if not np.isfinite(obs).all():
            raise ValueError("obs has an entry that is nan or infinite")
        batch = obs.shape[:-2]
        shape = (*batch, self.n_agents, self.n_actions)
        given = np.ones(shape) if avail_actions is None else np.asarray(avail_actions)
        if given.shape != shape:
            raise ValueError(f"avail_actions must be {list(shape)}, got {given.shape}")
        available = (given != 0) & self._own_actions
        if not available.any(-1).all():
            raise ValueError("an agent has no available action")
        if self._remembers and self._batch not in (None, batch):
            raise ValueError(f"a batch of {self._batch} is being played, not {batch}: reset()")
        self._batch = batch
        parts = [obs, np.broadcast_to(self._ids, (*batch, *self._ids.shape))]
        if self._time_limit:
            parts.append(self._clock(time_left, batch))
        self._steps += 1
        return self._choose(np.concatenate(parts, axis=-1, dtype=np.float32), available)

    def _clock(self, time_left: np.ndarray | float | None, batch: tuple) -> np.ndarray:
        """The time left as agents see it, [..., n_agents, 1]."""
        if time_left is None:
            time_left = max(0, 1 - self._steps / self._time_limit)
        left = np.asarray(time_left)
        if left.shape not in ((), batch):
            raise ValueError(f"time_left must be one number or {list(batch)}, got {left.shape}")
        if not ((left >= 0) & (left <= 1)).all():
            raise ValueError("time_left is a share, from 1 to 0")
        if self._full > 1:  # bytes
            left = np.floor(left * self._full)
        return np.broadcast_to(left[..., None, None], (*batch, self.n_agents, 1))

    def _choose(self, obs: np.ndarray, available: np.ndarray) -> np.ndarray:
        """Call the script's own `act`, and keep the values that it sees."""
        shape = available.shape
        if self._remembers:  # a row for each agent of each environment
            obs, available = obs.reshape(-1, obs.shape[-1]), available.reshape(-1, shape[-1])
            if self._memory is None:
                self._memory = (None, np.full(len(obs), -1))
        values = acting(self._agent)

        def kept(*inputs):
            answer = values(*inputs)
            scores = answer[0] if isinstance(answer, tuple) else answer
            is_value = np.size(scores) == np.prod(shape)  # not a distribution, for example
            self.q_values = scores.reshape(shape) if is_value else None
            return answer

        observation = {"obs": obs, "avail_actions": available.astype(np.int8)}
        actions = call_act(self._act, kept, observation, self._memory, self._args)
        if self._remembers:
            actions, self._memory = actions
        return actions.reshape(shape[:-1])

    def export(self, path: str | Path):
        """Write the team as a program of `torch.export`, which runs without this project.

        See `Program` for its inputs and outputs. Raises ValueError if PyTorch cannot export it, and
        OSError if the file cannot be written.
        """
        from cleanmarl.export import program

        sizes = {"obs_size": self.obs_size, "n_actions": self.n_actions}
        sizes["clock"] = self._full if self._time_limit else 0
        write_output(Path(path), program(self._agent, self._args, self._ids, **sizes))


def call_act(act: Callable, values: Callable, observation: dict, memory, args):
    """Call a script's `act` greedily; a copy may take its arguments in another order."""
    given = {"values": values, "observation": observation, "memory": memory, "args": args}
    given |= {"epsilon": 0.0, "rng": np.random.default_rng(0)}
    parameters = inspect.signature(act).parameters
    needed = {name for name, one in parameters.items() if one.default is one.empty}
    if strange := needed - given.keys():
        known = ", ".join(given)
        raise Refused(f"act() of the script takes {min(strange)}; a team knows {known}")
    return act(**{name: given[name] for name in parameters if name in given})


def load_team(
    run: str | Path,
    which: Literal["best", "last"] | int = "best",
    script: str | Path | None = None,
    trust: bool = False,
) -> Team:
    """Load the trained team of a run.

    Args:
        run: folder of the run, or the name of a published team, for example team:3m
        which: its "best" or its "last" networks, or those that it kept at a step (--keep-models)
        script: the script that made it, if it was moved
        trust: run the script that the folder names, wherever it is

    Networks of the project's own scripts need no other code. A copy is run if `script` names it or,
    without that, if it is below the current folder and not beside the run.

    Raises ValueError with a message of one line.
    """
    folder = path_of(run)
    file_of(run, which)  # raises Refused if there is none
    about = read_team(folder)
    path = find_script(about, script and Path(script), folder, trust)
    module = load_script(path, ("Args", "Networks", "act"))
    args = read_args(module, folder)
    check(args)
    sizes = SimpleNamespace(**about)
    # As networks see it, with ids and clock
    sizes.obs_size = max(about["inputs"].get(name, [0, 0])[1] for name in ("agent_id", "time_left"))
    try:
        # Initial weights draw from the user's stream
        with refuse_on_error(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(getattr(args, "seed", 0))  # for what is not saved
            networks = module.Networks(args, sizes)
    except AttributeError as error:
        raise Refused(f"the networks of {module.__file__} need the environment: {error}") from None
    step = load_model(run, which, target_agent=networks.target_agent)
    return Team(module, args, about, networks.target_agent, step)


def read_args(module: ModuleType, folder: Path):
    """A run's own arguments as the script's `Args`, for the CPU. Raises Refused."""
    saved = with_newer(module.Args, read_json(folder / "args.json"))
    known = {field.name for field in fields(module.Args)}
    if differ := sorted(saved.keys() ^ known):
        raise Refused(f"{folder} and {module.__file__} have different arguments: {differ[:8]}")
    return module.Args(**saved | {"device": "cpu", "resume": ""})


def find_script(about: dict, script: Path | None, folder: Path, trust: bool) -> Path:
    """The file of the script that made the run in a folder.

    Raises Refused if it cannot be found, or must not be run without the user's word.
    """
    if script is None and not about.get("script_file"):
        raise Refused("the run does not say which script made it: give its file")
    path = script or Path(about["script_file"])
    own = OWN / path.name
    if script is None and path.parent.name == OWN.name and own.is_file():
        if path.is_file() and path.read_bytes() != own.read_bytes():
            warn(f"{own} is used, though {path} made the run and differs: --script chooses")
        return own  # perhaps made in another clone of this project
    if not path.is_file():
        raise Refused(f"there is no script {path}: give its place (--script FILE)")
    if not (script or trust or is_own_work(path, folder)):
        raise Refused(f"the folder wants to run {path}: if you trust it, give --script {path}")
    if path.resolve().parent != OWN:
        warn_if_changed(about, path)
    return path


def is_own_work(script: Path, folder: Path) -> bool:
    """Whether the script that a run names is in the user's own work: below the current folder.

    What lies beside the run may have been sent with it.
    """
    is_plain = script.resolve() == script  # as runs write it, not a way round through a link
    here, around = Path.cwd().resolve(), folder.resolve().parent
    return is_plain and script.is_relative_to(here) and not script.is_relative_to(around)


def load_script(path: Path, needed: tuple[str, ...]) -> ModuleType:
    """The script as a module. Raises Refused if it cannot be used."""
    try:
        module = load_file(path)
    except Exception as error:
        raise Refused(f"{path} cannot be imported: {error!r}") from error
    missing = [name for name in needed if not hasattr(module, name)]
    if missing:
        raise Refused(f"{path.name} has no {', '.join(missing)}: copy it from cleanmarl/qmix.py")
    return module
