"""Level-Based Foraging (package `lbforaging`): agents collect food, partly only together."""

import re
from typing import ClassVar

import gymnasium
import numpy as np

from cleanmarl.env.names import find
from cleanmarl.env.team import TeamEnv


def specs() -> dict[str, gymnasium.envs.registration.EnvSpec]:
    """The environments that `lbforaging` registers, by name."""
    import lbforaging  # noqa: F401

    return {name: spec for name, spec in gymnasium.registry.items() if name.startswith("Foraging")}


def patterns() -> list[str]:
    """The names of `specs`, one for each form; a number that varies is given as its range."""
    forms = {}
    for name in specs():
        numbers = [int(number) for number in re.findall(r"\d+", name)]
        forms.setdefault(re.sub(r"\d+", "{}", name), []).append(numbers)
    found = []
    for form, rows in forms.items():
        columns = zip(*rows, strict=True)
        found.append(form.format(*(span(set(values)) for values in columns)))
    return found


def span(values: set[int]) -> str:
    return f"{min(values)}" if len(values) == 1 else f"({min(values)}..{max(values)})"


class LevelBasedForaging(TeamEnv):
    """An episode terminates when all food is collected. The agents' rewards then sum to 1."""

    metadata: ClassVar[dict] = {"render_modes": ["rgb_array"], "render_fps": 5}

    def __init__(self, env_name: str, options: dict, *, time_limit: int | None, **team):
        import lbforaging.foraging.environment as foraging
        import pyglet

        # A picture needs no window, and a training machine has no screen.
        pyglet.options["headless"] = True
        # gymnasium.make would keep max_episode_steps for its own wrapper, and add slow checks.
        options = find("LBF environment", env_name, specs()).kwargs | options
        self._env = foraging.ForagingEnv(**options)
        self._choices = tuple(foraging.Action)
        n_agents = self._env.n_agents
        only_none = np.eye(1, len(self._choices), dtype=np.int8).repeat(n_agents, axis=0)
        super().__init__(
            n_agents=n_agents,
            n_actions=len(self._choices),
            obs_size=self._env.observation_space[0].shape[0],
            avail_at_start=only_none,
            time_limit=time_limit or options["max_episode_steps"],
            **team,
        )

    def start(self, seed: int) -> dict[str, np.ndarray]:
        for player in self._env.players:
            player.position = None  # otherwise the last episode's positions count as taken
        return self.see(self._env.reset(seed=seed)[0])

    def advance(self, actions: list[int]) -> tuple:
        # ForagingEnv's own `done` is also True at the time limit.
        observations, rewards, _, _, _ = self._env.step(actions)
        return self.see(observations), rewards, not self._env.field.any(), False, {}

    def see(self, observations: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
        valid = [self._env._valid_actions[player] for player in self._env.players]
        avail_actions = [[choice in legal for choice in self._choices] for legal in valid]
        return self.observe(observations, avail_actions)

    def render(self) -> np.ndarray | None:
        return self._env.render(mode="rgb_array") if self.render_mode else None

    def close(self):
        self._env.close()
