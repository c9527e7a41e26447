"""PettingZoo's parallel environments: the families mpe (package `mpe2`), sisl, butterfly, and a user's own."""

import difflib
import importlib
import pkgutil
import sys

import numpy as np
from gymnasium.spaces import Discrete, flatdim, flatten

from cleanmarl.env import TeamEnv

FAMILIES = {"mpe": "mpe2", "sisl": "pettingzoo.sisl", "butterfly": "pettingzoo.butterfly"}


class PettingZooTeam(TeamEnv):
    """`parallel_env(**kwargs)` of the module `env_name`; it gets `time_limit` as `max_cycles` if it takes that.

    Observations are flattened and zero-padded to the longest. An agent that is gone before the episode ends sees zeros,
    can only take action 0, and earns nothing. An `action_mask` in an agent's info says which actions it may take.
    An episode is over when no agent is left: truncated if one of the last ones was cut short, else terminated.
    """

    def __init__(self, env_name: str, env_family: str, kwargs: dict, *, time_limit: int | None, **team):
        parallel_env = _load(env_name, env_family)
        kwargs = kwargs | ({"render_mode": team["render_mode"]} if team["render_mode"] else {})
        try:
            self._env = parallel_env(**kwargs, **({"max_cycles": time_limit} if time_limit else {}))
        except TypeError:
            self._env = parallel_env(**kwargs)
        core = getattr(self._env.unwrapped, "env", self._env.unwrapped)  # some of sisl and butterfly are only shells
        time_limit = time_limit or getattr(core, "max_cycles", None)
        self.metadata = {"render_modes": [], "render_fps": 10} | self._env.metadata
        self._choices = {agent: self._env.action_space(agent) for agent in self._env.possible_agents}
        for agent, space in self._choices.items():
            if not isinstance(space, Discrete):
                raise ValueError(f"QMIX needs Discrete actions, but those of {agent} in {env_name} are {space}")
        self._views = {agent: self._env.observation_space(agent) for agent in self._choices}
        self._size = max(map(flatdim, self._views.values()))
        counts = np.array([[space.n] for space in self._choices.values()])
        super().__init__(self._size, (np.arange(counts.max()) < counts).astype(np.int8), time_limit=time_limit, **team)

    def _start(self, seed: int) -> dict:
        observations, infos = self._env.reset(seed=seed)
        return self._observation(observations, infos, list(self._env.agents))

    def _advance(self, actions: list[int]) -> tuple:
        acting, choices = self._present, zip(self._choices.items(), actions, strict=True)
        actions = {agent: int(space.start) + action for (agent, space), action in choices if agent in acting}
        observations, rewards, terminations, truncations, infos = self._env.step(actions)
        staying = [a for a in self._env.agents if not (terminations.get(a) or truncations.get(a))]
        cut_short = [a for a in acting if truncations.get(a) and not terminations.get(a)]
        # At the end, those that were cut short are seen as if they went on: the learner bootstraps from them.
        observation = self._observation(observations, infos, staying or cut_short or acting)
        terminated, truncated = not (staying or cut_short), bool(cut_short and not staying)
        return observation, [rewards.get(agent, 0) for agent in acting], terminated, truncated, {}

    def _observation(self, observations: dict, infos: dict, present: list) -> dict:
        self._present = present
        obs = np.zeros((self.n_agents, self._size), np.float32)
        avail_actions = np.eye(1, self.n_actions, dtype=np.int8).repeat(self.n_agents, axis=0)
        for row, (agent, view) in enumerate(self._views.items()):
            if agent in present:
                vector = flatten(view, observations[agent])
                obs[row, : len(vector)] = vector
                avail_actions[row, : self._choices[agent].n] = infos.get(agent, {}).get("action_mask", 1)
        return self._observe(obs, avail_actions)


def _load(env_name: str, env_family: str):
    """The `parallel_env` of the module `env_name` in the package of `env_family`."""
    package = FAMILIES.get(env_family, env_family)
    try:
        return importlib.import_module(f"{package}.{env_name}").parallel_env
    except ModuleNotFoundError as error:
        if error.name == f"{package}.{env_name}":
            names = [module.name for module in pkgutil.iter_modules(sys.modules[package].__path__) if not module.ispkg]
            nearest = ", ".join(difflib.get_close_matches(env_name, names, cutoff=0))
            raise ValueError(f"unknown {env_family} environment {env_name!r}, the nearest are {nearest}") from None
        if env_family in FAMILIES or not package.startswith(error.name):
            raise
        known = f"{', '.join(FAMILIES)}, or a package of your own that Python finds"
        raise ValueError(f"env_family must be {known}, got {env_family!r}") from None
