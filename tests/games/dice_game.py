"""A game that is not deterministic: its rewards and its length are random and ignore the seed."""

import random

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class DiceGame(ParallelEnv):
    """Two agents observe three random numbers; an episode has one to six steps."""

    def __init__(self):
        self.metadata = {"name": "dice_game"}
        self.possible_agents = ["agent_1", "agent_2"]
        self.random = random.SystemRandom()

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (3,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(3)

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.agents = list(self.possible_agents)
        self.left = self.random.randint(1, 6)
        return self.everyone(self.observation()), self.everyone({})

    def step(self, actions: dict):
        self.left -= 1
        over = self.left == 0
        if over:
            self.agents = []
        rewards = self.everyone(self.random.random())
        ends = self.everyone(over), self.everyone(False)
        return self.everyone(self.observation()), rewards, *ends, self.everyone({})

    def observation(self) -> np.ndarray:
        return np.array([self.random.random() for _ in range(3)], np.float32)

    def everyone(self, value) -> dict:
        return dict.fromkeys(self.possible_agents, value)


def parallel_env() -> DiceGame:
    return DiceGame()
