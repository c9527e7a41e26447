"""Multi-agent environments of Gymnasium: RWARE and others that EPyMARL supports."""

import inspect
import re
from collections.abc import Mapping

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec, load_env_creator
from gymnasium.spaces import Dict, MultiDiscrete, Space, Tuple

from cleanmarl.env.masks import MASK
from cleanmarl.env.names import called, calling, find, module_here, raised_in, unexpected, unknown
from cleanmarl.env.padded import PaddedTeam
from cleanmarl.env.team import TeamEnv
from cleanmarl.env.values import check_space, dict_of, flag_of, shown
from cleanmarl.errors import EnvFault


def gymnasium_team(env_name: str, options: dict, *, time_limit: int | None, **team) -> TeamEnv:
    """`gymnasium.make(env_name, **options)`; `time_limit` is its `max_episode_steps`.

    Spaces are Tuples or Dicts with a part for each agent; actions may be a MultiDiscrete. A
    registered `TeamEnv` gets the arguments of `TeamEnv`, too.
    """
    with calling("opening", env_name):
        spec = registered(env_name)
        kind = load_env_creator(spec.entry_point) if is_name(spec) else spec.entry_point
        if isinstance(kind, type) and issubclass(kind, TeamEnv):
            limit = time_limit or spec.max_episode_steps
            return own_team(kind, spec.kwargs | options, time_limit=limit, **team)
        env, limit = opened(env_name, options, time_limit, team["render_mode"])
        team["time_limit"] = time_limit or limit
        views = joint(env, "observation_space")
        choices = joint(env, "action_space")
        if isinstance(views, Dict) and isinstance(choices, Dict):
            from cleanmarl.env.dicts import DictTeam

            return noted(DictTeam(env, env_name, views, choices, **team), env)
        several = isinstance(views, Tuple) and isinstance(choices, Tuple | MultiDiscrete)
        if not several or len(views) != len(choices):
            wanted = "a Tuple of observations and a Tuple of actions, one for each agent"
            given = f"{shown(views)} and {shown(choices)}"
            raise ValueError(f"QMIX needs {wanted}; {env_name} has {given}")
        return noted(GymnasiumTeam(env, env_name, views, choices, **team), env)


def noted(team: TeamEnv, env: gymnasium.Env) -> TeamEnv:
    """Add what a user should know of the environment."""
    own = own_limit(env)
    if own and team.time_limit and own < team.time_limit:
        known = f"the time limit is {team.time_limit}, but the environment's own is {own}"
        team.notes.append(f"{known}: if its episodes end there, add --time-limit {own}")
    if env.spec.id.startswith("Foraging"):
        team.notes.append("with --env-type lbf, foraging has masks and its true time limit")
        team.refuses_methods = False
    return team


def own_limit(env: gymnasium.Env) -> int | None:
    """The smallest limit within an environment: of a TimeLimit, or its own `max_steps`."""
    known = [getattr(env.unwrapped, "max_steps", None)]
    while isinstance(env, gymnasium.Wrapper):
        known.append(getattr(env, "_max_episode_steps", None))
        env = env.env
    return min((one for one in known if isinstance(one, int) and one > 0), default=None)


def is_name(spec: EnvSpec) -> bool:
    return isinstance(spec.entry_point, str)


def own_team(kind: type[TeamEnv], options: dict, **team) -> TeamEnv:
    """Open the user's own `TeamEnv`. Raises ValueError."""
    for name, instead in {"reset": "start(self, seed)", "step": "advance(self, actions)"}.items():
        if getattr(kind, name) is not getattr(TeamEnv, name):
            remedy = f"define {instead}, which TeamEnv's {name}() calls"
            raise ValueError(f"{kind.__name__} has a {name}() of its own: {remedy}")
    try:
        env = kind(**options, **team)
        env.check_attributes()
        return env
    except TypeError as error:
        if "multiple values for keyword argument 'time_limit'" in str(error):
            remedy = "register it with max_episode_steps, which comes in **team"
            raise ValueError(f"{kind.__name__} gives a time_limit of its own: {remedy}") from None
        name = unexpected(error, options | team)
        if name in options:
            known = list(inspect.signature(kind).parameters)
            raise ValueError(unknown(f"option of {kind.__name__}", name, known)) from None
        if name in team:
            form = "def __init__(self, **team): super().__init__(n_agents=..., **team)"
            raise ValueError(f"{kind.__name__} does not take {name}: write {form}") from None
        raise


def joint(env: gymnasium.Env, name: str) -> Space:
    """A space of all agents; a list of spaces is a Tuple, and a dict is a Dict."""
    given = getattr(env, name, None)
    if given is None:  # RLlib's environments have a dict by agent
        given = getattr(env.unwrapped, f"{name}s", None)
    if isinstance(given, list | tuple):
        given = Tuple([check_space(part, f"{name}[{i}]") for i, part in enumerate(given)])
    elif isinstance(given, dict):
        given = Dict({key: check_space(part, f"{name}[{key!r}]") for key, part in given.items()})
    return check_space(given, name)


def opened(env_name: str, options: dict, time_limit: int | None, render_mode: str | None) -> tuple:
    """An environment, and its time limit, if it is known. Raises ValueError.

    The limit is that with which it is registered, or its own, such as RWARE's `max_steps`.
    """
    if render_mode:
        options = options | {"render_mode": render_mode}
    spec = registered(env_name)
    limit = {"max_episode_steps": time_limit, "disable_env_checker": True}
    try:
        env = gymnasium.make(spec, **limit, **options)
    except gymnasium.error.Error as error:  # for example, a package is missing
        raise ValueError(f"cannot open {env_name}: {error}") from error
    except TypeError as error:
        if reason := refusal(error, env_name, spec, options):
            raise ValueError(reason) from None
        raise
    if isinstance(env.unwrapped, TeamEnv):
        raise ValueError(f"{env_name} is a TeamEnv: register the class, not what makes it")
    return env, spec.max_episode_steps or own_limit(env)


def refusal(error: TypeError, env_name: str, spec: EnvSpec, options: dict) -> str | None:
    """Why Gymnasium cannot make an environment; None if the environment's own code failed."""
    text = str(error)
    if "must inherit from the gymnasium.Env class" in text or "Gym is incompatible" in text:
        remedy = "derive it from gymnasium.Env or, like PyMARL's, from cleanmarl.env.TeamEnv; "
        remedy += "--env-type pz is for a PettingZoo environment"
        return f"{env_name} is no environment of Gymnasium: {remedy}"
    name = unexpected(error, options)
    if name in options:
        make = load_env_creator(spec.entry_point) if is_name(spec) else spec.entry_point
        known = list(inspect.signature(make).parameters)
        return unknown(f"option of {env_name}", name, known, "" if known else "it has none")
    # Gymnasium raises errors of its call again, with more words
    cause = error.__cause__ or error
    lacking = re.search(r"missing \d+ required .*?: (.*?) was raised", text)
    if lacking and raised_in(cause, "gymnasium.envs"):
        return f"{env_name} needs {lacking[1]}: give it by --env-options NAME=VALUE"
    return None


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

    unread_states = ("state", *PaddedTeam.unread_states)

    def __init__(self, env, title: str, views: Tuple, choices: Tuple | MultiDiscrete, **team):
        self._joint = type(choices)
        names = [f"agent {i}" for i in range(len(choices))]
        views = dict(zip(names, views, strict=True))
        choices = dict(zip(names, choices, strict=True))
        super().__init__(env, title, views, choices, **team)

    def start(self, seed: int) -> dict[str, np.ndarray]:
        self.begin()
        answer = called(self._env.reset, "reset(self, seed=None, options=None)", seed=seed)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise EnvFault(f"reset() must return observations and an info, got {shown(answer)}")
        dict_of(answer[1], "reset() must return observations and an info, and the info")
        observation = self.see(*answer)
        self.expect_masks()
        return observation

    def advance(self, actions: list[int]) -> tuple:
        spaces = self._choices.values()
        taken = [int(space.start) + a for space, a in zip(spaces, actions, strict=True)]
        taken = np.array(taken) if self._joint is MultiDiscrete else tuple(taken)
        seen, rewards, terminations, truncations, info = step(self._env, taken)
        if isinstance(rewards, Mapping | set | str) or rewards is None:
            self.listed(rewards, "the rewards")
        terminations = self.flags(terminations, "terminated")
        truncations = self.flags(truncations, "truncated")
        terminated = all(terminations)
        over = all(map(max, terminations, truncations))
        observation = self.see(seen, info, terminated)
        success = {}
        for name in ("is_success", "battle_won"):
            if info.get(name) is not None:
                success[name] = all(self.flags(info[name], name))
        return observation, rewards, terminated, over, success

    def listed(self, values, what: str) -> list:
        """Values of the agents, in order."""
        if not is_list(values) or len(values) != self.n_agents:
            wanted = f"must be a list with one entry for each of {self.n_agents} agents"
            raise EnvFault(f"{what} {wanted}, since the spaces are Tuples; got {shown(values)}")
        return list(values)

    def flags(self, given, what: str) -> list[bool]:
        """A bool for each agent; one bool, also in a list, is for all."""
        if isinstance(given, Mapping) or (is_list(given) and len(given) != 1):
            given = self.listed(given, what)
            return [flag_of(one, f"{what} of agent {i}") for i, one in enumerate(given)]
        return [flag_of(given, what)] * self.n_agents

    def see(self, seen, info, terminated: bool = False) -> dict[str, np.ndarray]:
        """The team's observation, from the answers of the environment."""
        seen = dict(zip(self._views, self.listed(seen, "the observations"), strict=True))
        masks = self.check_info(info, "the team").get(MASK)
        if masks is None:
            masks = [None] * self.n_agents
        masks = dict(zip(self._views, self.listed(masks, MASK), strict=True))
        return self.observe_agents(seen, masks, terminated=terminated)


def is_list(values) -> bool:
    return isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim > 0)


def step(env: gymnasium.Env, actions) -> tuple:
    """Step an environment that may return too few values."""
    wanted = "step() must return observations, rewards, terminated, truncated, info"
    try:
        answer = called(env.step, "step(self, actions)", actions)
    except (ValueError, TypeError) as error:  # of a wrapper of Gymnasium
        if "unpack" in str(error) and raised_in(error, "gymnasium.wrappers"):
            raise EnvFault(f"{wanted}: {error}") from None
        raise
    if not isinstance(answer, tuple | list) or len(answer) != 5:
        given = f"{len(answer)} values" if isinstance(answer, tuple | list) else shown(answer)
        raise EnvFault(f"{wanted}; got {given}")
    return tuple(answer)


def registered(env_name: str) -> EnvSpec:
    """The specification registered as "id"; for "module:id", import the module first.

    Raises ValueError if there is no such module or id.
    """
    module, _, name = env_name.rpartition(":")
    if module and module_here(module) is None:
        missing = f"there is no module {module!r}, neither installed nor in the working directory"
        if not module.replace(".", "").isidentifier():
            missing = f"{module!r} is no module: name it with letters, digits and _ only"
        raise ValueError(f"cannot open {env_name}: {missing}")
    known = gymnasium.registry
    hint = "write MODULE:ID, for example rware:rware-tiny-2ag-v2, where MODULE registers ID"
    if module and name not in known:
        package = module.partition(".")[0]
        known = {one: spec for one, spec in known.items() if comes_from(spec, package)}
        hint = f"{module} does not register it; perhaps a module inside it does"
    return find("Gymnasium environment", name, known, hint)


def comes_from(spec: EnvSpec, package: str) -> bool:
    """Whether an environment is made by a function or class of a package."""
    made_by = spec.entry_point
    module = made_by if isinstance(made_by, str) else getattr(made_by, "__module__", "")
    return f"{module}.".replace(":", ".").startswith(f"{package}.")
