"""One agent chooses a room, and the room's payoff table decides what the team earns.

The episode begins in the hall, where only the agent that chooses matters. In a room, each player
takes one action, and the episode ends. By default, there are three agents: the chooser and two
players. With `chooser=false`, the first player chooses, too, as in the two-step game of Rashid et
al. (2018).

QMIX's mixer is a convex function of the agents' values, because its weights are not negative and
ELU is convex. So it can learn payoffs such as 6, 7, 7, 14, where two better actions together add at
least as much as both alone (8 >= 1 + 1), but not 6, 13, 13, 14. VDN can learn neither.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from cleanmarl.benchmark.games.matrix_game import payoff_table

ROOMS = (((9, 9), (9, 9)), ((6, 7), (7, 14)))
TIME_LIMIT = 5


class RoomsGame(ParallelEnv):
    """All agents observe where they are: in the hall, or in which room.

    Args:
        rooms: the payoffs, [rooms, actions of player 1, actions of player 2, ...]
        chooser: one more agent chooses the room; otherwise the first player does
        wait: who chooses may also stay in the hall, by one more action
        masks: actions that make no difference are not available, except one where there are no
            others; otherwise all are always available, and one beyond the last that makes a
            difference counts as that one
        gaps: each action of the last player has so many more before it; they are masked, or count
            as that action
        max_cycles: steps of an episode at most
    """

    def __init__(
        self,
        rooms: Sequence = ROOMS,
        chooser: bool = True,
        wait: bool = True,
        masks: bool = True,
        gaps: int = 1,
        max_cycles: int = TIME_LIMIT,
    ):
        self.metadata = {"name": "rooms_game"}
        self.payoffs = payoff_table(rooms)
        if self.payoffs.ndim < 2:
            example = "[[[9,9],[9,9]],[[6,7],[7,14]]]"
            raise ValueError(f"rooms must be a list of payoff tables, as {example}, got {rooms}")
        if gaps < 0:
            raise ValueError(f"gaps must be at least 0, got {gaps}")
        if max_cycles < 2:
            raise ValueError(f"max_cycles must be at least 2 steps, got {max_cycles}")
        num_rooms, *played = self.payoffs.shape
        self.wait = wait
        self.masks = masks
        self.max_cycles = max_cycles
        self.states = ["hall", *(f"room {number + 1}" for number in range(num_rooms))]
        players = [f"player_{number + 1}" for number in range(len(played))]
        self.possible_agents = ["chooser", *players] if chooser else players
        others = len(self.possible_agents) - 1
        # How many choices each agent has in the hall and in a room
        self.in_hall = [num_rooms + wait] + [1] * others  # [n_agents]
        self.in_room = [1, *played] if chooser else played  # [n_agents]
        self.width = [1] * others + [gaps + 1]  # actions for a choice, [n_agents]
        most = np.maximum(self.in_hall, self.in_room)
        self.num_actions = (most * self.width).tolist()  # [n_agents]
        self.available = {state: self.mask_in(state) for state in self.states}

    @property
    def optimum(self) -> float:
        """The highest return of an episode."""
        best = float(self.payoffs.max())
        return max(best, 0.0) if self.wait else best

    def exact_values(self, gamma: float) -> dict[str, np.ndarray]:
        """State -> values of the joint actions if the best ones follow, [actions of agent 1, ...].

        Joint actions that are not available are NaN. Those in the hall are values of the first
        step: two steps before the time limit, one can still wait and then enter the best room.
        """
        best = self.payoffs.reshape(len(self.payoffs), -1).max(-1)  # [rooms]
        waits = max(gamma**2 * best.max(), 0.0)  # until the time limit, if no room pays
        later = [*(gamma * best), waits]
        values = {state: np.full(self.num_actions, np.nan) for state in self.states}
        for state, of_state in values.items():
            masks = self.available[state]
            for joint in product(*(mask.nonzero()[0] for mask in masks)):
                choices = self.choices(state, joint)
                in_hall = state == "hall"
                of_state[joint] = later[choices[0]] if in_hall else self.payoff(state, choices)
        return values

    def way_to(self, state: str) -> list[tuple[int, ...]]:
        """The joint actions that lead from the first step to a state."""
        if state == "hall":
            return []
        number = self.states.index(state) - 1
        actions = [mask.nonzero()[0] for mask in self.available["hall"]]
        others = [int(available[0]) for available in actions[1:]]
        chosen = [int(one) for one in actions[0] if one // self.width[0] == number]
        return [(chosen[0], *others)]

    def payoff(self, room: str, choices: list[int]) -> float:
        players = choices[len(choices) - self.payoffs.ndim + 1 :]
        return float(self.payoffs[(self.states.index(room) - 1, *players)])

    def choices(self, state: str, actions: Sequence[int]) -> list[int]:
        """The choice that each agent's action counts as."""
        limits = self.in_hall if state == "hall" else self.in_room
        agents = zip(actions, self.width, limits, strict=True)
        return [min(action // width, limit - 1) for action, width, limit in agents]

    def mask_in(self, state: str) -> list[np.ndarray]:
        """The mask of each agent, int8 [its actions]."""
        limits = self.in_hall if state == "hall" else self.in_room
        masks = []
        for size, width, limit in zip(self.num_actions, self.width, limits, strict=True):
            action = np.arange(size)
            last = action % width == width - 1  # after the gap
            masks.append((last & (action // width < limit) | (not self.masks)).astype(np.int8))
        return masks

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (len(self.states),), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(self.num_actions[self.possible_agents.index(agent)])

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.agents = list(self.possible_agents)
        self.place = "hall"
        self.num_steps = 0
        return self.observations(), self.infos()

    def step(self, actions: dict):
        choices = self.choices(self.place, [actions[agent] for agent in self.possible_agents])
        over = self.place != "hall"
        earned = 0.0
        if over:
            earned = self.payoff(self.place, choices)
        elif choices[0] < len(self.payoffs):
            self.place = self.states[choices[0] + 1]
        self.num_steps += 1
        truncated = not over and self.num_steps >= self.max_cycles
        # The team's reward is the sum over its agents
        rewards = self.everyone(earned / len(self.possible_agents))
        if over or truncated:
            self.agents = []
        ends = (self.everyone(over), self.everyone(truncated))
        return self.observations(), rewards, *ends, self.infos()

    def observations(self) -> dict[str, np.ndarray]:
        place = self.states.index(self.place)
        return self.everyone(np.eye(len(self.states), dtype=np.float32)[place])

    def infos(self) -> dict[str, dict]:
        masks = zip(self.possible_agents, self.available[self.place], strict=True)
        return {agent: {"action_mask": mask} for agent, mask in masks}

    def everyone(self, value) -> dict:
        return dict.fromkeys(self.possible_agents, value)


def parallel_env(
    rooms: Sequence = ROOMS,
    chooser: bool = True,
    wait: bool = True,
    masks: bool = True,
    gaps: int = 1,
    max_cycles: int = TIME_LIMIT,
) -> RoomsGame:
    return RoomsGame(rooms, chooser, wait, masks, gaps, max_cycles)
