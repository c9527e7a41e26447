"""Level-Based Foraging: agents collect food together that none of them could lift alone (package `lbforaging`)."""

from typing import ClassVar

import gymnasium
import numpy as np

from cleanmarl.env import TeamEnv, unknown


class LevelBasedForaging(TeamEnv):
    """`Foraging[-2s]-{size}x{size}-{players}p-{food}f[-coop]-v3`; `kwargs` override what the name says.

    It ends (terminated) when all food is collected. The rewards of all agents in an episode sum to 1 then.
    """

    metadata: ClassVar[dict] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, env_name: str, kwargs: dict, *, time_limit: int | None = None, **team):
        try:
            from lbforaging.foraging import ForagingEnv
        except ModuleNotFoundError as error:
            raise ImportError(f"env_type lbf needs {error.name}: pip install lbforaging") from error
        names = [name for name in gymnasium.registry if name.startswith("Foraging")]
        if env_name not in names:
            raise unknown("LBF environment", env_name, names)
        # Not gymnasium.make: it would take max_episode_steps for itself, and its wrappers slow the steps.
        kwargs = gymnasium.spec(env_name).kwargs | kwargs
        kwargs["max_episode_steps"] = time_limit or kwargs["max_episode_steps"]
        self._env = ForagingEnv(**kwargs)
        low, high = (np.stack([getattr(s, end) for s in self._env.observation_space]) for end in ("low", "high"))
        only_none = np.tile(np.eye(1, 6, dtype=np.int8), (self._env.n_agents, 1))
        super().__init__(low, high, only_none, time_limit=kwargs["max_episode_steps"], **team)

    def _start(self, seed: int) -> dict:
        # Players are placed where no player stands, and the last episode's positions would count.
        for player in self._env.players:
            player.position = None
        return self._observation(self._env.reset(seed=seed)[0])

    def _advance(self, actions: list[int]) -> tuple:
        observations, rewards, _, _, _ = self._env.step(actions)
        # Its own flag also reports the time limit, which here TeamEnv sees to.
        return self._observation(observations), rewards, not self._env.field.any(), False, {}

    def _observation(self, observations: tuple[np.ndarray, ...]) -> dict:
        avail_actions = np.zeros((self.n_agents, self.n_actions), np.int8)
        for row, player in zip(avail_actions, self._env.players, strict=True):
            row[[action.value for action in self._env._valid_actions[player]]] = 1
        return self._observe(np.stack(observations), avail_actions)

    def render(self) -> np.ndarray | None:
        if self.render_mode is None:
            return None
        import pyglet

        pyglet.options["headless"] = True  # an image needs no window, and training machines have no display
        return self._env.render(mode="rgb_array")

    def close(self):
        self._env.close()
