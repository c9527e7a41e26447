"""Rewards of hand-written teams on simple_spread, to compare learned teams with.

python docs/tools/spread_teams.py
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
import tyro

from cleanmarl.env import make_env


@dataclass
class Args:
    episodes: int = 200
    """episodes of each team"""


def steps_to(targets: np.ndarray, obs: np.ndarray) -> np.ndarray:
    """Each agent's action towards its target [n_agents, 2], along the longer axis first.

    Action 0 stays.
    """
    ahead = targets - obs[:, 2:4] - 0.35 * obs[:, 0:2]  # position, and drift by the velocity
    axis = np.abs(ahead).argmax(-1)
    way = np.take_along_axis(ahead, axis[:, None], -1)[:, 0]
    return np.where(np.abs(way) < 0.08, 0, 1 + 2 * axis + (way > 0))


def landmarks(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks' positions [3, 2], and each agent's distance to each [3, 3]."""
    places = (obs[:, 4:10].reshape(3, 3, 2) + obs[:, None, 2:4])[0]
    return places, np.linalg.norm(obs[:, None, 2:4] - places, axis=-1)


def at_random(obs: np.ndarray, rng) -> np.ndarray:
    return rng.integers(0, 5, 3)


def standing_still(obs: np.ndarray, rng) -> np.ndarray:
    return np.zeros(3, int)


def to_the_nearest(obs: np.ndarray, rng) -> np.ndarray:
    places, distance = landmarks(obs)
    return steps_to(places[distance.argmin(-1)], obs)


def each_to_its_own(obs: np.ndarray, rng) -> np.ndarray:
    places, _ = landmarks(obs)
    return steps_to(places, obs)


def shared_by_distance(obs: np.ndarray, rng) -> np.ndarray:
    places, distance = landmarks(obs)
    orders = list(permutations(range(3)))
    lengths = [distance[range(3), order].sum() for order in orders]
    return steps_to(places[list(orders[np.argmin(lengths)])], obs)


TEAMS = {
    "at random": at_random,
    "standing still": standing_still,
    "each to the nearest landmark": to_the_nearest,
    "each to its own landmark": each_to_its_own,
    "shared by distance": shared_by_distance,
}


def play(team, episodes: int) -> np.ndarray:
    """The rewards of episodes, [episodes]."""
    env = make_env("pz", "simple_spread_v3")
    rng = np.random.default_rng(0)
    rewards = np.zeros(episodes)
    for i in range(episodes):
        observation, _ = env.reset(seed=1000 + i)
        over = False
        while not over:
            actions = team(observation["obs"], rng)
            observation, reward, terminated, truncated, _ = env.step(actions)
            rewards[i] += reward
            over = terminated or truncated
    return rewards


def main(args: Args):
    for name, team in TEAMS.items():
        rewards = play(team, args.episodes)
        error = rewards.std() / len(rewards) ** 0.5
        print(f"{name}: {rewards.mean():.1f}, standard error {error:.1f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
