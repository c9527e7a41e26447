"""The original SMAClite (package `smaclite`), to compare the compiled engine with."""

import random

import gymnasium
import numpy as np

from cleanmarl.battle.scenario import load_map, map_names
from cleanmarl.env import TeamEnv, find


class UpstreamSMAClite(TeamEnv):
    """Terminated when a side has died out, with `info["battle_won"]`.

    On SMAC's maps the default time limit is SMAC's.
    """

    def __init__(self, env_name: str, _: str, kwargs: dict, *, time_limit, reward_aggr, **team):
        import smaclite  # noqa: F401

        specs = gymnasium.registry.values()
        maps = {spec.name: spec.id for spec in specs if spec.namespace == "smaclite"}
        map_id = find("upstream map", env_name, maps)
        self._make = lambda **seed: gymnasium.make(map_id, **kwargs, **seed).unwrapped
        self._env = env = self._make()
        stop = np.eye(1, env.n_actions, 1, dtype=np.int8).repeat(env.n_agents, axis=0)
        if time_limit is None and env_name in map_names():
            time_limit = load_map(env_name).episode_limit
        team |= {"time_limit": time_limit, "reward_aggr": "sum"}
        super().__init__(env.obs_size, stop, state_size=env.state_size, **team)

    def _start(self, seed: int) -> dict:
        callers = random.getstate(), np.random.get_state()
        self._env.close()
        # A new one, since it takes its seed only here; a used one also shows its last actions.
        self._env = self._make(seed=seed)
        observations, _ = self._env.reset(seed=seed)
        self._stream = random.getstate()
        random.setstate(callers[0])
        np.random.set_state(callers[1])
        return self._observation(observations)

    def _advance(self, actions: list[int]) -> tuple:
        callers = random.getstate()
        random.setstate(self._stream)  # the original draws from the global generator
        observations, reward, terminated, truncated, info = self._env.step(actions)
        self._stream = random.getstate()
        random.setstate(callers)
        return self._observation(observations), [reward], terminated, truncated, info

    def _observation(self, observations: tuple[np.ndarray, ...]) -> dict:
        obs, state = np.array(observations, np.float32), np.array(self._env.get_state(), np.float32)
        return self._observe(obs, np.array(self._env.get_avail_actions(), np.int8), state)
