"""What QMIX and VDN learn in a game that no monotonic mixer can represent.

    python docs/tools/monotonic_game.py > table.md

The program prints Q_tot of the joint actions, and the action and reward of the greedy team. It
trains with agents that always act at random, and with epsilon falling from 1 to 0.1. The game is
that of the tests, so start the program from the root of the repository.
"""

from dataclasses import dataclass
from itertools import product

import tyro
from two_step_game import arguments, in_a_cell, print_row, q_tot, train  # in this folder

from cleanmarl import qmix
from cleanmarl.training import acting

GAME = "nonmonotonic_game"


@dataclass
class Args:
    random_episodes: int = 5000
    """episodes with agents that always act at random"""
    falling_episodes: int = 2000
    """episodes with a falling epsilon"""
    seeds: tuple[int, ...] = (1, 2, 3)
    """seeds of each row"""


def payoffs(env) -> list[list[float]]:
    """The reward of each joint action, [2, 2]."""
    paid = [[0.0, 0.0], [0.0, 0.0]]
    for first, second in product(range(2), repeat=2):
        env.reset()
        _, paid[first][second], *_ = env.step([first, second])
    return paid


def print_learned(epsilon: str, options: dict):
    """Train, and print a row."""
    greedy_return, networks, env = train(arguments(GAME, **options))
    observation, _ = env.reset()
    chosen = acting(networks.target_agent)(observation["obs"]).argmax(-1)
    values = in_a_cell(q_tot(networks, observation), 1)
    actions = "".join(map(str, chosen))
    name = options["mixer"].upper()
    print_row(name, epsilon, str(options["seed"]), values, actions, f"{greedy_return:.0f}")


def main(args: Args):
    print_row("", "epsilon", "seed", "joint actions 00, 01 / 10, 11", "greedy", "its payoff")
    print_row(*["---"] * 6)
    env = qmix.open_env(arguments(GAME))
    print_row("payoffs", "", "", in_a_cell(payoffs(env), 1), "", "")
    stays = {"total_timesteps": args.random_episodes}
    falls = {"total_timesteps": args.falling_episodes, "end_e": 0.1, "exploration_fraction": 0.5}
    for mixer in ("qmix", "vdn"):
        for epsilon, options in {"1": stays, "1 to 0.1": falls}.items():
            for seed in args.seeds:
                own = {"mixer": mixer, "seed": seed, "learning_rate": 0.005}
                print_learned(epsilon, own | options)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
