"""PettingZoo's parallel environments: mpe (package `mpe2`), sisl, butterfly, and your own."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import numpy as np

from cleanmarl.env.names import find, module_here
from cleanmarl.env.padded import PaddedTeam

FAMILIES = {"mpe": "mpe2", "sisl": "pettingzoo.sisl", "butterfly": "pettingzoo.butterfly"}


class PettingZooTeam(PaddedTeam):
    """`parallel_env(**options)` of the module `env_name`; `time_limit` is its `max_cycles`.

    A `parallel_env` without `max_cycles` is called without it.

    An agent that has left gets no action and no reward. An episode is over when no agent is left:
    truncated if one of the last agents was truncated, else terminated. In an agent's info,
    `action_mask` gives its available actions, and `is_success` says whether it has succeeded. The
    team succeeds if all agents that report `is_success` succeed.
    """

    def __init__(
        self, env_name: str, env_family: str, options: dict, *, time_limit: int | None, **team
    ):
        module = load(env_name, env_family)
        extra = {"max_cycles": time_limit, "render_mode": team["render_mode"]}
        given = {name: value for name, value in extra.items() if value and takes(module, name)}
        env = module.parallel_env(**given | options)
        if time_limit is None:
            # Some environments of sisl and butterfly wrap the one that knows its limit.
            core = getattr(env.unwrapped, "env", env.unwrapped)
            time_limit = getattr(core, "max_cycles", None)
        views = {agent: env.observation_space(agent) for agent in env.possible_agents}
        choices = {agent: env.action_space(agent) for agent in env.possible_agents}
        super().__init__(env, views, choices, time_limit=time_limit, **team)

    def start(self, seed: int) -> dict[str, np.ndarray]:
        self._masked.clear()
        self._succeeded: dict[str, bool] = {}
        observations, infos = self._env.reset(seed=seed)
        self._present = list(self._env.agents)
        return self.see(observations, infos)

    def advance(self, actions: list[int]) -> tuple:
        acting = self._present
        taken = {}
        for (agent, space), action in zip(self._choices.items(), actions, strict=True):
            if agent in acting:
                taken[agent] = int(space.start) + action
        observations, rewards, terminations, truncations, infos = self._env.step(taken)
        staying = [a for a in self._env.agents if not (terminations.get(a) or truncations.get(a))]
        cut = [a for a in acting if truncations.get(a) and not terminations.get(a)]
        # At the end, truncated agents are shown as if they still played: the learner
        # bootstraps from them.
        self._present = staying or cut or acting
        terminated = not (staying or cut)
        truncated = bool(cut and not staying)
        earned = [rewards.get(a, 0) for a in acting]
        for agent, info in infos.items():
            if "is_success" in info:
                self._succeeded[agent] = bool(info["is_success"])
        success = {"is_success": all(self._succeeded.values())} if self._succeeded else {}
        observation = self.see(observations, infos, terminated)
        return observation, earned, terminated, truncated, success

    def see(self, observations: dict, infos: dict, terminated: bool = False) -> dict:
        seen = {agent: observations[agent] for agent in self._present}
        masks = {agent: infos.get(agent, {}).get("action_mask") for agent in self._present}
        return self.observe_agents(seen, None if terminated else masks)


def takes(module: ModuleType, argument: str) -> bool:
    """Whether `parallel_env` takes an argument.

    PettingZoo's own `parallel_env` passes all its arguments to `raw_env`.
    """
    for name in ("parallel_env", "raw_env"):
        if hasattr(module, name):
            parameters = inspect.signature(getattr(module, name)).parameters
            if argument in parameters:
                return True
            if all(one.kind is not one.VAR_KEYWORD for one in parameters.values()):
                return False
    return True


def modules_of(package: str) -> dict[str, str]:
    """Name -> path of each module of a package that may be an environment. Raises ValueError."""
    own = package not in FAMILIES.values()
    home = module_here(package) if own else importlib.import_module(package)
    if home is None:
        known = ", ".join(FAMILIES)
        raise ValueError(f"env_family must be {known} or a package, not {package!r}")
    if not hasattr(home, "__path__"):
        what = f"a package of environments, not the module {package!r}"
        raise ValueError(f"env_family must be {what}")
    found = {}
    for module in pkgutil.iter_modules(home.__path__):
        inner = module.ispkg or module.name in ("_utils", "all_modules")
        if own or not inner:
            found[module.name] = f"{package}.{module.name}"
    return found


def load(env_name: str, env_family: str) -> ModuleType:
    """Import the module of an environment. Raises ValueError."""
    package = FAMILIES.get(env_family, env_family)
    known = modules_of(package)
    hint = "" if env_family in FAMILIES else f"{package} has {', '.join(known) or 'no modules'}"
    module = importlib.import_module(find(f"{env_family} environment", env_name, known, hint))
    if not hasattr(module, "parallel_env"):
        raise ValueError(f"the module {module.__name__} has no parallel_env()")
    return module
