"""Gymnasium environments whose spaces are Dicts by agent."""

from collections.abc import Mapping

import gymnasium
from pettingzoo import ParallelEnv

from cleanmarl.env.gyms import step
from cleanmarl.env.parallel import ParallelTeam
from cleanmarl.errors import EnvFault

EVERYONE = "__all__"  # RLlib's key for the whole team


class DictTeam(ParallelTeam):
    """A Gymnasium environment whose spaces, observations and actions are dicts by agent.

    Rewards are a dict or one number for the team; `terminated` and `truncated` are dicts, also
    with the key `__all__`, or bools. `info` has a dict for each agent, or `action_mask` and
    `is_success` of all.
    """

    def __init__(self, env: gymnasium.Env, title: str, **team):
        views, choices = env.observation_space, env.action_space
        if views.keys() != choices.keys():
            given = f"{sorted(views)} observe and {sorted(choices)} act"
            raise ValueError(f"both spaces of {title} need the same agents, but {given}")
        super().__init__(DictEnv(env), title, **team)


class DictEnv(ParallelEnv):
    """Such an environment with PettingZoo's interface."""

    def __init__(self, env: gymnasium.Env):
        self.env = env
        self.metadata = env.metadata
        self.observation_spaces = env.observation_space
        self.action_spaces = env.action_space
        self.possible_agents = list(env.action_space)

    @property
    def unwrapped(self):
        return self.env.unwrapped

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        answer = self.env.reset(seed=seed, options=options)
        if not isinstance(answer, tuple) or len(answer) != 2:
            return answer  # the team says what is wrong
        observations, info = answer
        return observations, self.infos(info)

    def step(self, actions):
        observations, rewards, terminations, truncations, info = step(self.env, actions)
        terminations, truncations = self.each(terminations), self.each(truncations)
        infos = self.infos(info)
        ended = [a for a in self.agents if terminations.get(a) or truncations.get(a)]
        self.agents = [a for a in self.agents if a not in ended]
        return observations, rewards, terminations, truncations, infos

    def each(self, flags) -> Mapping:
        """Flags of all agents; the team's count for everyone."""
        if not isinstance(flags, Mapping):
            return dict.fromkeys(self.agents, flags)
        everyone = flags.get(EVERYONE, False)
        return {agent: flags.get(agent, False) or everyone for agent in self.agents}

    def infos(self, info) -> dict:
        """Infos by agent."""
        if not isinstance(info, Mapping):
            raise EnvFault(f"info must be a dict, got {info!r}; {{}} is enough")
        shared = {name: info[name] for name in info.keys() - set(self.possible_agents)}
        infos = {}
        for agent in self.possible_agents:
            infos[agent] = dict(info.get(agent) or {})
            for name, value in shared.items():
                by_agent = isinstance(value, Mapping) and agent in value
                infos[agent].setdefault(name, value[agent] if by_agent else value)
        return infos

    def render(self):
        return self.env.render()

    def close(self):
        self.env.close()
