"""A game whose observation grows with every episode, as counters and amounts of money do."""

import numpy as np
from gymnasium.spaces import Box

from tests.games.two_step_game import TwoStepGame


class GrowingGame(TwoStepGame):
    """The two-step game. Agents also observe offset + factor * (number of episodes)^2."""

    def __init__(self, offset: float = 0.0, factor: float = 1.0):
        super().__init__()
        self.offset, self.factor, self.num_episodes = offset, factor, 0

    def observation_space(self, agent: str) -> Box:
        return Box(-np.inf, np.inf, (4,), np.float32)

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.num_episodes += 1
        return super().reset(seed, options)

    def observation(self) -> np.ndarray:
        return np.append(
            super().observation(), np.float32(self.offset + self.factor * self.num_episodes**2)
        )


def parallel_env(**options) -> GrowingGame:
    return GrowingGame(**options)
