"""A Gymnasium environment of two agents, who succeed when they meet.

It is opened like your own: `--env-type gym --env-name tests.games.meeting:Meeting-v0`.
"""

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete, Tuple

LENGTH = 6
"""cells, in a row"""


class Meeting(gymnasium.Env):
    """Each agent stays, or moves one cell to the left or to the right.

    The first agent observes both places, the second only its own. No agent can leave the row. When
    they meet, each earns half a point.
    """

    def __init__(self):
        self.observation_space = Tuple((Box(0, LENGTH - 1, (2,), np.float32), Discrete(LENGTH)))
        self.action_space = Tuple((Discrete(3), Discrete(3, start=-1)))

    def reset(self, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.places = self.np_random.choice(LENGTH, 2, replace=False)
        return self.observation(), self.info()

    def step(self, actions: tuple[int, int]):
        self.places += (actions[0] - 1, actions[1])
        info = self.info()
        met = info["is_success"]
        return self.observation(), [0.5 * met, 0.5 * met], met, False, info

    def observation(self) -> tuple[np.ndarray, int]:
        return self.places.astype(np.float32), int(self.places[1])

    def info(self) -> dict:
        masks = [[place > 0, True, place < LENGTH - 1] for place in self.places]
        first, second = self.places
        return {"is_success": bool(first == second), "action_mask": masks}


gymnasium.register("Meeting-v0", Meeting, max_episode_steps=8)
