"""Three agents and three rooms: the first agent chooses the payoffs of the other two.

It is the two-step game with one more agent, unequal numbers of actions, masks that change, and a
time limit. The right room's payoffs are not a sum of one share per agent: the nearest sum in mean
square is 4.5, 8.5, 8.5 and 12.5.
"""

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

ROOMS = ("hall", "left", "right")
PAYOFFS = {"left": [[9, 9], [9, 9]], "right": [[6, 7], [7, 14]]}
NUM_ACTIONS = {"chooser": 3, "first": 2, "second": 4}
# The chooser acts in the hall, where it may stay; the others act in the rooms
HALL = {"chooser": [1, 1, 1], "first": [1, 0], "second": [1, 0, 0, 0]}
ROOM = {"chooser": [1, 0, 0], "first": [1, 1], "second": [0, 1, 0, 1]}
TIME_LIMIT = 5


class RoomsGame(ParallelEnv):
    """All agents observe the room."""

    def __init__(self):
        self.metadata = {"name": "rooms_game"}
        self.possible_agents = list(NUM_ACTIONS)

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (len(ROOMS),), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(NUM_ACTIONS[agent])

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.agents = list(self.possible_agents)
        self.room = "hall"
        self.num_steps = 0
        return self.everyone(self.observation()), self.infos()

    def step(self, actions: dict):
        over = self.room != "hall"
        payoff = 0
        if over:
            payoff = PAYOFFS[self.room][actions["first"]][actions["second"] // 2]
        else:
            self.room = ("left", "right", "hall")[actions["chooser"]]
        self.num_steps += 1
        truncated = not over and self.num_steps == TIME_LIMIT
        if over or truncated:
            self.agents = []
        rewards = self.everyone(payoff / len(NUM_ACTIONS))  # the team's reward is the sum
        ends = (self.everyone(over), self.everyone(truncated))
        return self.everyone(self.observation()), rewards, *ends, self.infos()

    def observation(self) -> np.ndarray:
        return np.eye(len(ROOMS), dtype=np.float32)[ROOMS.index(self.room)]

    def infos(self) -> dict:
        masks = HALL if self.room == "hall" else ROOM
        return {agent: {"action_mask": np.array(masks[agent], np.int8)} for agent in NUM_ACTIONS}

    def everyone(self, value) -> dict:
        return dict.fromkeys(self.possible_agents, value)


def parallel_env() -> RoomsGame:
    return RoomsGame()
