"""The original SMAClite (package `smaclite`), to compare the compiled engine with."""

import random

import gymnasium
import numpy as np

from cleanmarl.battle.scenario import load_map, map_names
from cleanmarl.env import TeamEnv, unknown


class UpstreamSMAClite(TeamEnv):
    """Terminated when a side has died out; `info["battle_won"]` then.

    The original has no time limit: None stands for SMAC's limit on SMAC's maps, and for no limit on others.
    """

    def __init__(self, env_name: str, _: str, kwargs: dict, *, time_limit: int | None, reward_aggr: str, **team):
        import smaclite  # noqa: F401

        names = [name[len("smaclite/") : -len("-v0")] for name in gymnasium.registry if name.startswith("smaclite/")]
        if env_name not in names:
            raise unknown("map of the original SMAClite", env_name, names)
        if time_limit is None and env_name in map_names():
            time_limit = load_map(env_name).episode_limit
        self._make = lambda seed: gymnasium.make(f"smaclite/{env_name}-v0", seed=seed, **kwargs).unwrapped
        self._random_states = random.getstate(), np.random.get_state()
        self._swap_random_states()
        self._env = self._make(0)
        self._swap_random_states()
        self.metadata = self._env.metadata
        stop = np.eye(1, self._env.n_actions, 1, dtype=np.int8).repeat(self._env.n_agents, axis=0)
        sizes = {"size": self._env.obs_size, "state_size": self._env.state_size}
        super().__init__(at_start=stop, time_limit=time_limit, reward_aggr="sum", **sizes, **team)

    def _start(self, seed: int) -> dict:
        self._env.close()
        self._swap_random_states()
        self._env = self._make(seed)  # it takes a seed only here, and otherwise shows the last episode's last actions
        observations, _ = self._env.reset(seed=seed)
        self._swap_random_states()
        return self._observation(observations)

    def _advance(self, actions: list[int]) -> tuple:
        self._swap_random_states()
        observations, reward, terminated, truncated, info = self._env.step(actions)
        self._swap_random_states()
        return self._observation(observations), [reward], terminated, truncated, info

    def _observation(self, observations: tuple[np.ndarray, ...]) -> dict:
        avail_actions = np.array(self._env.get_avail_actions(), np.int8)
        state = np.array(self._env.get_state(), np.float32)
        return self._observe(np.array(observations, np.float32), avail_actions, state)

    def _swap_random_states(self):
        """The original seeds and draws from the global generators, which are the caller's: lend it others."""
        callers = random.getstate(), np.random.get_state()
        random.setstate(self._random_states[0])
        np.random.set_state(self._random_states[1])
        self._random_states = callers
