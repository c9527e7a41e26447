"""The space of a team's joint actions."""

import numpy as np
from gymnasium.spaces import MultiDiscrete


class JointActions(MultiDiscrete):
    """Joint actions [n_agents]; `sample()` draws from the actions that are available now.

    Args:
        at_start: [n_agents, n_actions], not 0 where an action is available before the first reset.
            The environment sets `available` at every step
    """

    def __init__(self, at_start: np.ndarray):
        n_agents, n_actions = at_start.shape
        super().__init__([n_actions] * n_agents)
        self.at_start = at_start
        self.available = at_start

    def seed(self, seed: int | None = None):
        self.available = self.at_start  # samples after a seed do not depend on earlier steps
        return super().seed(seed)

    def sample(self, mask=None, probability=None) -> np.ndarray:
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        available = self.available
        choices = [self.np_random.choice(np.flatnonzero(row)) for row in available]
        self.available = available  # Gymnasium calls `seed` at the first draw
        return np.array(choices)
