"""Runs and episodes to watch."""

from pathlib import Path

import numpy as np
import torch

from cleanmarl.watch.episodes import Episode, play
from cleanmarl.watch.explain import explain
from cleanmarl.watch.trained import load
from tests.helpers import LBF, TWO_STEPS

SPREAD = {"env_type": "pz", "env_family": "mpe", "env_name": "simple_spread_v3"}
SPREAD |= {"total_timesteps": 60}
# Runs to watch: a script and its arguments
RUNS = {
    "battle": ("qmix", {"env_name": "3m", "total_timesteps": 1200, "td_lambda": 0.9}),
    "shields": ("qmix_lstm", {"env_name": "2s3z", "time_limit": 20, "rnn": "lstm"}),
    "sum": ("qmix_multienvs", {"env_name": "3m", "time_limit": 20, "mixer": "vdn"}),
    "foraging": ("qmix_memefficient", LBF | {"time_limit": 12}),
    "spread": ("qmix", SPREAD | {"time_limit": 12}),
    "no scene": ("qmix", TWO_STEPS),
    "random": ("qmix", {"env_name": "terran_4_vs_4", "time_limit": 20}),
    "own": ("qmix", {"env_type": "pz", "env_family": "tests.games", "env_name": "faulty"}),
}


def make_random(path: Path):
    """Give networks other weights, so that their agents move about."""
    torch.manual_seed(1)
    model = torch.load(path, weights_only=True)
    for part in ("target_agent", "target_mixer"):
        for weights in model[part].values():
            weights.normal_()
    torch.save(model, path)


def thoughts(folder: Path, number: int = 0) -> tuple:
    """A run, the arrays of one of its episodes, and its networks' values."""
    run = load(folder, "last", number + 1)
    episode = play(run)[0][number].arrays()
    return run, episode, explain(run, episode)


def episode_of(*rewards: float, action: int = 0) -> Episode:
    seen = {"obs": np.zeros((1, 2)), "state": np.zeros(2), "avail_actions": np.ones((1, 3))}
    steps = len(rewards)
    return Episode(0, [seen] * (steps + 1), [np.array([action])] * steps, list(rewards))


def refused(answer: tuple[int, str, str], *parts: str):
    status, out, err = answer
    assert (status, out) == (2, "")
    assert err.startswith("watch: error: ") and err.count("\n") == 1
    for part in parts:
        assert part in err


def moving_about(q_values, observation: dict, epsilon: float, rng) -> np.ndarray:
    """Actions that do not fight: the episode lasts, and its numbers vary."""
    mask = np.array(observation["avail_actions"], float)
    mask[:, 6:] = 0
    return (mask * rng.random(mask.shape)).argmax(-1)
