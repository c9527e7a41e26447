"""Battles of one scenario side by side: what `BattleEnv` and `BattleVectorEnv` have in common."""

import os
from functools import cache

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numba import config, set_num_threads

from cleanmarl.battle import compiled
from cleanmarl.battle.scenario import ScenarioError, load_map, load_scenario
from cleanmarl.battle.spaces import AvailableActions
from cleanmarl.battle.world import BATTLE, build

WALLS = ("upstream", "published")


class Battles:
    """`num` battles of one scenario in flat arrays, and the calls into the compiled engine.

    Args:
        map_name: one of the 23 maps of SMAC, unless `map_file` is given
        map_file: a user's own scenario, a TOML file or a dict of the same shape
        walls: "upstream" as the original SMAClite computes wall lines, "published" as ORCA has them
        time_limit: environment steps after which a battle is truncated; None: the scenario's limit
        agent_ids: append a one-hot agent id to each observation
        num_threads: threads among which the battles are divided

    Raises:
        ScenarioError: (a ValueError) an unknown map, a malformed scenario, or an argument out of
            range
    """

    def __init__(
        self,
        num: int,
        map_name: str,
        map_file,
        walls: str,
        time_limit: int | None,
        agent_ids: bool,
        num_threads: int = 1,
    ):
        self.scenario = load_map(map_name) if map_file is None else load_scenario(map_file)
        if walls not in WALLS:
            raise ScenarioError(f"walls must be one of {', '.join(WALLS)}, got {walls!r}")
        if time_limit is None:
            time_limit = self.scenario.episode_limit
        if time_limit < 1:
            raise ScenarioError(f"time_limit must be at least 1, got {time_limit}")
        self.world, self.start = build(
            self.scenario, walls=walls, time_limit=time_limit, agent_ids=agent_ids
        )
        rules = self.world.rules[0]
        self.num, self.num_threads, self.time_limit = num, min(num, num_threads), int(time_limit)
        self.n_agents, self.n_actions = int(rules["n_allies"]), int(rules["n_actions"])
        self.obs_size, self.state_size = int(rules["obs_size"]), int(rules["state_size"])
        self.shapes = (
            (num, self.n_agents, self.obs_size),
            (num, self.state_size),
            (num, self.n_agents, self.n_actions),
        )
        self.units = np.repeat(self.start[None], num, axis=0)
        self.battles = np.zeros(num, BATTLE)
        self.battles["over"] = True
        step_code(self.num_threads > 1)

    def observation_space(self) -> spaces.Dict:
        return spaces.Dict(
            obs=spaces.Box(-1, 1, (self.n_agents, self.obs_size), np.float32),
            state=spaces.Box(-np.inf, np.inf, (self.state_size,), np.float32),
            avail_actions=spaces.MultiBinary((self.n_agents, self.n_actions)),
        )

    def action_space(self) -> AvailableActions:
        return AvailableActions(self.look()[2][0])

    def restart(self, b: int, seed: int | None):
        """Put battle `b` at its start. Without a seed its random stream continues."""
        # In one go, since NumPy copies records field by field.
        self.units.view(np.uint8)[b] = self.start.view(np.uint8)
        random = self.battles.item(b)[0] if seed is None else np.uint64(seed)
        self.battles[b] = (random, 0, 0.0, False, False, False, False)

    def fresh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Arrays for what is seen of all battles, not written yet."""
        obs, state, avail = self.shapes
        return np.empty(obs, np.float32), np.empty(state, np.float32), np.empty(avail, np.int8)

    def look(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is seen of all battles.

        Observations [num, n_agents, obs_size], states [num, state_size] and masks
        [num, n_agents, n_actions].
        """
        seen = self.fresh()
        compiled.look(self.world.rules, self.world.blocked, self.units, *seen)
        return seen

    def step(self, actions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step the battles that are not over; return what is seen of them, as `look` does.

        For battles that are over, the arrays may hold anything.
        """
        seen, actions = self.fresh(), self.checked(actions)
        args = (*self.world, self.units, self.battles, actions, *seen)
        if self.num_threads == 1:
            b, agent = step_code(False)(*args)
        else:
            set_num_threads(min(self.num_threads, config.NUMBA_NUM_THREADS))
            b, agent = step_code(True)(self.num_threads, *args)
        if b >= 0:
            available = np.flatnonzero(self.look()[2][b, agent]).tolist()
            where = f"battle {b}, agent {agent}" if self.num > 1 else f"agent {agent}"
            problem = f"action {actions[b, agent]} is not available; available are {available}"
            raise ValueError(f"{where}: {problem}")
        return seen

    def checked(self, actions) -> np.ndarray:
        """The actions as [num, n_agents] int64."""
        actions = np.asarray(actions)
        if actions.dtype.kind not in "iu" or actions.size != self.num * self.n_agents:
            wanted = f"{self.num} x {self.n_agents}" if self.num > 1 else f"{self.n_agents}"
            raise ValueError(f"expected {wanted} whole numbers as actions, got {actions!r}")
        return np.ascontiguousarray(actions, np.int64).reshape(self.num, self.n_agents)


@cache
def step_code(threaded: bool):
    """The compiled step. Once per process, it and `look` are compiled, or loaded from the cache."""
    world, start = build(load_map("3m"), walls=WALLS[0], time_limit=1, agent_ids=False)
    rules = world.rules[0]
    seen = (
        np.empty((1, rules["n_allies"], rules["obs_size"]), np.float32),
        np.empty((1, rules["state_size"]), np.float32),
        np.empty((1, rules["n_allies"], rules["n_actions"]), np.int8),
    )
    over = np.array([(0, 0, 0, False, False, False, True)], BATTLE)
    args = (*world, start[None], over, np.ones((1, rules["n_allies"]), np.int64), *seen)

    def first_calls():
        compiled.look(world.rules, world.blocked, start[None], *seen)
        if not threaded:
            return compiled.code_of(compiled.step, *args)
        # A thread that has finished waits for the others by spinning. On a busy machine, that keeps
        # them from their turn, by default long enough to make a step 100 times slower.
        # (The variable has no effect if OpenMP is loaded already.)
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
        return compiled.code_of(compiled.step_threaded, 2, *args)

    return compiled.announced(first_calls)


def render_frame(battles: Battles, b: int) -> np.ndarray:
    """An RGB picture of battle `b`, [height, width, 3] uint8."""
    # The drawing library is loaded only where something is drawn.
    from cleanmarl.battle.render import draw

    return draw(battles.scenario, battles.units[b], int(battles.battles[b]["steps"]))


def check_render_mode(render_mode: str | None):
    if render_mode not in (None, "rgb_array"):
        problem = f"render_mode must be None or 'rgb_array', got {render_mode!r}"
        raise gym.error.UnsupportedMode(problem)
