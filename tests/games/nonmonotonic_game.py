"""A one-step game that no monotonic mixer can represent.

The best action of each agent depends on what the other one does.
"""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

PAYOFFS = [[5, 20], [20, 5]]


class NonmonotonicGame(ParallelEnv):
    """Two agents, who observe nothing, earn more if their actions differ."""

    def __init__(self):
        self.metadata = {"name": "nonmonotonic_game"}
        self.possible_agents = ["agent_1", "agent_2"]

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (1,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(2)

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.agents = list(self.possible_agents)
        return self.everyone(np.ones(1, np.float32)), self.everyone({})

    def step(self, actions: dict):
        first, second = (actions[agent] for agent in self.possible_agents)
        # The team's reward is the sum over its agents.
        share = PAYOFFS[first][second] / len(self.possible_agents)
        self.agents = []
        observations, rewards = self.everyone(np.ones(1, np.float32)), self.everyone(share)
        return observations, rewards, self.everyone(True), self.everyone(False), self.everyone({})

    def everyone(self, value) -> dict:
        return dict.fromkeys(self.possible_agents, value)


def parallel_env() -> NonmonotonicGame:
    return NonmonotonicGame()
