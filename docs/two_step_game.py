"""The two-step game of Rashid et al. (2018), section 5, learned by QMIX and by VDN:

    python docs/two_step_game.py > table.md

prints what each of them learned of Q_tot after 5000 random episodes, beside the table in the paper.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the game is a file of the tests
from cleanmarl import qmix

# From the paper's appendix: one hidden layer of 64 units, a mixing network of 8 units, and target
# networks that are copied every 100 episodes
OPTIONS = {"total_timesteps": 10000, "start_e": 1, "end_e": 1, "gamma": 0.99}
OPTIONS |= {"buffer_size": 500, "batch_size": 32, "target_network_update_freq": 100, "polyak": 1}
OPTIONS |= {"optimizer": "RMSprop", "learning_rate": 0.0005, "td_lambda": 0, "double_q": False}
OPTIONS |= {"num_layers": 0, "hyper_dim": 8, "eval_steps": 1000, "log_every": 1000}
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


def train(game: str, mixer: str, **options) -> tuple[float, qmix.Networks, object]:
    """Train on a game of the tests: (return of the greedy team, trained networks, environment)."""
    task = {"env_type": "pz", "env_family": "tests.games", "env_name": game, "mixer": mixer}
    args = qmix.Args(**task | OPTIONS | options)
    with tempfile.TemporaryDirectory() as parent, contextlib.redirect_stdout(sys.stderr):
        folder = Path(parent) / "run"
        greedy_return = qmix.train(args, folder=folder)["eval/ep_reward"]
        weights = torch.load(folder / "model.pt", weights_only=True)
    env = qmix.open_env(args)
    networks = qmix.Networks(args, env)
    networks.agent.load_state_dict(weights["agent"])
    networks.mixer.load_state_dict(weights["mixer"])
    return greedy_return, networks, env


def learn(mixer: str, **options) -> tuple[float, dict[str, list[list[float]]]]:
    """Learn the two-step game: (return of the greedy team, Q_tot of each state's joint actions)."""
    greedy_return, networks, env = train("two_step_game", mixer, **options)
    observations = {"1": env.reset()[0]}
    for first_action, name in enumerate(("2A", "2B")):
        env.reset()
        observations[name] = env.step([first_action, 0])[0]
    learned = {name: q_tot(networks, seen) for name, seen in observations.items()}
    return greedy_return, learned


@torch.no_grad()
def q_tot(networks: qmix.Networks, observation: dict) -> list[list[float]]:
    q = networks.agent(torch.from_numpy(observation["obs"]))  # [n_agents, n_actions]
    joint = torch.cartesian_prod(*q)  # [4, n_agents]
    state = torch.from_numpy(observation["state"]).expand(4, -1)
    return networks.mixer(joint, state).view(2, 2).tolist()


def print_row(name: str, table: dict[str, list[list[float]]], greedy_return: str):
    cells = []
    for values in table.values():
        cells.append(" / ".join(", ".join(f"{q:z.2f}" for q in row) for row in values))
    print(f"| {name} | {' | '.join(cells)} | {greedy_return} |")


if __name__ == "__main__":
    print("| | state 1 | state 2A | state 2B | greedy return |\n| --- | --- | --- | --- | --- |")
    for mixer, paper in PAPER.items():
        greedy_return, learned = learn(mixer)
        print_row(f"{mixer.upper()}, the paper", paper, "")
        print_row(f"{mixer.upper()}, here", learned, f"{greedy_return:.0f}")
