"""A game that needs memory.

A cue, shown only at the first step, decides which joint action is right at the last step.
"""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

LENGTH = 5
"""steps of an episode: the first shows the cue, the last takes the team's choice"""


class CueGame(ParallelEnv):
    """Each agent earns half a point if its action at the last step is right.

    The first agent's right action is the cue, the second's is the other one. Both see the cue (0 or
    1, one-hot) at the first step and, at all steps, the step's number (one-hot). Without a memory,
    no team earns more than half a point on average.
    """

    def __init__(self):
        self.metadata = {"name": "cue_game"}
        self.max_cycles = LENGTH
        self.possible_agents = ["agent_1", "agent_2"]

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (2 + LENGTH,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(2)

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.agents, self.steps = list(self.possible_agents), 0
        self.cue = int(np.random.default_rng(seed).integers(2))
        return self.everyone(self.observation()), self.everyone({})

    def step(self, actions: dict):
        self.steps += 1
        over = self.steps == LENGTH
        right = dict(zip(self.possible_agents, (self.cue, 1 - self.cue), strict=True))
        rewards = self.everyone(0.0)
        for agent in self.possible_agents:
            if over and actions[agent] == right[agent]:
                rewards[agent] = 0.5
        if over:
            self.agents = []
        observations = self.everyone(self.observation())
        return observations, rewards, self.everyone(over), self.everyone(False), self.everyone({})

    def observation(self) -> np.ndarray:
        cue = np.eye(2)[self.cue] if self.steps == 0 else np.zeros(2)
        return np.concatenate((cue, np.arange(LENGTH) == self.steps)).astype(np.float32)

    def everyone(self, value) -> dict:
        return dict.fromkeys(self.possible_agents, value)


def parallel_env() -> CueGame:
    return CueGame()
