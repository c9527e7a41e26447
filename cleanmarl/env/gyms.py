"""Multi-agent environments of Gymnasium: RWARE and others that EPyMARL supports."""

import inspect
from collections.abc import Mapping

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.spaces import Dict, MultiDiscrete, Tuple

from cleanmarl.env.names import calling, find, module_here, raised_in, unexpected, unknown
from cleanmarl.env.padded import MASK, PaddedTeam
from cleanmarl.env.team import TeamEnv
from cleanmarl.env.values import check_space, flag_of, shown
from cleanmarl.errors import EnvFault


def gymnasium_team(env_name: str, options: dict, *, time_limit: int | None, **team) -> TeamEnv:
    """`gymnasium.make(env_name, **options)`; `time_limit` is its `max_episode_steps`.

    Spaces are Tuples or Dicts with a part for each agent; actions may be a MultiDiscrete.
    """
    with calling(f"opening {env_name}"):
        env, limit = opened(env_name, options, time_limit, team["render_mode"])
        team["time_limit"] = time_limit or limit
        views = check_space(env.observation_space, "observation_space")
        choices = check_space(env.action_space, "action_space")
        if isinstance(views, Dict) and isinstance(choices, Dict):
            from cleanmarl.env.dicts import DictTeam

            return DictTeam(env, env_name, **team)
        several = isinstance(views, Tuple) and isinstance(choices, Tuple | MultiDiscrete)
        if not several or len(views) != len(choices):
            wanted = "a Tuple of observations and a Tuple of actions, one for each agent"
            raise ValueError(f"QMIX needs {wanted}; {env_name} has {views} and {choices}")
        made = GymnasiumTeam(env, env_name, **team)
    if env.spec.id.startswith("Foraging"):
        made.notes.append("with --env-type lbf, foraging has masks and its true time limit")
    return made


def opened(env_name: str, options: dict, time_limit: int | None, render_mode: str | None) -> tuple:
    """An environment, and the time limit with which it is registered. Raises ValueError."""
    if render_mode:
        options = options | {"render_mode": render_mode}
    spec = registered(env_name)
    limit = {"max_episode_steps": time_limit, "disable_env_checker": True}
    try:
        return gymnasium.make(spec, **limit, **options), spec.max_episode_steps
    except gymnasium.error.Error as error:  # for example, a package is missing
        raise ValueError(f"cannot open {env_name}: {error}") from error
    except TypeError as error:
        if unexpected(error) in options:
            known = inspect.signature(load_env_creator(spec.entry_point)).parameters
            reason = unknown(f"option of {env_name}", unexpected(error), list(known))
            raise ValueError(reason) from None
        if "must inherit from the gymnasium.Env class" in str(error):
            raise ValueError(f"{env_name} must be derived from gymnasium.Env") from None
        raise


class GymnasiumTeam(PaddedTeam):
    """A Gymnasium environment whose spaces have a part for each agent.

    - `observation_space`: a Tuple with a space for each agent
    - `action_space`: a Tuple with a Discrete for each agent, or a MultiDiscrete
    - rewards: a list with one number for each agent, or one number for the team
    - `terminated` and `truncated`: a bool, or a list with a bool for each agent. An episode is
      over when it is over for all agents: terminated if all are terminated, else truncated
    - `info["action_mask"]`, optional: a mask for each agent
    - `info["is_success"]`, optional: a bool, or one for each agent; then all must succeed
    """

    def __init__(self, env: gymnasium.Env, title: str, **team):
        self._joint = type(env.action_space)
        names = [f"agent {i}" for i in range(len(env.action_space))]
        views = dict(zip(names, env.observation_space, strict=True))
        choices = dict(zip(names, env.action_space, strict=True))
        super().__init__(env, title, views, choices, **team)

    def start(self, seed: int) -> dict[str, np.ndarray]:
        self.begin()
        answer = self._env.reset(seed=seed)
        if not isinstance(answer, tuple) or len(answer) != 2 or isinstance(answer[1], np.ndarray):
            raise EnvFault(f"reset() must return observations and an info, got {shown(answer)}")
        observation = self.see(*answer)
        self.expect_masks()
        return observation

    def advance(self, actions: list[int]) -> tuple:
        spaces = self._choices.values()
        taken = [int(space.start) + a for space, a in zip(spaces, actions, strict=True)]
        taken = tuple(taken) if self._joint is Tuple else np.array(taken)
        answer = step(self._env, taken)
        seen, rewards, terminations, truncations, info = answer
        self.one_each(rewards, "rewards")
        terminations = self.flags(terminations, "terminated")
        truncations = self.flags(truncations, "truncated")
        terminated = bool(np.all(terminations))
        over = bool(np.all(np.logical_or(terminations, truncations)))
        observation = self.see(seen, info, terminated)
        success = {}
        for name in ("is_success", "battle_won"):
            if name in info:
                success[name] = bool(np.all(self.flags(info[name], name)))
        return observation, rewards, terminated, over, success

    def one_each(self, values, what: str):
        """Values of the agents, in order: a list, and not a dict."""
        if isinstance(values, Mapping | set | str) or values is None:
            wanted = f"must be a list with one entry for each of {self.n_agents} agents"
            raise EnvFault(f"{what} {wanted}, since the spaces are Tuples; got {shown(values)}")
        return values

    def flags(self, given, what: str):
        """A bool for all agents, or a list of theirs."""
        if np.ndim(self.one_each(given, what)) == 0:
            return flag_of(given, what)
        if len(given) not in (1, self.n_agents):
            raise EnvFault(f"{what} has {len(given)} entries for {self.n_agents} agents")
        return [flag_of(one, f"{what} of agent {i}") for i, one in enumerate(given)]

    def see(self, seen, info, terminated: bool = False) -> dict[str, np.ndarray]:
        if not isinstance(seen, tuple | list | np.ndarray) or len(seen) != self.n_agents:
            wanted = f"must be a tuple with one for each of {self.n_agents} agents"
            raise EnvFault(f"the observations {wanted}, got {shown(seen)}")
        masks = self.check_info(info, "the team").get(MASK)
        if masks is None:
            masks = [None] * self.n_agents
        if len(self.one_each(masks, MASK)) != self.n_agents:
            raise EnvFault(f"{MASK} has {len(masks)} masks for {self.n_agents} agents")
        seen = dict(zip(self._views, seen, strict=True))
        masks = dict(zip(self._views, masks, strict=True))
        return self.observe_agents(seen, masks, terminated=terminated)


def step(env: gymnasium.Env, actions) -> tuple:
    """Step an environment that may return too few values."""
    wanted = "step() must return observations, rewards, terminated, truncated, info"
    try:
        answer = env.step(actions)
    except ValueError as error:  # of a wrapper of Gymnasium
        if "values to unpack" in str(error) and raised_in(error, "gymnasium.wrappers"):
            raise EnvFault(f"{wanted}: {error}") from None
        raise
    if not isinstance(answer, tuple) or len(answer) != 5:
        raise EnvFault(f"{wanted}, got {shown(answer)}")
    return answer


def registered(env_name: str) -> EnvSpec:
    """The specification registered as "id"; for "module:id", import the module first.

    Raises ValueError if there is no such module or id.
    """
    module, _, name = env_name.rpartition(":")
    if module and module_here(module) is None:
        missing = f"there is no module {module!r}, neither installed nor in the working directory"
        raise ValueError(f"cannot open {env_name}: {missing}")
    hint = "write MODULE:ID, for example rware:rware-tiny-2ag-v2, where MODULE registers ID"
    return find("Gymnasium environment", name, gymnasium.registry, hint)
