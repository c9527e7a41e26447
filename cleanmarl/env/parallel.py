"""A team in an environment with PettingZoo's parallel interface."""

from collections.abc import Iterable, Iterator, Mapping, Set
from inspect import getattr_static

import numpy as np
from gymnasium.spaces import Space, flatdim
from pettingzoo import AECEnv, ParallelEnv

from cleanmarl.env.masks import MASK, refuse_elsewhere
from cleanmarl.env.names import called
from cleanmarl.env.padded import PaddedTeam
from cleanmarl.env.team import numbers
from cleanmarl.env.values import (
    DICT,
    array_of,
    check_space,
    dict_of,
    flag_of,
    shown,
    vector_of,
)
from cleanmarl.errors import EnvFault

EVERYONE = "__all__"  # RLlib's key for the whole team
MOST_STATE = 100_000  # numbers; a mixer's first layers have some hundred weights for each
NO_STATE = "or do without it by --no-env-state"


class ParallelTeam(PaddedTeam):
    """A `pettingzoo.ParallelEnv` as one team.

    An agent that has left gets no action; it needs no reward, but one that it gets counts. An
    episode is over when no agent is left: truncated if one of the last agents was truncated, else
    terminated. In an agent's info, `action_mask` gives its available actions, unless its
    observation has it. `is_success` and `battle_won` say whether the agent has succeeded; the team
    succeeds if all agents that report it succeed. The environment's own `state()` is the state.
    """

    # What to do if an observation is missing, at the time limit or before
    remedy_at_limit = "the learner may bootstrap from it; make it before self.agents = []"
    remedy_before = "all agents in self.agents observe and act at every step"

    def __init__(self, env: ParallelEnv, title: str, *, env_state: bool = True, **team):
        agents = agents_of(env)
        views = {agent: space_of(env, "observation_space", agent) for agent in agents}
        choices = {agent: space_of(env, "action_space", agent) for agent in agents}
        self._state_space = state_space_of(env) if env_state else None
        notes = []
        size = 0 if self._state_space is None else flatdim(self._state_space)
        if size > MOST_STATE and size > sum(map(flatdim, views.values())):
            what = f"the environment's own state has {size:,} numbers, too many for a mixer"
            notes = [f"{what}: the state is the agents' observations"]
            self._state_space = None
        elif env_state and not state_is_method(env):
            notes = ["`state` is no method of the environment: the state is the observations"]
        team |= {"state_space": self._state_space, "env_state": env_state}
        super().__init__(env, title, views, choices, **team)
        self.notes += notes

    def start(self, seed: int) -> dict[str, np.ndarray]:
        self.begin()
        self._success: dict[str, dict] = {"is_success": {}, "battle_won": {}}
        self._present = list(self._choices)  # until `living` says who is there
        answer = reset(self._env, seed)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            wanted = "observations and infos, for example {agent: {} for agent in self.agents}"
            raise EnvFault(f"reset() must return {wanted}, got {shown(answer)}")
        self._present = self.living()
        if not self._present:
            raise EnvFault("no agent is there after reset(): set self.agents")
        self.refuse_lost_agents()
        observation = self.see(*answer)
        self.expect_masks()
        return observation

    def advance(self, actions: list[int]) -> tuple:
        acting = self._present
        taken = {}
        for (agent, space), action in zip(self._choices.items(), actions, strict=True):
            if agent in acting:
                taken[agent] = int(space.start) + action
        answer = called(self._env.step, "step(self, actions)", taken)
        if not isinstance(answer, tuple | list) or len(answer) != 5:
            wanted = "observations, rewards, terminations, truncations, infos"
            raise EnvFault(f"step() must return {wanted}, got {number_of_values(answer)}")
        observations, rewards, terminations, truncations, infos = answer
        earned = self.earned(rewards, acting)
        ended, cut_off = self.ends(terminations, truncations)
        staying = [a for a in self.living() if a not in ended and a not in cut_off]
        cut = [a for a in acting if a in cut_off and a not in ended]
        terminated = not staying and not cut
        if terminated and ended.isdisjoint(acting):
            last = f"no agent is left, but {self._names[acting[0]]} is not terminated or truncated"
            raise EnvFault(f"{last}: make both dicts before self.agents = []")
        # At the end, truncated agents are shown as if they still played: the learner
        # bootstraps from them.
        self._present = staying or cut
        if terminated:
            dict_of(observations, "the observations of step()")
            self._present = [a for a in acting if observations.get(a) is not None]
        truncated = not terminated and not staying
        observation = self.see(observations, infos, terminated, truncated)
        return observation, earned, terminated, truncated, self.success(infos)

    def living(self) -> list:
        """The agents that are there, which must have been announced."""
        living = listed(getattr(self._env, "agents", None), "self.agents")
        self.refuse_strangers(set(living), "self.agents")
        return living

    def refuse_lost_agents(self):
        """Refuse agents that were taken out of `possible_agents` along with `agents`."""
        known = getattr(self._env, "possible_agents", None)
        lost = [agent for agent in self._choices if agent not in self._present]
        if lost and known is not None and known is getattr(self._env, "agents", None):
            remedy = "write self.agents = list(self.possible_agents)"
            raise EnvFault(f"possible_agents has lost {lost[0]!r}: in reset(), {remedy}")

    def refuse_strangers(self, agents: Set, where: str):
        """Refuse what is no agent: its entries would be ignored."""
        if agents <= self._choices.keys():
            return
        stranger = min(map(repr, agents - self._choices.keys()))
        known = ", ".join(map(repr, self._choices))
        remedy = f"possible_agents has only {known}"
        raise EnvFault(f"{where} has {stranger}, which is no agent: {remedy}")

    def earned(self, rewards, acting: list):
        """What each agent has earned, or the team's reward."""
        if not isinstance(rewards, DICT):
            return rewards
        self.refuse_strangers(rewards.keys(), "the dict of rewards")
        for agent in acting:
            if agent not in rewards and not hasattr(rewards, "default_factory"):
                remedy = "all that acted need one, so make the dicts before self.agents = []"
                raise EnvFault(f"{self._names[agent]} has acted, but has no reward: {remedy}")
        some = {*acting, *rewards}
        return [rewards[agent] if agent in some else 0.0 for agent in self._choices]

    def ends(self, terminations, truncations) -> tuple[set, set]:
        """The agents that are terminated, and those that are truncated."""
        ended = self.flagged(terminations, "terminations")
        cut_off = self.flagged(truncations, "truncations")
        if EVERYONE in ended:  # an agent's own entry says more
            ended = self._choices.keys() - cut_off
        if EVERYONE in cut_off:
            cut_off = set(self._choices)
        return ended, cut_off

    def flagged(self, given, what: str) -> set:
        """The agents whose flag is True; a bool counts for all agents."""
        if not isinstance(given, DICT):
            return set(self._choices) if flag_of(given, what) else set()
        self.refuse_strangers(given.keys() - {EVERYONE}, what)
        flagged = set()
        for agent, flag in given.items():
            if flag is not False and flag_of(flag, f"{what}[{agent!r}]"):
                flagged.add(agent)
        return flagged

    def success(self, infos: Mapping) -> dict[str, bool]:
        """What the agents have reported so far in this episode."""
        for agent, info in infos.items():
            if not info or agent not in self._choices or not isinstance(info, DICT):
                continue
            for name, reports in self._success.items():
                if info.get(name) is not None:
                    reports[agent] = flag_of(info[name], f"{name} of {self._names[agent]}")
        return {name: all(of.values()) for name, of in self._success.items() if of}

    def see(self, observations, infos, terminated=False, truncated=False) -> dict:
        """The team's observation, from the answers of the environment."""
        dict_of(observations, "observations", "give each agent its own")
        dict_of(infos, "infos")
        if not infos.keys() <= self._choices.keys():
            self.refuse_shared(infos)
        seen, masks = {}, {}
        for agent in self._present:
            if observations.get(agent) is None:
                raise EnvFault(self.missing(agent, truncated))
            seen[agent] = observations[agent]
            masks[agent] = self.check_info(infos.get(agent, {}), self._names[agent]).get(MASK)
        state = None
        if self._state_space is not None:
            state = self.own_state(terminated)
        return self.observe_agents(seen, masks, state, terminated)

    def refuse_shared(self, infos: Mapping):
        """Refuse entries of `infos` that would be read in an agent's info only."""
        for name in infos.keys() - self._choices.keys():
            if name in (MASK, *self._success):
                raise EnvFault(f"infos has {name!r}, but each agent's info needs its own")
            refuse_elsewhere({name: infos[name]}, "infos")

    def missing(self, agent, truncated: bool) -> str:
        when = "at the time limit" if truncated else "though it has not ended"
        remedy = self.remedy_at_limit if truncated else self.remedy_before
        return f"{self._names[agent]} has no observation {when}: {remedy}"

    def own_state(self, terminated: bool) -> np.ndarray:
        """The environment's own state, flattened."""
        nothing = np.zeros(self._state_shape)  # the task has ended, so it does not matter
        try:
            state = self._env.state()
        except Exception as error:
            if self.living():
                raise
            if terminated:  # made from the agents that are left
                return nothing
            wanted = f"make it from possible_agents, {NO_STATE}"
            raise EnvFault(f"state() fails when no agent is left ({error}): {wanted}") from None
        if terminated and np.size(state) == 0:
            return nothing
        try:
            return vector_of(self._state_space, state, "state()")
        except EnvFault as fault:
            raise EnvFault(f"{fault}, {NO_STATE}") from None


def reset(env, seed: int):
    return called(env.reset, "reset(self, seed=None, options=None)", seed=seed)


def number_of_values(answer) -> str:
    if isinstance(answer, tuple | list):
        return f"{len(answer)} values (terminations and truncations are two dicts)"
    return shown(answer)


def listed(agents, what: str) -> list:
    """Agents in their order; none if they are None."""
    if isinstance(agents, str | set | frozenset) or not isinstance(agents, Iterable | None):
        raise EnvFault(f"{what} must be a list of agents, got {shown(agents)}")
    return [] if agents is None else list(agents)


def agents_of(env: ParallelEnv) -> list:
    """All agents that there can be; some environments know them only after a reset."""
    agents = announced(env)
    if not agents:
        reset(env, seed=0)
        agents = announced(env) or listed(getattr(env, "agents", None), "self.agents")
    if not agents:
        raise EnvFault("the environment has no agents: set possible_agents")
    if len(set(agents)) < len(agents):
        raise EnvFault(f"possible_agents has an agent twice: {shown(agents)}")
    return agents


def announced(env: ParallelEnv) -> list:
    """`possible_agents`, of the environment or of what it wraps; none if they are not known yet."""
    for layer in (env, env.unwrapped):
        if agents := listed(getattr(layer, "possible_agents", None), "possible_agents"):
            return agents
    return []


def space_of(env: ParallelEnv, name: str, agent) -> Space:
    """An agent's space, given by a method, by a dict, or as one space for all."""
    given = getattr(env, name)
    if getattr(given, "__func__", None) is getattr(ParallelEnv, name):
        given = getattr(env, f"{name}s", {})  # the method is not overridden
    if isinstance(given, Mapping) and agent in list(given):
        return given[agent]
    if isinstance(given, Space):
        return given
    if not callable(given):
        raise EnvFault(f"{agent!r} has no {name}: define {name}(self, agent)")
    return called(given, f"{name}(self, agent)", agent)


def layers(env) -> Iterator:
    """An environment, and the environments that wrappers of PettingZoo wrap."""
    while isinstance(env, ParallelEnv | AECEnv):
        yield env
        inside = vars(env)
        env = inside.get("env", inside.get("aec_env"))


def has_state(env: ParallelEnv) -> bool:
    """Whether an environment, or a wrapper of it, defines PettingZoo's `state()`."""
    if not state_is_method(env):
        return False
    methods = [type(layer).state for layer in layers(env)]
    return any(not method.__module__.startswith("pettingzoo.utils") for method in methods)


def state_is_method(env: ParallelEnv) -> bool:
    """Whether `state` is a method, and not a value that is the user's own."""
    # Not by getattr, which would call a property
    return all(callable(getattr_static(layer, "state")) for layer in layers(env))


def state_space_of(env: ParallelEnv) -> Space | None:
    """The space of the environment's own states; None if it has none."""
    if not has_state(env):
        return None
    space = getattr(env, "state_space", None)
    if isinstance(space, Space):
        return check_space(space, "state_space")
    reset(env, seed=0)
    try:
        state = env.state()
    except NotImplementedError:
        return None
    if state is None:
        return None
    example = array_of(state, "state()", f"an array of numbers, {NO_STATE}")
    dtype = np.uint8 if example.dtype == np.uint8 else np.float32
    return numbers(dtype, example.shape)
