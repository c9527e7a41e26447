"""Gymnasium environments whose spaces are Dicts by agent."""

from collections.abc import Mapping

import gymnasium
from gymnasium.spaces import Dict
from pettingzoo import ParallelEnv

from cleanmarl.env.gyms import step
from cleanmarl.env.parallel import ParallelTeam
from cleanmarl.errors import EnvFault


class DictTeam(ParallelTeam):
    """A Gymnasium environment whose spaces, observations and actions are dicts by agent.

    Rewards are a dict or one number for the team; `terminated` and `truncated` are dicts, also
    with the key `__all__`, or bools. `info` has a dict for each agent, or `action_mask` and
    `is_success` of all.
    """

    unread_states = ("state", *ParallelTeam.unread_states)
    sorts_agents = True
    remedy_at_limit = "return one at the time limit, too, or end a step earlier by --time-limit"
    remedy_before = "each agent observes at every step until it ends: give zeros to those that wait"

    def __init__(self, env: gymnasium.Env, title: str, views: Dict, choices: Dict, **team):
        if views.keys() != choices.keys():
            given = f"{list(views)} observe and {list(choices)} act"
            raise ValueError(f"both spaces of {title} need the same agents, but {given}")
        super().__init__(DictEnv(env, views, choices), title, **team)

    def living(self) -> list:
        """The agents that have not ended."""
        return self._present

    def ends(self, terminations, truncations) -> tuple[set, set]:
        """Also refuse an agent that has ended and goes on."""
        for agent in self._choices.keys() - self._present:
            if isinstance(terminations, Mapping) and terminations.get(agent) is False:
                contradiction = f"{self._names[agent]} has ended, but is not terminated now"
                raise EnvFault(f"{contradiction}: keep its flag True until the reset")
        return super().ends(terminations, truncations)


class DictEnv(ParallelEnv):
    """Such an environment with PettingZoo's interface, except `agents`."""

    def __init__(self, env: gymnasium.Env, views: Dict, choices: Dict):
        self.env = env
        self.metadata = env.metadata
        self.observation_spaces = views
        self.action_spaces = choices
        self.possible_agents = list(choices)

    @property
    def unwrapped(self):
        return self.env.unwrapped

    def reset(self, seed=None, options=None):
        answer = self.env.reset(seed=seed, options=options)
        if isinstance(answer, tuple) and len(answer) == 2:
            return answer[0], self.infos(answer[1])
        return answer  # the team says what is wrong

    def step(self, actions):
        *answer, info = step(self.env, actions)
        return *answer, self.infos(info)

    def infos(self, info):
        """Infos by agent. What is for all agents is for each, unless it is a dict by agent."""
        if not isinstance(info, Mapping):
            return info  # the team says what is wrong
        infos = {agent: info.get(agent, {}) for agent in self.possible_agents}
        for name in info.keys() - infos.keys():
            value = info[name]
            by_agent = isinstance(value, Mapping) and not infos.keys().isdisjoint(value)
            given = value if by_agent else dict.fromkeys(infos, value)
            for agent in infos.keys() & given.keys():
                if isinstance(infos[agent], Mapping):
                    infos[agent] = {name: given[agent]} | infos[agent]
        return infos

    def render(self):
        return self.env.render()

    def close(self):
        self.env.close()
