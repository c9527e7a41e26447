"""The space of joint actions; it knows which actions are available."""

import numpy as np
from gymnasium import spaces


class AvailableActions(spaces.MultiDiscrete):
    """Joint actions [..., n_agents]; `sample()` draws from the actions available now.

    Args:
        available: [..., n_agents, n_actions], not 0 where an action is available. The environment
            updates it at every step, and `at_start` at every reset
    """

    def __init__(self, available: np.ndarray):
        super().__init__(np.full(available.shape[:-1], available.shape[-1]))
        self.at_start = self.available = available

    def seed(self, seed: int | None = None):
        # Samples after a seed must not depend on earlier steps.
        self.available = self.at_start
        return super().seed(seed)

    def sample(self, mask=None, probability=None) -> np.ndarray:
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        available = self.available
        scores = 1 - self.np_random.random(available.shape)
        self.available = available  # undo `seed`, which Gymnasium calls at the first draw
        return np.where(available, scores, 0).argmax(-1)
