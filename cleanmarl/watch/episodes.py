"""Greedy episodes, recorded while a script plays them."""

from dataclasses import dataclass, field

import gymnasium
import numpy as np

from cleanmarl.training.results import worst_median_best
from cleanmarl.watch.trained import Trained


@dataclass
class Episode:
    """Observations, actions and rewards of an episode of T steps."""

    seed: int
    observations: list[dict] = field(default_factory=list)
    """T + 1 dicts as in `TeamEnv`"""
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    truncated: bool = False
    """whether the time limit ended it"""
    info: dict = field(default_factory=dict)
    """info of the last step"""

    def arrays(self) -> dict[str, np.ndarray]:
        """The episode as a script stores it: obs [T + 1, n_agents, obs_size], ..., reward [T]."""
        dtypes = {"obs": np.float32, "state": np.float32, "avail_actions": np.int8}
        found = {}
        for name, dtype in dtypes.items():
            found[name] = np.array([seen[name] for seen in self.observations], dtype)
        found["actions"] = np.array(self.actions, np.int64)
        found["reward"] = np.array(self.rewards, np.float32)
        return found


class Recorder(gymnasium.Wrapper):
    """Record every episode."""

    def __init__(self, env: gymnasium.Env):
        super().__init__(env)
        self.episodes: list[Episode] = []

    def __getattr__(self, name: str):
        """Attributes that a script reads from its environment, for example `n_agents`."""
        return getattr(self.env, name)

    def reset(self, *, seed=None, options=None):
        observation, info = self.env.reset(seed=seed, options=options)
        self.episodes.append(Episode(seed, [observation]))
        return observation, info

    def step(self, actions):
        answer = self.env.step(actions)
        episode = self.episodes[-1]
        observation, reward, _, episode.truncated, episode.info = answer
        episode.observations.append(observation)
        episode.actions.append(np.array(actions))
        episode.rewards.append(float(reward))
        return answer


def play(run: Trained) -> tuple[list[Episode], list[dict[str, float]]]:
    """Play the episodes of --evaluate; returns them and their results."""
    env = Recorder(run.script.open_env(run.args))
    results = run.script.evaluate(env, run.networks.target_agent, run.args, "test")
    env.close()
    return env.episodes, results


def places(episodes: list[Episode], results: list[dict[str, float]]) -> dict[str, int]:
    """The numbers of the worst, the median and the best episode, as --evaluate finds them.

    The worst is left out if it equals the best, the median if it equals the best or the worst.
    """
    found = worst_median_best(results)
    worst, median, best = (episodes[number] for number in found.values())
    if alike(median, best) or alike(median, worst):
        del found["median"]
    if alike(worst, best):
        del found["worst"]
    return found


def alike(one: Episode, other: Episode) -> bool:
    """Whether two episodes have the same observations, actions and rewards."""
    one, other = one.arrays(), other.arrays()
    return all(np.array_equal(part, other[name]) for name, part in one.items())
