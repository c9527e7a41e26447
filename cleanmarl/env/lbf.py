"""Level-Based Foraging (package `lbforaging`): agents collect food, some of which takes several of them to lift."""

import re

import gymnasium
import numpy as np

from cleanmarl.env import TeamEnv, find


def specs() -> dict[str, gymnasium.envs.registration.EnvSpec]:
    """What `lbforaging` has registered, by name."""
    import lbforaging  # noqa: F401

    return {name: spec for name, spec in gymnasium.registry.items() if name.startswith("Foraging")}


def patterns() -> list[str]:
    """The names of `specs` by their form: for each number in them, the least and the largest."""
    forms = {}
    for name in specs():
        numbers = [int(number) for number in re.findall(r"\d+", name)]
        forms.setdefault(re.sub(r"\d+", "{}", name), []).append(numbers)
    spans = {form: zip(*numbers, strict=True) for form, numbers in forms.items()}
    return [form.format(*(span(set(values)) for values in columns)) for form, columns in spans.items()]


def span(values: set[int]) -> str:
    return f"{min(values)}" if len(values) == 1 else f"({min(values)}..{max(values)})"


class LevelBasedForaging(TeamEnv):
    """Terminated when all food is collected; the agents' rewards of such an episode sum to 1."""

    def __init__(self, env_name: str, _: str, kwargs: dict, *, time_limit: int | None, **team):
        import lbforaging.foraging.environment as foraging
        import pyglet

        pyglet.options["headless"] = True  # a picture takes no window, and a training machine has no screen
        # Not by gymnasium.make, which keeps max_episode_steps for a wrapper of its own and adds slow checks.
        kwargs = find("LBF environment", env_name, specs()).kwargs | kwargs
        self._env, self._choices = foraging.ForagingEnv(**kwargs), tuple(foraging.Action)
        self._env.metadata = {"render_modes": ["rgb_array"], "render_fps": 5}
        box = self._env.observation_space[0]
        only_none = np.eye(1, len(self._choices), dtype=np.int8).repeat(self._env.n_agents, axis=0)
        limit = time_limit or kwargs["max_episode_steps"]
        super().__init__(box.shape[0], only_none, (box.low.min(), box.high.max()), time_limit=limit, **team)

    def _start(self, seed: int) -> dict:
        for player in self._env.players:
            player.position = None  # or else the places of the last episode count as taken
        return self._observation(self._env.reset(seed=seed)[0])

    def _advance(self, actions: list[int]) -> tuple:
        observations, rewards, _, _, _ = self._env.step(actions)  # its own `done` does not tell the time limit apart
        return self._observation(observations), rewards, not self._env.field.any(), False, {}

    def _observation(self, observations: tuple[np.ndarray, ...]) -> dict:
        avail_actions = [[c in self._env._valid_actions[p] for c in self._choices] for p in self._env.players]
        return self._observe(np.stack(observations), np.array(avail_actions, np.int8))

    def render(self) -> np.ndarray | None:
        return self._env.render(mode="rgb_array") if self.render_mode else None
