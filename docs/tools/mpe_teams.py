"""Rewards of hand-written teams on tasks of MPE, to compare learned teams with.

python docs/tools/mpe_teams.py --tasks simple_spread_v3 tag

Teams act on what their agents observe, except those that know or share, which exchange it. A reward
is the sum over agents and over the 25 steps of an episode.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

import numpy as np
import tyro

from cleanmarl.env import make_env

GAMES = "cleanmarl.benchmark.games"
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]])
WALKS = len(MOVES)

Team = Callable[[np.ndarray], np.ndarray]
"""Observations [n_agents, obs_size] -> actions [n_agents]."""


def standing_still(obs: np.ndarray) -> np.ndarray:
    return np.zeros(len(obs), int)


# simple_spread: three agents cover three landmarks


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


def to_the_nearest(obs: np.ndarray) -> np.ndarray:
    places, distance = landmarks(obs)
    return steps_to(places[distance.argmin(-1)], obs)


def each_to_its_own(obs: np.ndarray) -> np.ndarray:
    places, _ = landmarks(obs)
    return steps_to(places, obs)


def shared_by_distance(obs: np.ndarray) -> np.ndarray:
    places, distance = landmarks(obs)
    orders = list(permutations(range(3)))
    lengths = [distance[range(3), order].sum() for order in orders]
    return steps_to(places[list(orders[np.argmin(lengths)])], obs)


# Speakers and listeners: an agent walks to the landmark that another agent sees


def walk(away: np.ndarray, velocity: np.ndarray) -> int:
    """The move that brings an agent nearest to its target, `away` from it, two steps later."""
    ahead = away - 0.175 * velocity  # 0.1 s at each step, a quarter of the velocity lost
    return int(np.linalg.norm(ahead - 0.05 * MOVES, axis=-1).argmin())


def places_of(own: np.ndarray) -> np.ndarray:
    """The three landmarks as a listener sees them, [3, 2]."""
    return own[2:8].reshape(3, 2)


def target_of(own: np.ndarray, said: np.ndarray) -> np.ndarray:
    """The landmark of which a listener was told or, before it was, the middle of all."""
    places = places_of(own)
    return places[said.argmax()] if said.any() else places.mean(0)


def listener_is_told(obs: np.ndarray) -> np.ndarray:
    """The speaker says the colour; the listener hears it one step later."""
    speaker, listener = obs
    return np.array([speaker[:3].argmax(), walk(target_of(listener, listener[8:11]), listener[:2])])


def listener_knows(obs: np.ndarray) -> np.ndarray:
    """As if the listener saw the goal from the start."""
    speaker, listener = obs
    goal = speaker[:3].argmax()
    return np.array([goal, walk(places_of(listener)[goal], listener[:2])])


def each_tells_the_other(obs: np.ndarray) -> np.ndarray:
    words = obs[:, 8:11].argmax(-1)  # the colour of the other agent's goal
    moves = [walk(target_of(own, own[11:14]), own[:2]) for own in obs]
    return WALKS * words + moves


def each_knows(obs: np.ndarray) -> np.ndarray:
    """As if each saw its own goal from the start."""
    goals = obs[::-1, 8:11].argmax(-1)
    moves = [walk(places_of(own)[goal], own[:2]) for own, goal in zip(obs, goals, strict=True)]
    return WALKS * goals[::-1] + moves


# Predators and prey


def run_to(away: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Actions towards what is `away` [n_agents, 2] from each agent, along the longer axis first."""
    ahead = away - 0.3 * velocity
    axis = np.abs(ahead).argmax(-1)
    return 1 + 2 * axis + (np.take_along_axis(ahead, axis[:, None], -1)[:, 0] > 0)


def to_the_prey(obs: np.ndarray) -> np.ndarray:
    return run_to(obs[:, 12:14], obs[:, :2])


def ahead_of_the_prey(obs: np.ndarray) -> np.ndarray:
    return run_to(obs[:, 12:14] + 0.3 * obs[:, 14:16], obs[:, :2])


def ahead_of_the_nearest_prey(obs: np.ndarray) -> np.ndarray:
    """Each hunts the nearest prey that it sees; hidden ones are at (0, 0)."""
    prey = obs[:, 20:24].reshape(-1, 2, 2)
    velocity = obs[:, 24:28].reshape(-1, 2, 2)
    hidden = ~prey.any(-1)
    nearest = np.where(hidden, np.inf, np.linalg.norm(prey, axis=-1)).argmin(-1)
    each = range(len(obs))
    return run_to(prey[each, nearest] + 0.3 * velocity[each, nearest], obs[:, :2])


TASKS = {
    "simple_spread_v3": {
        "each to the nearest landmark": to_the_nearest,
        "each to its own landmark": each_to_its_own,
        "shared by distance": shared_by_distance,
    },
    "simple_speaker_listener_v4": {
        "listener is told": listener_is_told,
        "listener knows": listener_knows,
    },
    "simple_reference_v3": {
        "each tells the other": each_tells_the_other,
        "each knows": each_knows,
    },
    "tag": {
        "to the prey": to_the_prey,
        "ahead of the prey": ahead_of_the_prey,
    },
    "world_comm": {"ahead of the nearest prey": ahead_of_the_nearest_prey},
}


@dataclass
class Args:
    tasks: tuple[Literal[tuple(TASKS)], ...] = tuple(TASKS)
    """tasks of MPE, or of cleanmarl.benchmark.games"""
    episodes: int = 200
    """episodes of each team"""


def open_task(task: str):
    return make_env("pz", task, "mpe" if task.startswith("simple_") else GAMES)


def teams_of(task: str, env) -> dict[str, Team]:
    env.action_space.seed(0)
    at_random = {"at random": lambda obs: env.action_space.sample()}
    return at_random | {"standing still": standing_still} | TASKS[task]


def play(env, team: Team, episodes: int) -> np.ndarray:
    """The rewards of episodes, [episodes]."""
    rewards = np.zeros(episodes)
    for i in range(episodes):
        observation, _ = env.reset(seed=1000 + i)
        over = False
        while not over:
            actions = team(observation["obs"])
            observation, reward, terminated, truncated, _ = env.step(actions)
            rewards[i] += reward
            over = terminated or truncated
    return rewards


def main(args: Args):
    for task in args.tasks:
        env = open_task(task)
        for name, team in teams_of(task, env).items():
            rewards = play(env, team, args.episodes)
            error = rewards.std() / len(rewards) ** 0.5
            print(f"{task}, {name}: {rewards.mean():.1f}, standard error {error:.1f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
