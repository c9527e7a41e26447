"""The two-step game of Rashid et al. (2018), section 5.

The first action of the first agent decides the payoffs of the second step.
"""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

STATES = ("1", "2A", "2B")
PAYOFFS = {"2A": [[7, 7], [7, 7]], "2B": [[0, 1], [1, 8]]}


class TwoStepGame(ParallelEnv):
    """Agent 1's action leads from state 1 to 2A or 2B, whose matrix gives the team's reward.

    Both agents observe the state.
    """

    def __init__(self):
        self.metadata = {"name": "two_step_game"}
        self.max_cycles = 2
        self.possible_agents = ["agent_1", "agent_2"]

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (len(STATES),), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(2)

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.agents, self.state_name = list(self.possible_agents), "1"
        return self.everyone(self.observation()), self.everyone({})

    def step(self, actions: dict):
        first, second = (actions[agent] for agent in self.possible_agents)
        over = self.state_name != "1"
        if over:
            payoff, self.agents = PAYOFFS[self.state_name][first][second], []
        else:
            payoff, self.state_name = 0, ("2A", "2B")[first]
        share = payoff / len(self.possible_agents)  # the team's reward is the sum over its agents
        observations, rewards = self.everyone(self.observation()), self.everyone(share)
        return observations, rewards, self.everyone(over), self.everyone(False), self.everyone({})

    def observation(self) -> np.ndarray:
        return np.eye(len(STATES), dtype=np.float32)[STATES.index(self.state_name)]

    def everyone(self, value) -> dict:
        return dict.fromkeys(self.possible_agents, value)


def parallel_env() -> TwoStepGame:
    return TwoStepGame()
