"""What QMIX and VDN learn in the two-step game of Rashid et al. (2018), section 5.

    python docs/tools/two_step_game.py > table.md

The program prints Q_tot of the joint actions after random episodes, beside the table of the paper.
The game is that of the tests, so start the program from the root of the repository.
"""

import contextlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from cleanmarl import qmix
from cleanmarl.training import load_model

# From the paper's appendix: one hidden layer of 64 units, a mixing network of 8 units, and target
# networks that are copied every 100 episodes
OPTIONS = {
    "start_e": 1,
    "end_e": 1,
    "greedy_episodes": 0,
    "gamma": 0.99,
    "td_lambda": 0,
    "buffer_size": 500,
    "batch_size": 32,
    "optimizer": "RMSprop",
    "learning_rate": 0.0005,
    "target_network_update_freq": 100,
    "polyak": 1,
    "num_layers": 0,
    "hyper_dim": 8,
    "eval_steps": 1000,
    "log_every": 1000,
}
PAPER = {
    "qmix": {
        "1": [[6.93, 6.93], [7.92, 7.92]],
        "2A": [[7.0, 7.0], [7.0, 7.0]],
        "2B": [[0.0, 1.0], [1.0, 8.0]],
    },
    "vdn": {
        "1": [[6.94, 6.94], [6.35, 6.36]],
        "2A": [[6.99, 7.02], [6.99, 7.02]],
        "2B": [[-1.87, 2.31], [2.33, 6.51]],
    },
}


@dataclass
class Args:
    episodes: int = 5000
    """random episodes to learn from"""


def arguments(game: str, **options) -> qmix.Args:
    """Arguments to train in a game of the tests."""
    task = {"env_type": "pz", "env_family": "tests.games", "env_name": game}
    return qmix.Args(**task | OPTIONS | options)


def train(args: qmix.Args) -> tuple[float, qmix.Networks, object]:
    """The return of the greedy team, the trained networks, and an environment."""
    with tempfile.TemporaryDirectory() as parent, contextlib.redirect_stdout(sys.stderr):
        folder = Path(parent) / "run"
        results = qmix.train(args, folder=folder)
        env = qmix.open_env(args)
        networks = qmix.Networks(args, env)
        load_model(folder, "last", **dict(networks.named_children()))
    return results["eval/ep_reward"], networks, env


@torch.no_grad()
def q_tot(networks: qmix.Networks, observation: dict) -> list:
    """Q_tot of all joint actions, as lists: [actions of agent 1, actions of agent 2, ...]."""
    obs = torch.from_numpy(observation["obs"])
    q = networks.target_agent(obs)  # [n_agents, n_actions]
    joint = torch.cartesian_prod(*q)  # [joint actions, n_agents]
    state = torch.from_numpy(observation["state"]).expand(len(joint), -1)
    n_agents, n_actions = q.shape
    return networks.target_mixer(joint, state).view([n_actions] * n_agents).tolist()


def learned_values(networks: qmix.Networks, env) -> dict[str, list[list[float]]]:
    """Q_tot of the joint actions in each state of the two-step game."""
    first, _ = env.reset()
    values = {"1": q_tot(networks, first)}
    for action, name in enumerate(("2A", "2B")):
        env.reset()
        second, *_ = env.step([action, 0])
        values[name] = q_tot(networks, second)
    return values


def in_a_cell(table: list[list[float]], digits: int) -> str:
    """6.93, 6.93 / 7.92, 7.92"""
    return " / ".join(", ".join(f"{q:z.{digits}f}" for q in row) for row in table)


def print_row(*cells: str):
    print("|", " | ".join(cells), "|", flush=True)


def main(args: Args):
    print_row("", "state 1", "state 2A", "state 2B", "greedy return")
    print_row(*["---"] * 5)
    for mixer, paper in PAPER.items():
        options = {"mixer": mixer, "total_timesteps": 2 * args.episodes}
        greedy_return, networks, env = train(arguments("two_step_game", **options))
        learned = learned_values(networks, env)
        name = mixer.upper()
        print_row(f"{name}, the paper", *(in_a_cell(paper[state], 2) for state in paper), "")
        here = [in_a_cell(learned[state], 2) for state in paper]
        print_row(f"{name}, here", *here, f"{greedy_return:.0f}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
