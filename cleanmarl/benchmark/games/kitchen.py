"""Overcooked, of the package `overcooked`: cooks put three onions into a pot and serve the soup.

The team earns 20 for each soup that it serves; an episode with one is a success. With
`--env-options shaping=1`, it also earns the package's rewards for what comes before: 3 for an onion
in a pot and for a dish that is needed, 5 for a soup in a dish. As in Carroll et al. (2019), an
episode has 400 steps, three onions in a pot cook by themselves, for 20 steps, and cooks see the
whole kitchen.
"""

import numpy as np
from gymnasium.spaces import Box, Discrete
from overcooked.mdp import Action, OvercookedGridworld
from pettingzoo import ParallelEnv

from cleanmarl.env.names import find

STEPS = 400
LAYOUTS = ("cramped_room", "asymmetric_advantages", "coordination_ring", "forced_coordination")
LAYOUTS += ("counter_circuit_o_1order",)  # the five of Carroll et al.
THINGS = ("onion", "dish", "soup")
DIRECTIONS = ((0, -1), (0, 1), (1, 0), (-1, 0))
ONIONS = 3
"""onions of a soup"""


class Kitchen(ParallelEnv):
    """Two cooks. Each sees itself, the other, the pots, and what lies on the counters.

    Numbers of a cook: its place and its direction, one-hot, and the thing in its hands, one-hot or
    zeros; of a pot: its onions, the time until its soup is ready, and whether it is.
    """

    action_names = ("up", "down", "right", "left", "stay", "interact")

    def __init__(self, layout: str, shaping: float, max_cycles: int):
        known = {name: name for name in LAYOUTS}
        name = find("layout", layout, known, f"known: {', '.join(LAYOUTS)}")
        self.metadata = {"name": "kitchen"}
        # Without the old dynamics, cooks must also start to cook, and soups may be smaller
        self.game = OvercookedGridworld.from_layout_name(name, old_dynamics=True)
        self.shaping = shaping
        self.max_cycles = max_cycles
        self.possible_agents = [f"cook_{number + 1}" for number in range(self.game.num_players)]
        self.floor = {place: i for i, place in enumerate(self.game.get_valid_player_positions())}
        self.pots = self.game.get_pot_locations()
        self.counters = self.game.get_counter_locations()
        of_cook = len(self.floor) + len(DIRECTIONS) + len(THINGS)
        of_pots = 3 * len(self.pots)
        of_counters = len(THINGS) * len(self.counters)
        self.obs_size = len(self.possible_agents) * of_cook + of_pots + of_counters

    def observation_space(self, agent: str) -> Box:
        return Box(0, 1, (self.obs_size,), np.float32)

    def action_space(self, agent: str) -> Discrete:
        return Discrete(len(Action.ALL_ACTIONS))

    def reset(self, seed: int | None = None, options: dict | None = None):
        self.agents = list(self.possible_agents)
        self.kitchen = self.game.get_standard_start_state()
        self.num_steps = self.soups = 0
        return self.observations(), self.everyone({})

    def step(self, actions: dict):
        joint = [Action.ALL_ACTIONS[actions[agent]] for agent in self.possible_agents]
        self.kitchen, paid = self.game.get_state_transition(self.kitchen, joint)
        served = sum(paid["sparse_reward_by_agent"])
        self.soups += served > 0
        reward = served + self.shaping * sum(paid["shaped_reward_by_agent"])
        self.num_steps += 1
        truncated = self.num_steps >= self.max_cycles
        if truncated:
            self.agents = []
        # The team's reward is the sum over its agents
        rewards = self.everyone(reward / len(joint))
        ends = (self.everyone(False), self.everyone(truncated))
        return self.observations(), rewards, *ends, self.everyone({"is_success": self.soups > 0})

    def observations(self) -> dict[str, np.ndarray]:
        cooks = [self.cook(player) for player in self.kitchen.players]
        things = [self.pot(place) for place in self.pots]
        things += [self.one_hot(self.kitchen.objects.get(place)) for place in self.counters]
        seen = {}
        for number, agent in enumerate(self.possible_agents):
            own_first = [cooks[number], *cooks[:number], *cooks[number + 1 :]]
            seen[agent] = np.concatenate(own_first + things).astype(np.float32)
        return seen

    def cook(self, player) -> list[float]:
        place = [0.0] * len(self.floor)
        place[self.floor[player.position]] = 1.0
        direction = [float(player.orientation == one) for one in DIRECTIONS]
        return place + direction + self.one_hot(player.held_object)

    def pot(self, place: tuple[int, int]) -> list[float]:
        soup = self.kitchen.objects.get(place)
        if soup is None:
            return [0.0, 0.0, 0.0]
        left = 0.0 if soup.is_idle else soup.cook_time_remaining / soup.cook_time
        return [len(soup.ingredients) / ONIONS, left, float(soup.is_ready)]

    def one_hot(self, thing) -> list[float]:
        return [float(thing is not None and thing.name == name) for name in THINGS]

    def everyone(self, value) -> dict:
        return dict.fromkeys(self.possible_agents, value)


def parallel_env(
    layout: str = "cramped_room", shaping: float = 0, max_cycles: int = STEPS
) -> Kitchen:
    return Kitchen(layout, shaping, max_cycles)
