"""PettingZoo's parallel environments: mpe (package `mpe2`), sisl, butterfly, and your own."""

import importlib
import pkgutil
import sys

import numpy as np
from gymnasium.spaces import Discrete, flatdim, flatten

from cleanmarl.env import TeamEnv, find

FAMILIES = {"mpe": "mpe2", "sisl": "pettingzoo.sisl", "butterfly": "pettingzoo.butterfly"}


class PettingZooTeam(TeamEnv):
    """`parallel_env(**kwargs)` of the module `env_name`, with `time_limit` as its `max_cycles`.

    One that does not take `max_cycles` is opened without it.
    Observations are flattened and zero-padded to the longest. An agent that is gone sees zeros and
    can only take action 0; an `action_mask` in an agent's info says which actions it can take. An
    episode is over when no agent is left: truncated if one of the last ones was cut short, else
    terminated.
    """

    def __init__(self, env_name: str, env_family: str, kwargs: dict, *, time_limit, **team):
        parallel_env = _load(env_name, env_family)
        if team["render_mode"]:
            kwargs = kwargs | {"render_mode": team["render_mode"]}
        limited = {"max_cycles": time_limit} if time_limit else {}
        try:
            self._env = parallel_env(**kwargs, **limited)
        except TypeError:
            self._env = parallel_env(**kwargs)
        # Some environments of sisl and butterfly are only shells.
        core = getattr(self._env.unwrapped, "env", self._env.unwrapped)
        limit = time_limit or getattr(core, "max_cycles", None)
        agents = self._env.possible_agents
        self._choices = {agent: self._env.action_space(agent) for agent in agents}
        for agent, space in self._choices.items():
            if not isinstance(space, Discrete):
                what = f"those of {agent} in {env_name} are {space}"
                raise ValueError(f"QMIX needs Discrete actions, but {what}")
        self._views = {agent: self._env.observation_space(agent) for agent in agents}
        self._size = max(map(flatdim, self._views.values()))
        counts = np.array([[space.n] for space in self._choices.values()])
        avail_actions = (np.arange(counts.max()) < counts).astype(np.int8)
        super().__init__(self._size, avail_actions, time_limit=limit, **team)

    def _start(self, seed: int) -> dict:
        return self._observation(*self._env.reset(seed=seed), list(self._env.agents))

    def _advance(self, actions: list[int]) -> tuple:
        acting, taken = self._present, {}
        for (agent, space), action in zip(self._choices.items(), actions, strict=True):
            if agent in acting:
                taken[agent] = int(space.start) + action
        observations, rewards, terminations, truncations, infos = self._env.step(taken)
        staying = [a for a in self._env.agents if not (terminations.get(a) or truncations.get(a))]
        cut = [a for a in acting if truncations.get(a) and not terminations.get(a)]
        # At the end, those that were cut short are seen as if they played on: the learner
        # bootstraps from them.
        observation = self._observation(observations, infos, staying or cut or acting)
        earned = [rewards.get(a, 0) for a in acting]
        terminated = not (staying or cut)
        truncated = bool(cut and not staying)
        return observation, earned, terminated, truncated, {}

    def _observation(self, observations: dict, infos: dict, present: list) -> dict:
        self._present = present
        obs = np.zeros((self.n_agents, self._size), np.float32)
        avail_actions = np.eye(1, self.n_actions, dtype=np.int8).repeat(self.n_agents, axis=0)
        for row, (agent, view) in enumerate(self._views.items()):
            if agent in present:
                vector = flatten(view, observations[agent])
                obs[row, : len(vector)] = vector
                mask = infos.get(agent, {}).get("action_mask", 1)
                avail_actions[row, : self._choices[agent].n] = mask
        return self._observe(obs, avail_actions)


def modules_of(package: str) -> dict[str, str]:
    """The modules of a package that may hold an environment: path by name. Raises ValueError."""
    own = package not in FAMILIES.values()  # in the known ones, packages are only inner parts
    if own:
        # A script's folder is on the path, but the package is where the user works.
        sys.path.append("")
    try:
        home = importlib.import_module(package)
    except (ModuleNotFoundError, TypeError, ValueError) as error:  # "" and ".name" are no names
        if own and package.startswith(getattr(error, "name", package)):
            known = ", ".join(FAMILIES)
            raise ValueError(f"env_family must be {known} or a package, not {package!r}") from None
        raise
    if not hasattr(home, "__path__"):
        what = f"a package of environments, not the module {package!r}"
        raise ValueError(f"env_family must be {what}")
    found = [m.name for m in pkgutil.iter_modules(home.__path__) if own or not m.ispkg]
    inner = () if own else ("_utils", "all_modules")
    return {name: f"{package}.{name}" for name in found if name not in inner}


def _load(env_name: str, env_family: str):
    known = modules_of(FAMILIES.get(env_family, env_family))
    module = importlib.import_module(find(f"{env_family} environment", env_name, known))
    if not hasattr(module, "parallel_env"):
        raise ValueError(f"the module {module.__name__} has no parallel_env()")
    return module.parallel_env
