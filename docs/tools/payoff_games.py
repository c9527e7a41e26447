"""What QMIX learns, with its defaults, in small games whose exact values are known.

    python docs/tools/payoff_games.py > table.md

The program prints the return of the greedy team beside the best one, and how far Q_tot is from the
exact values at most, in percent of the largest value: in the rooms, where the next step is the
last, and in the hall before. Exploring episodes are random to the end (`--end-e 1`), so all joint
actions are tried. Matrix games have no such columns: their values depend on how the learner treats
the time limit. Start the program in the root of the repository.
"""

import importlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import tyro
from two_step_game import print_row, q_tot, train  # in this folder

from cleanmarl import qmix

FAMILY = "cleanmarl.benchmark.games"
SEVENS = [[[7, 7], [7, 7]], [[7, 7], [7, 7]]]
ROOMS = {
    "rooms_game": {},
    "other numbers": {"rooms": [[[30, 30], [30, 30]], [[5, 10], [12, 60]]]},
    "small numbers": {"rooms": [[[0.3, 0.3], [0.3, 0.3]], [[0, 0.1], [0.1, 0.8]]]},
    "negative numbers": {"rooms": [[[-3, -3], [-3, -3]], [[-9, -8], [-8, -1]]], "wait": False},
    "unequal actions": {"rooms": [[[5, 5, 5], [5, 5, 5]], [[1, 2, 4], [2, 5, 12]]]},
    "without masks": {"masks": False},
    "three players": {"rooms": [SEVENS, [[[0, 1], [1, 4]], [[1, 4], [4, 20]]]]},
}
ROOMS["three players"] |= {"chooser": False, "wait": False, "gaps": 0, "masks": False}
GAMES = {
    "two_step_game": ("two_step_game", {}),
    **{name: ("rooms_game", options) for name, options in ROOMS.items()},
    "climbing_game": ("climbing_game", {}),
    **{f"penalty_game k={k}": ("penalty_game", {"k": k}) for k in (0, -25, -50, -75, -100)},
}


@dataclass
class Args:
    games: tuple[str, ...] = tuple(GAMES)
    """games of the table"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """seeds of each game"""
    total_timesteps: int = 50_000
    """environment steps of each training"""
    mixer: Literal["qmix", "vdn"] = "qmix"
    """qmix, or vdn, which can learn none of these games but the left rooms"""


def largest_errors(networks: qmix.Networks, env, game, gamma: float) -> dict[str, float]:
    """State -> the largest error of Q_tot over its joint actions, in percent of the best value."""
    exact = game.exact_values(gamma)
    largest = max(np.nanmax(np.abs(values)) for values in exact.values())
    errors = {}
    for state, values in exact.items():
        observation, _ = env.reset()
        for actions in game.way_to(state):
            observation, *_ = env.step(np.array(actions))
        learned = np.array(q_tot(networks, observation))
        real = tuple(slice(size) for size in values.shape)  # without padded actions
        errors[state] = 100 * np.nanmax(np.abs(learned[real] - values)) / largest
    return errors


def main(args: Args):
    print_row("game", "seed", "greedy return", "best return", "error in rooms", "in the hall")
    print_row(*["---"] * 6)
    for label in args.games:
        name, options = GAMES[label]
        game = importlib.import_module(f"{FAMILY}.{name}").parallel_env(**options)
        task = {"env_type": "pz", "env_family": FAMILY, "env_name": name, "env_options": options}
        own = {"end_e": 1, "total_timesteps": args.total_timesteps, "mixer": args.mixer}
        for seed in args.seeds:
            settings = qmix.Args(**task, **own, seed=seed)
            greedy_return, networks, env = train(settings)
            cells = ["", ""]
            if hasattr(game, "way_to"):
                hall, *rooms = largest_errors(networks, env, game, settings.gamma).values()
                cells = [f"{max(rooms):.1f}%", f"{hall:.1f}%"]
            print_row(label, str(seed), f"{greedy_return:g}", f"{game.optimum:g}", *cells)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
