"""The space of joint actions, of which not all are available at all times."""

import numpy as np
from gymnasium import spaces


class AvailableActions(spaces.MultiDiscrete):
    """Joint actions [..., n_agents]; a plain `sample()` draws among those available now.

    Args:
        available: [..., n_agents, n_actions], not 0 where an action is available; the environment
            keeps it up to date, and `at_start`, those at the last reset
    """

    def __init__(self, available: np.ndarray):
        super().__init__(np.full(available.shape[:-1], available.shape[-1]))
        self.at_start = self.available = available

    def seed(self, seed: int | None = None):
        # Until the next observation: what a seed gives must not depend on the past.
        self.available = self.at_start
        return super().seed(seed)

    def sample(self, mask=None, probability=None) -> np.ndarray:
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        available = self.available
        scores = 1 - self.np_random.random(available.shape)
        self.available = available  # Gymnasium seeds a space where it first draws
        return np.where(available, scores, 0).argmax(-1)
