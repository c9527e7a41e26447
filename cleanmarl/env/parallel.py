"""A team in an environment with PettingZoo's parallel interface."""

from collections.abc import Mapping

import numpy as np
from gymnasium.spaces import Space
from pettingzoo import ParallelEnv
from pettingzoo.utils.env import AECEnv

from cleanmarl.env.padded import MASK, PaddedTeam, is_like_mask
from cleanmarl.env.values import array_of, dict_of, flag_of, shown
from cleanmarl.errors import EnvFault

MOST_STATE = 100_000  # numbers; a mixer's first layers have some hundred weights for each


class ParallelTeam(PaddedTeam):
    """A `pettingzoo.ParallelEnv` as one team.

    An agent that has left gets no action and no reward. An episode is over when no agent is left:
    truncated if one of the last agents was truncated, else terminated. In an agent's info,
    `action_mask` gives its available actions, unless its observation has it. `is_success` and
    `battle_won` say whether the agent has succeeded; the team succeeds if all agents that report
    it succeed. The environment's own `state()` is the state.
    """

    def __init__(self, env: ParallelEnv, title: str, *, env_state: bool = True, **team):
        agents = agents_of(env)
        views = {agent: space_of(env, "observation_space", agent) for agent in agents}
        choices = {agent: space_of(env, "action_space", agent) for agent in agents}
        state = example_state(env) if env_state else None
        notes = []
        if state is not None and state.size > MOST_STATE:
            what = f"the environment's own state has {state.size:,} numbers, too many for a mixer"
            notes = [f"{what}: the state is the agents' observations"]
            state = None
        self._state_shape = None if state is None else state.shape
        if state is not None:
            team["state_size"] = state.size
            if state.dtype == np.uint8:
                team["state_dtype"] = np.uint8
        super().__init__(env, title, views, choices, **team)
        self.notes += notes

    def start(self, seed: int) -> dict[str, np.ndarray]:
        self.begin()
        self._success: dict[str, dict] = {"is_success": {}, "battle_won": {}}
        answer = self._env.reset(seed=seed)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            remedy = "return observations, {agent: {} for agent in self.agents}"
            raise EnvFault(f"reset() must return observations and infos, got {shown(answer)}: {remedy}")
        observations, infos = map(dict_of, answer, ("the observations of reset()", "its infos"))
        self._present = self.living()
        if not self._present:
            raise EnvFault("no agent is there after reset(): set self.agents")
        observation = self.see(observations, infos)
        self.expect_masks()
        return observation

    def advance(self, actions: list[int]) -> tuple:
        acting = self._present
        taken = {}
        for (agent, space), action in zip(self._choices.items(), actions, strict=True):
            if agent in acting:
                taken[agent] = int(space.start) + action
        answer = self._env.step(taken)
        if not isinstance(answer, tuple | list) or len(answer) != 5:
            wanted = "observations, rewards, terminations, truncations, infos"
            raise EnvFault(f"step() must return {wanted}, got {number_of_values(answer)}")
        observations, rewards, terminations, truncations, infos = answer
        dict_of(observations, "the observations of step()")
        ended = flags(terminations, acting, "terminations")
        cut_off = flags(truncations, acting, "truncations")
        living = self.living()
        staying = [a for a in living if not (ended.get(a) or cut_off.get(a))]
        cut = [a for a in acting if cut_off.get(a) and not ended.get(a)]
        # At the end, truncated agents are shown as if they still played: the learner
        # bootstraps from them.
        self._present = staying or cut or acting
        terminated = not (staying or cut)
        truncated = bool(cut and not staying)
        if terminated:
            self._present = [a for a in acting if a in observations]
        earned = self.earned(rewards, acting)
        observation = self.see(observations, infos, terminated, truncated)
        return observation, earned, terminated, truncated, self.success(infos)

    def living(self) -> list:
        """The agents that are there, which must have been announced."""
        living = list(self._env.agents)
        for agent in living:
            if agent not in self._choices:
                known = ", ".join(self.agent_names)
                raise EnvFault(f"agent {agent!r} is not among the possible agents {known}")
        return living

    def earned(self, rewards, acting: list):
        """The rewards of those who acted, or the team's."""
        if not isinstance(rewards, Mapping):
            return rewards
        for agent in acting:
            if agent not in rewards:
                remedy = "rewards must have all agents that acted, also those that end here"
                raise EnvFault(f"{agent} has acted, but gets no reward: {remedy}")
        return [rewards[agent] if agent in acting else 0.0 for agent in self._choices]

    def success(self, infos: Mapping) -> dict[str, bool]:
        """What the agents have reported so far in this episode."""
        for name, reports in self._success.items():
            for agent, info in infos.items():
                if agent in self._choices and isinstance(info, Mapping) and name in info:
                    reports[agent] = flag_of(info[name], f"{agent}'s {name}")
        return {name: all(of.values()) for name, of in self._success.items() if of}

    def see(self, observations, infos, terminated=False, truncated=False) -> dict:
        seen, masks = {}, {}
        for name in dict_of(infos, "infos").keys() - self._choices.keys():
            if name == MASK or is_like_mask(name, infos[name]):
                raise EnvFault(f"infos has {name!r}, but each agent's info needs its own {MASK!r}")
        for agent in self._present:
            if agent not in observations:
                raise EnvFault(missing(agent, truncated))
            seen[agent] = observations[agent]
            masks[agent] = self.check_info(infos.get(agent, {}), agent).get(MASK)
        state = None
        if self._state_shape is not None:
            state = array_of(self._env.state(), "state()")
            if state.shape != self._state_shape:
                raise EnvFault(f"state() has shape {state.shape}, but {self._state_shape} before")
            state = state.ravel()
        return self.observe_agents(seen, masks, state, terminated)


def missing(agent, truncated: bool) -> str:
    if truncated:
        why = "the learner bootstraps from it, so build the observations before self.agents = []"
        return f"{agent} has no observation at the time limit: {why}"
    why = "all agents that have not ended act and observe at every step"
    return f"{agent} has no observation, but it has not ended: {why}"


def number_of_values(answer) -> str:
    if isinstance(answer, tuple | list):
        return f"{len(answer)} values (terminations and truncations are two dicts)"
    return shown(answer)


def flags(given, acting: list, what: str) -> dict:
    """Whether each agent is terminated, or truncated."""
    dict_of(given, what)
    return {a: flag_of(given[a], f"{a}'s entry in {what}") for a in acting if a in given}


def agents_of(env: ParallelEnv) -> list:
    """All agents that there can be; some environments know them only after a reset."""
    if not getattr(env, "possible_agents", None):
        env.reset(seed=0)
    agents = getattr(env, "possible_agents", None) or getattr(env, "agents", None)
    if not agents:
        raise ValueError("the environment has no agents: set possible_agents")
    return list(agents)


def space_of(env: ParallelEnv, name: str, agent) -> Space:
    """An agent's space, given by a method, by a dict, or as one space for all."""
    given = getattr(env, name)
    if isinstance(given, Space) and not isinstance(given, Mapping):
        return given
    if getattr(given, "__func__", None) is getattr(ParallelEnv, name):
        given = getattr(env, f"{name}s", {})  # the method is not overridden
    if not isinstance(given, Mapping):
        return given(agent)
    if agent not in given:
        raise ValueError(f"{agent} has no {name}: define {name}(agent)")
    return given[agent]


def example_state(env: ParallelEnv) -> np.ndarray | None:
    """A state like those that the environment gives; None if it has none."""
    kind = type(env.unwrapped)
    if getattr(kind, "state", None) in (None, ParallelEnv.state, AECEnv.state):
        return None
    space = getattr(env, "state_space", None)
    if getattr(space, "shape", None):
        return np.zeros(space.shape, space.dtype)
    env.reset(seed=0)
    try:
        return array_of(env.state(), "state()")
    except NotImplementedError:
        return None
