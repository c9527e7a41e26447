"""The original SMAClite (package `smaclite`), to compare with the compiled engine."""

import random

import gymnasium
import numpy as np

from cleanmarl.battle.scenario import load_map, map_names
from cleanmarl.env.names import find
from cleanmarl.env.team import TeamEnv


class UpstreamSMAClite(TeamEnv):
    """A battle terminates when one side has no living units; `info["battle_won"]`: the agents won.

    On SMAC's maps, the default time limit is SMAC's.
    """

    def __init__(self, env_name: str, options: dict, *, time_limit: int | None, **team):
        import smaclite  # noqa: F401

        specs = gymnasium.registry.values()
        maps = {spec.name: spec.id for spec in specs if spec.namespace == "smaclite"}
        map_id = find("upstream map", env_name, maps)
        self._make = lambda **seed: gymnasium.make(map_id, **options, **seed).unwrapped
        self._env = env = self._make()
        if time_limit is None and env_name in map_names():
            time_limit = load_map(env_name).episode_limit
        super().__init__(
            n_agents=env.n_agents,
            n_actions=env.n_actions,
            obs_size=env.obs_size,
            state_size=env.state_size,
            avail_at_start=np.eye(1, env.n_actions, 1, dtype=np.int8).repeat(env.n_agents, axis=0),
            time_limit=time_limit,
            **team,
        )

    def start(self, seed: int) -> dict[str, np.ndarray]:
        callers = random.getstate(), np.random.get_state()
        self._env.close()
        # Make a new one: it takes a seed only here, and a used one still shows its last actions.
        self._env = self._make(seed=seed)
        observations, _ = self._env.reset(seed=seed)
        self._stream = random.getstate()
        random.setstate(callers[0])
        np.random.set_state(callers[1])
        return self.see(observations)

    def advance(self, actions: list[int]) -> tuple:
        callers = random.getstate()
        random.setstate(self._stream)  # the original draws from the global generator
        observations, reward, terminated, truncated, info = self._env.step(actions)
        self._stream = random.getstate()
        random.setstate(callers)
        return self.see(observations), reward, terminated, truncated, info

    def see(self, observations: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
        return self.observe(observations, self._env.get_avail_actions(), self._env.get_state())

    def close(self):
        self._env.close()
