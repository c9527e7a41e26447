"""Several battles of one scenario: the code that `BattleEnv` and `BattleVectorEnv` share."""

from functools import partial

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numba import config, set_num_threads

from cleanmarl.battle.compiled import machine_code
from cleanmarl.battle.names import action_names, observation_names
from cleanmarl.battle.scenario import ScenarioError, load_map, load_scenario, read_steps
from cleanmarl.battle.spaces import AvailableActions
from cleanmarl.battle.world import BATTLE, HEAL, Seen, build, seen_of

WALLS = ("upstream", "published")


class Battles:
    """`num_envs` battles of one scenario in flat arrays, and the calls into the compiled engine.

    `BattleEnv` and `BattleVectorEnv` describe the arguments.

    Attributes:
        map_name: name of the map or the scenario
        n_agents, n_actions, obs_size, state_size: sizes
        time_limit: environment steps after which a battle is truncated
        clock: whether observations and state end with the share of time left
        agent_names: [n_agents], in the first battle
        action_names: [n_agents][n_actions], in the first battle
        observation_names: [n_agents][obs_size], without ids
        units: [num_envs, n_units] UNIT
        battles: [num_envs] BATTLE
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        num_threads: int,
        map_name: str,
        *,
        map_file=None,
        walls: str = "upstream",
        time_limit: int | None = None,
        agent_ids: bool = False,
        clock: bool = False,
        render_mode: str | None = None,
    ):
        if walls not in WALLS:
            raise ScenarioError(f"walls must be one of {', '.join(WALLS)}, got {walls!r}")
        if render_mode not in (None, "rgb_array"):
            problem = f"render_mode must be None or 'rgb_array', got {render_mode!r}"
            raise gym.error.UnsupportedMode(problem)
        self.render_mode = render_mode
        self.scenario = load_map(map_name) if map_file is None else load_scenario(map_file)
        self.map_name = self.scenario.name
        self.time_limit = self.scenario.episode_limit
        if time_limit is not None:
            self.time_limit = int(read_steps(time_limit, "time_limit"))
        options = {"walls": walls, "time_limit": self.time_limit}
        options |= {"agent_ids": agent_ids, "clock": clock}
        self.world, self.start = build(self.scenario, **options)
        rules = self.world.rules[0]
        self.n_agents = int(rules["n_allies"])
        self.n_actions = int(rules["n_actions"])
        self.obs_size = int(rules["obs_size"])
        self.state_size = int(rules["state_size"])
        self.num_envs = num_envs
        self.agent_ids = agent_ids
        self.clock = clock
        self.num_threads = min(num_envs, num_threads)
        self.units = np.repeat(self.start.units[None], num_envs, axis=0)
        self.battles = np.zeros(num_envs, BATTLE)
        for b in range(num_envs):
            self._restart(b, 0)
        self.battles["over"] = True
        self._new = [partial(np.empty, of.shape, of.dtype) for of in seen_of(rules, num_envs)]
        machine_code("look")
        machine_code("step_threaded" if self.num_threads > 1 else "step")

    @property
    def agent_names(self) -> list[str]:
        kinds = [kind.replace("_", " ").lower() for kind in self.scenario.kinds]
        return [f"{kinds[unit['kind']]} {unit['index']}" for unit in self._allies()]

    @property
    def action_names(self) -> list[list[str]]:
        heals = [unit["attack"] == HEAL for unit in self._allies()]
        return [action_names(self.scenario, heal, self.n_actions) for heal in heals]

    @property
    def observation_names(self) -> list[list[str]]:
        return [observation_names(self.scenario, agent) for agent in range(self.n_agents)]

    def _allies(self) -> list:
        """The agents' units in the first battle, in order."""
        allies = (unit for unit in self.units[0] if unit["is_ally"])
        return sorted(allies, key=lambda unit: unit["index"])

    def _spaces(self) -> tuple[spaces.Dict, AvailableActions]:
        """The spaces of the observations and actions of one battle."""
        observation_space = spaces.Dict(
            obs=spaces.Box(-1, 1, (self.n_agents, self.obs_size), np.float32),
            state=spaces.Box(-np.inf, np.inf, (self.state_size,), np.float32),
            avail_actions=spaces.MultiBinary((self.n_agents, self.n_actions)),
        )
        return observation_space, AvailableActions(self._look().avail_actions[0])

    def _restart(self, b: int, seed: int | None):
        """Reset battle `b` to its start. Without a seed its random stream continues."""
        if seed is not None:
            self.battles["random"][b] = seed
        machine_code("restart")(self.world, self.start, self.units, self.battles, b)

    def _fresh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The arrays of a `Seen`, uninitialised."""
        obs, state, avail_actions = self._new
        return obs(), state(), avail_actions()

    def _look(self) -> Seen:
        """Observations, states and masks of all battles."""
        seen = Seen(*self._fresh())
        machine_code("look")(self.world, self.units, self.battles, seen)
        return seen

    def _advance(self, actions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Step the battles that are not over; return the arrays of a `Seen`.

        Rows of battles that are over are undefined.
        """
        actions = self._checked(actions)
        seen = self._fresh()
        arguments = (self.world, self.units, self.battles, actions, seen)
        if self.num_threads == 1:
            b, agent = machine_code("step")(*arguments)
        else:
            set_num_threads(min(self.num_threads, config.NUMBA_NUM_THREADS))
            b, agent = machine_code("step_threaded")(self.num_threads, *arguments)
        if b >= 0:
            available = np.flatnonzero(self._look().avail_actions[b, agent]).tolist()
            where = f"battle {b}, agent {agent}" if self.num_envs > 1 else f"agent {agent}"
            problem = f"action {actions[b, agent]} is not available; available are {available}"
            raise ValueError(f"{where}: {problem}")
        return seen

    def _checked(self, actions) -> np.ndarray:
        """The actions as [num_envs, n_agents] int64."""
        actions = np.asarray(actions)
        if actions.dtype.kind not in "iu" or actions.size != self.num_envs * self.n_agents:
            several = f"{self.num_envs} x " if self.num_envs > 1 else ""
            wanted = f"{several}{self.n_agents} whole numbers"
            raise ValueError(f"expected {wanted} as actions, got {actions!r}")
        return np.ascontiguousarray(actions, np.int64).reshape(self.num_envs, self.n_agents)

    def _picture(self, b: int) -> np.ndarray:
        """Battle `b` as an RGB picture, [height, width, 3] uint8."""
        # Load the drawing library only if something is drawn.
        from cleanmarl.battle.render import draw

        return draw(self.scenario, self.units[b], int(self.battles["steps"][b]))
