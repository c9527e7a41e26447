"""Rewards of hand-written teams on simple_spread: a measure for learned ones (docs/results.md).

python docs/spread_teams.py
"""

from itertools import permutations

import numpy as np

from cleanmarl.env import make_env


def steps_to(targets: np.ndarray, obs: np.ndarray) -> np.ndarray:
    """Each agent's action towards its target [n_agents, 2], along the longer axis first.

    0 is to stay.
    """
    ahead = targets - obs[:, 2:4] - 0.35 * obs[:, 0:2]  # where it is, and where it drifts
    axis = np.abs(ahead).argmax(-1)
    way = np.take_along_axis(ahead, axis[:, None], -1)[:, 0]
    return np.where(np.abs(way) < 0.08, 0, 1 + 2 * axis + (way > 0))


def landmarks(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The landmarks' positions [3, 2], and each agent's distance to each [3, 3]."""
    places = (obs[:, 4:10].reshape(3, 3, 2) + obs[:, None, 2:4])[0]
    return places, np.linalg.norm(obs[:, None, 2:4] - places, axis=-1)


def nearest(obs: np.ndarray, rng) -> np.ndarray:
    places, distance = landmarks(obs)
    return steps_to(places[distance.argmin(-1)], obs)


def shared(obs: np.ndarray, rng) -> np.ndarray:
    places, distance = landmarks(obs)
    best = min(permutations(range(3)), key=lambda order: distance[range(3), order].sum())
    return steps_to(places[list(best)], obs)


TEAMS = {
    "at random": lambda obs, rng: rng.integers(0, 5, 3),
    "standing still": lambda obs, rng: np.zeros(3, int),
    "each to the nearest landmark": nearest,
    "each to a landmark of its own": lambda obs, rng: steps_to(landmarks(obs)[0], obs),
    "shared by distance": shared,
}


def play(team, episodes: int) -> np.ndarray:
    """The rewards of episodes, [episodes]."""
    env, rng = make_env("pz", "simple_spread_v3"), np.random.default_rng(0)
    rewards = np.zeros(episodes)
    for i in range(episodes):
        observation, _ = env.reset(seed=1000 + i)
        over = False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(team(observation["obs"], rng))
            rewards[i] += reward
            over = terminated or truncated
    return rewards


if __name__ == "__main__":
    for name, team in TEAMS.items():
        rewards = play(team, 200)
        error = rewards.std() / len(rewards) ** 0.5
        print(f"{name}: {rewards.mean():.1f}, standard error {error:.1f}")
