"""PettingZoo's parallel environments: the families mpe (package `mpe2`), sisl and butterfly, and a user's own."""

import importlib
import pkgutil
from collections.abc import Callable

import numpy as np
from gymnasium.spaces import Dict, Discrete, Space, flatten, flatten_space

from cleanmarl.env import TeamEnv, unknown

FAMILIES = {"mpe": "mpe2", "sisl": "pettingzoo.sisl", "butterfly": "pettingzoo.butterfly"}
INSTALL = {"mpe": "mpe2", "sisl": "'pettingzoo[sisl]'", "butterfly": "'pettingzoo[butterfly]'"}


class PettingZooTeam(TeamEnv):
    """`parallel_env(**kwargs)` of the module `env_name` in the package of `env_family`.

    Observations are flattened (images become long vectors) and zero-padded to the largest. An agent that is gone before
    the episode ends sees zeros, can only take action 0, and earns nothing. An `action_mask`, in an agent's observation or
    info as PettingZoo has it, says which actions are available; without one all are.

    The episode is over when no agent is left: truncated if that cut any of the last ones short, terminated otherwise.
    A `time_limit` is handed to `parallel_env` as `max_cycles` if it takes that.
    """

    def __init__(self, env_name: str, env_family: str, kwargs: dict, *, time_limit: int | None = None, **team):
        parallel_env = _load(env_name, env_family)
        if team.get("render_mode"):
            kwargs = {**kwargs, "render_mode": team["render_mode"]}
        try:
            self._env = parallel_env(**kwargs, **({"max_cycles": time_limit} if time_limit else {}))
        except TypeError:
            self._env = parallel_env(**kwargs)
        core = self._env.unwrapped
        for layer in (core, getattr(core, "env", None)):  # sisl's are shells around the one that counts the cycles
            time_limit = time_limit or getattr(layer, "max_cycles", None)
        self.metadata = {"render_modes": [], "render_fps": 10} | self._env.metadata

        agents = list(self._env.possible_agents)
        choices = [self._env.action_space(agent) for agent in agents]
        for agent, choice in zip(agents, choices, strict=True):
            if not isinstance(choice, Discrete):
                raise ValueError(f"QMIX needs Discrete actions, those of {agent} in {env_name} are {choice}")
        self._row = {agent: i for i, agent in enumerate(agents)}
        self._n_choices = {agent: int(choice.n) for agent, choice in zip(agents, choices, strict=True)}
        self._first_choice = {agent: int(choice.start) for agent, choice in zip(agents, choices, strict=True)}
        self._views = {agent: _unmasked(self._env.observation_space(agent)) for agent in agents}
        boxes = [flatten_space(view) for view in self._views.values()]
        self._shape = len(agents), max(box.shape[0] for box in boxes)
        low = np.full(self._shape, min(0, *(box.low.min() for box in boxes)), np.float32)
        high = np.full(self._shape, max(0, *(box.high.max() for box in boxes)), np.float32)
        available = np.array([np.arange(max(c.n for c in choices)) < choice.n for choice in choices], np.int8)
        super().__init__(low, high, available, time_limit=time_limit, **team)

    def _start(self, seed: int) -> dict:
        observations, infos = self._env.reset(seed=seed)
        self._present = list(self._env.agents)
        return self._observation(observations, infos)

    def _advance(self, actions: list[int]) -> tuple:
        acting = self._present
        joint_action = {agent: self._first_choice[agent] + actions[self._row[agent]] for agent in acting}
        observations, rewards, terminations, truncations, infos = self._env.step(joint_action)
        staying = [agent for agent in self._env.agents if not (terminations.get(agent) or truncations.get(agent))]
        cut_short = [agent for agent in acting if truncations.get(agent) and not terminations.get(agent)]
        # The learner bootstraps from those that were cut short as if they went on; after a termination nobody looks.
        self._present = staying or cut_short or acting
        terminated, truncated = not (staying or cut_short), bool(cut_short) and not staying
        rewards = [rewards.get(agent, 0) for agent in acting]
        return self._observation(observations, infos), rewards, terminated, truncated, {}

    def _observation(self, observations: dict, infos: dict) -> dict:
        obs = np.zeros(self._shape, np.float32)
        avail_actions = np.zeros((self.n_agents, self.n_actions), np.int8)
        avail_actions[:, 0] = 1
        for agent in self._present:
            row, seen, mask = self._row[agent], observations[agent], infos.get(agent, {}).get("action_mask", 1)
            if isinstance(seen, dict) and "action_mask" in seen:
                seen, mask = seen["observation"], seen["action_mask"]
            vector = flatten(self._views[agent], seen)
            obs[row, : len(vector)] = vector
            avail_actions[row, : self._n_choices[agent]] = mask
        return self._observe(obs, avail_actions)

    def render(self) -> np.ndarray | None:
        return self._env.render() if self.render_mode else None

    def close(self):
        self._env.close()


def _load(env_name: str, env_family: str) -> Callable:
    """The `parallel_env` of a module; raises ValueError for an unknown one, ImportError for what is not installed."""
    package = FAMILIES.get(env_family, env_family)
    try:
        home = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if env_family in FAMILIES:
            raise ImportError(
                f"env_family {env_family} needs {error.name}: pip install {INSTALL[env_family]}"
            ) from error
        known = f"it is {', '.join(FAMILIES)}, or a package of your own that Python can import"
        raise ValueError(f"unknown env_family {env_family!r} ({error}), {known}") from error
    path = f"{package}.{env_name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if not path.startswith(error.name):
            install = INSTALL.get(env_family, error.name)
            raise ImportError(f"{path} needs {error.name}: pip install {install}") from error
        module = None
    if not hasattr(module, "parallel_env"):
        names = [module.name for module in pkgutil.iter_modules(home.__path__) if not module.ispkg]
        raise unknown(f"{env_family} environment", env_name, names)
    return module.parallel_env


def _unmasked(space: Space) -> Space:
    return space["observation"] if isinstance(space, Dict) and "action_mask" in space.spaces else space
