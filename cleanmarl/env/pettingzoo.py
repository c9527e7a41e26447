"""PettingZoo's parallel environments: the families mpe (package `mpe2`), sisl, butterfly, and a user's own."""

import importlib
import pkgutil
import sys

import numpy as np
from gymnasium.spaces import Discrete, flatdim, flatten

from cleanmarl.env import TeamEnv, find

FAMILIES = {"mpe": "mpe2", "sisl": "pettingzoo.sisl", "butterfly": "pettingzoo.butterfly"}


class PettingZooTeam(TeamEnv):
    """`parallel_env(**kwargs)` of the module `env_name`; it gets `time_limit` as `max_cycles` if it takes that.

    Observations are flattened and zero-padded to the longest. An agent that is gone sees zeros and can only take action
    0; an `action_mask` in an agent's info says which actions it can take. An episode is over when no agent is left:
    truncated if one of the last ones was cut short, else terminated.
    """

    def __init__(self, env_name: str, env_family: str, kwargs: dict, *, time_limit: int | None, **team):
        parallel_env = _load(env_name, env_family)
        kwargs = kwargs | ({"render_mode": team["render_mode"]} if team["render_mode"] else {})
        try:
            self._env = parallel_env(**kwargs, **({"max_cycles": time_limit} if time_limit else {}))
        except TypeError:
            self._env = parallel_env(**kwargs)
        core = getattr(self._env.unwrapped, "env", self._env.unwrapped)  # some of sisl and butterfly are only shells
        limit = time_limit or getattr(core, "max_cycles", None)
        self._choices = {agent: self._env.action_space(agent) for agent in self._env.possible_agents}
        for agent, space in self._choices.items():
            if not isinstance(space, Discrete):
                raise ValueError(f"QMIX needs Discrete actions, but those of {agent} in {env_name} are {space}")
        self._views = {agent: self._env.observation_space(agent) for agent in self._choices}
        self._size = max(map(flatdim, self._views.values()))
        counts = np.array([[space.n] for space in self._choices.values()])
        super().__init__(self._size, (np.arange(counts.max()) < counts).astype(np.int8), time_limit=limit, **team)

    def _start(self, seed: int) -> dict:
        return self._observation(*self._env.reset(seed=seed), list(self._env.agents))

    def _advance(self, actions: list[int]) -> tuple:
        acting, choices = self._present, zip(self._choices.items(), actions, strict=True)
        actions = {agent: int(space.start) + action for (agent, space), action in choices if agent in acting}
        observations, rewards, terminations, truncations, infos = self._env.step(actions)
        staying = [a for a in self._env.agents if not (terminations.get(a) or truncations.get(a))]
        cut = [a for a in acting if truncations.get(a) and not terminations.get(a)]
        # At the end, those that were cut short are seen as if they went on: the learner bootstraps from them.
        observation = self._observation(observations, infos, staying or cut or acting)
        return observation, [rewards.get(a, 0) for a in acting], not (staying or cut), bool(cut and not staying), {}

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


def modules_of(package: str) -> dict[str, str]:
    """The modules of a package that may hold an environment: path by name. Raises ValueError."""
    own = package not in FAMILIES.values()  # in the known ones, packages are only inner parts
    if own:
        sys.path.append("")  # a script's folder is on the path, but the package is where the user works
    try:
        home = importlib.import_module(package)
    except (ModuleNotFoundError, TypeError, ValueError) as error:  # "" and ".name" are no names
        if own and package.startswith(getattr(error, "name", package)):
            raise ValueError(f"env_family must be {', '.join(FAMILIES)} or a package, not {package!r}") from None
        raise
    if not hasattr(home, "__path__"):
        raise ValueError(f"env_family must be a package of environments, not the module {package!r}")
    found = [m.name for m in pkgutil.iter_modules(home.__path__) if own or not m.ispkg]
    inner = () if own else ("_utils", "all_modules")
    return {name: f"{package}.{name}" for name in found if name not in inner}


def _load(env_name: str, env_family: str):
    known = modules_of(FAMILIES.get(env_family, env_family))
    module = importlib.import_module(find(f"{env_family} environment", env_name, known))
    if not hasattr(module, "parallel_env"):
        raise ValueError(f"the module {module.__name__} has no parallel_env()")
    return module.parallel_env
