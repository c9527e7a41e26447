"""Level-Based Foraging (package `lbforaging`): agents collect food, partly only together."""

import inspect
import re
from typing import ClassVar

import numpy as np
from gymnasium.spaces import Box, flatdim

from cleanmarl.env.names import LISTED, find, unexpected, unknown
from cleanmarl.env.team import TeamEnv

ACTIONS = ("none", "north", "south", "west", "east", "load")  # in the order of foraging.Action
NAME = re.compile(
    r"Foraging(?P<grid>-grid)?(?:-(?P<sight>\d+)s)?-(?P<rows>\d+)x(?P<columns>\d+)"
    r"-(?P<players>\d+)p-(?P<food>\d+)f(?P<coop>-coop)?(?P<alike>-ind)?(?P<penalty>-pen)?-v3"
)
EXAMPLES = (
    "Foraging-8x8-2p-3f-v3",
    "Foraging-2s-10x10-3p-3f-v3",
    "Foraging-8x8-2p-2f-coop-v3",
    "Foraging-15x15-4p-5f-v3",
)
PATTERN = "Foraging[-grid][-SIGHTs]-ROWSxCOLUMNS-PLAYERSp-FOODSf[-coop][-ind][-pen]-v3"


def options_of(env_name: str) -> dict:
    """The options of `ForagingEnv` for a name, as its package registers names of this pattern.

    `-coop`: all food has the highest level that is drawn; `-ind`: all food has level 1; `-pen`:
    loading in vain costs 0.1. Raises ValueError.
    """
    found = NAME.fullmatch(env_name)
    if not found:
        hint = f"names are like {PATTERN} {LISTED}"
        find("LBF environment", env_name, dict.fromkeys(EXAMPLES), hint)
    rows, columns, players, food = map(int, found.group("rows", "columns", "players", "food"))
    sight = int(found["sight"] or max(rows, columns))
    inner = max(0, rows - 2) * max(0, columns - 2)  # food has no place at the border
    if not (0 < food <= inner and 0 < 2 * players <= rows * columns and sight > 0):
        raise ValueError(f"{env_name} has no food, no players, no sight, or too little room")
    return {
        "players": players,
        "min_player_level": 1,
        "max_player_level": 2,
        "field_size": (rows, columns),
        "min_food_level": 1,
        "max_food_level": 1 if found["alike"] else None,
        "max_num_food": food,
        "sight": sight,
        "max_episode_steps": 50,
        "force_coop": bool(found["coop"]),
        "grid_observation": bool(found["grid"]),
        "penalty": 0.1 if found["penalty"] else 0.0,
    }


def opened(options: dict):
    """The package's environment. Raises ValueError."""
    from lbforaging.foraging.environment import ForagingEnv

    class Foraging(ForagingEnv):
        def _get_observation_space(self):
            if not self._grid_observation:
                return super()._get_observation_space()
            # The package gives a shape that Gymnasium refuses
            side = 1 + 2 * self.sight
            return Box(0, np.inf, (3, side, side))

    try:
        # gymnasium.make would keep max_episode_steps for its own wrapper, and add slow checks.
        return Foraging(**options)
    except TypeError as error:
        if unexpected(error) not in options:
            raise ValueError(f"foraging cannot be opened with these options: {error}") from None
        known = list(inspect.signature(ForagingEnv).parameters)
        raise ValueError(unknown("option of LBF", unexpected(error), known)) from None


def entries(n_agents: int, num_food: int) -> list[list[str]]:
    """What an agent observes: row, column and level of each food, itself and the others."""
    found = []
    for agent in range(n_agents):
        others = [f"agent {other}" for other in range(n_agents) if other != agent]
        things = [*(f"food {number}" for number in range(num_food)), "itself", *others]
        names = [f"{thing}: {entry}" for thing in things for entry in ("row", "column", "level")]
        found.append(names)
    return found


class LevelBasedForaging(TeamEnv):
    """An episode terminates when all food is collected. The agents' rewards then sum to 1."""

    metadata: ClassVar[dict] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, env_name: str, options: dict, *, time_limit: int | None, **team):
        import lbforaging.foraging.environment as foraging
        import pyglet

        # A picture needs no window, and a training machine has no screen.
        pyglet.options["headless"] = True
        options = options_of(env_name) | options
        self._env = opened(options)
        n_agents = self._env.n_agents
        only_none = np.eye(1, len(ACTIONS), dtype=np.int8).repeat(n_agents, axis=0)
        super().__init__(
            n_agents=n_agents,
            n_actions=len(ACTIONS),
            obs_size=flatdim(self._env.observation_space[0]),
            avail_at_start=only_none,
            time_limit=time_limit or options["max_episode_steps"],
            **team,
        )
        self.title = env_name
        self._choices = tuple(foraging.Action)
        self.action_names = [list(ACTIONS)] * n_agents
        if not options["grid_observation"]:
            self.observation_names = entries(n_agents, options["max_num_food"])

    def start(self, seed: int) -> dict[str, np.ndarray]:
        for player in self._env.players:
            player.position = None  # otherwise the last episode's positions count as taken
        observations, _ = self._env.reset(seed=seed)
        return self.see(observations)

    def advance(self, actions: list[int]) -> tuple:
        # ForagingEnv's own `done` is also True at the time limit.
        observations, rewards, _, _, _ = self._env.step(actions)
        return self.see(observations), rewards, not self._env.field.any(), False, {}

    def see(self, observations: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
        valid = [self._env._valid_actions[player] for player in self._env.players]
        avail_actions = [[choice in legal for choice in self._choices] for legal in valid]
        if self._env._grid_observation:
            observations = [layers.ravel() for layers in observations]
        return self.observe(observations, avail_actions)

    def render(self) -> np.ndarray | None:
        return self._env.render(mode="rgb_array") if self.render_mode else None

    def close(self):
        self._env.close()
