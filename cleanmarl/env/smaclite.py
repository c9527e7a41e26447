"""The original SMAClite (package `smaclite`), to compare the compiled engine with."""

import random
from functools import partial

import gymnasium
import numpy as np

from cleanmarl.battle.scenario import load_map, map_names
from cleanmarl.env import TeamEnv


class UpstreamSMAClite(TeamEnv):
    """Terminated when a side has died out, with `info["battle_won"]`. The default time limit is SMAC's, on its maps."""

    def __init__(self, env_name: str, _: str, kwargs: dict, *, time_limit: int | None, **team):
        import smaclite  # noqa: F401

        self._make = partial(gymnasium.make, f"smaclite/{env_name}-v0", **kwargs)
        self._env = env = self._make().unwrapped
        self.metadata = env.metadata
        if time_limit is None and env_name in map_names():
            time_limit = load_map(env_name).episode_limit
        stop = np.eye(1, env.n_actions, 1, dtype=np.int8).repeat(env.n_agents, axis=0)
        team["reward_aggr"] = "sum"  # it gives a single reward
        super().__init__(env.obs_size, stop, state_size=env.state_size, time_limit=time_limit, **team)

    def _start(self, seed: int) -> dict:
        callers = random.getstate(), np.random.get_state()
        self._env.close()
        self._env = self._make(seed=seed).unwrapped  # takes its seed only here; an old one also shows its last actions
        observations, _ = self._env.reset(seed=seed)
        self._stream = random.getstate()
        random.setstate(callers[0])
        np.random.set_state(callers[1])
        return self._observation(observations)

    def _advance(self, actions: list[int]) -> tuple:
        callers = random.getstate()
        random.setstate(self._stream)  # the original draws from the global generator, which is the caller's
        observations, reward, terminated, truncated, info = self._env.step(actions)
        self._stream = random.getstate()
        random.setstate(callers)
        return self._observation(observations), [reward], terminated, truncated, info

    def _observation(self, observations: tuple[np.ndarray, ...]) -> dict:
        obs, state = np.array(observations, np.float32), np.array(self._env.get_state(), np.float32)
        return self._observe(obs, np.array(self._env.get_avail_actions(), np.int8), state)
