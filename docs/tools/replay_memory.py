"""Memory of a full replay buffer of PyMARL, of `qmix.py` and of `qmix_memefficient.py`.

    python docs/tools/replay_memory.py > table.md

The program trains `qmix.py` on each map. It prints means over all episodes of the training, as each
of the three programs stores them.
"""

import contextlib
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import tyro

from cleanmarl import qmix, qmix_memefficient

CAPACITY = 5000  # episodes, the default of both scripts


@dataclass
class Args:
    maps: tuple[str, ...] = ("3m", "MMM", "corridor", "27m_vs_30m")
    """maps to train on"""
    total_timesteps: int = 200000
    """environment steps to train for on each map"""


class MeasuredBuffer(qmix_memefficient.EpisodeBuffer):
    """Record each episode's length and its bytes in both scripts.

    The buffer stores episodes in the memory-efficient form, because all episodes of 27m_vs_30m need
    8 GB in the other form. Learning is the same.
    """

    def __init__(self, capacity: int):
        super().__init__(capacity)
        self.reference = qmix.EpisodeBuffer(1)
        self.measured = []

    def store(self, episode: dict[str, np.ndarray]):
        super().store(episode)
        self.reference.store(episode)
        size = stored_bytes(self.reference.episodes[-1])
        lean_size = stored_bytes(self.episodes[-1])
        self.measured.append([len(episode["reward"]), size, lean_size])


def stored_bytes(episode: dict[str, np.ndarray]) -> int:
    return sum(array.nbytes for array in episode.values())


def pymarl_bytes(env) -> int:
    """Bytes of an episode in PyMARL's `ReplayBuffer`, from the scheme in its `run.py`.

    An episode has a row for each step up to the limit, and one more. There are no ids and no clock.
    """
    scheme = {
        "state": (env.state_size - 1, np.float32),
        "obs": (env.n_agents * (env.obs_size - env.n_agents - 1), np.float32),
        "actions": (env.n_agents, np.int64),
        "actions_onehot": (env.n_agents * env.n_actions, np.float32),
        "avail_actions": (env.n_agents * env.n_actions, np.int32),
        "reward": (1, np.float32),
        "terminated": (1, np.uint8),
        "filled": (1, np.int64),
    }
    row = sum(size * np.dtype(dtype).itemsize for size, dtype in scheme.values())
    return (env.time_limit + 1) * row


def measure(map_name: str, total_timesteps: int) -> tuple[float, int, dict[str, float]]:
    """Train on a map: mean episode length, the limit, and mean bytes of an episode per buffer."""
    args = qmix.Args(
        env_name=map_name,
        total_timesteps=total_timesteps,
        buffer_size=CAPACITY,
        eval_steps=10**9,
        num_eval_ep=1,
        checkpoint_every=10**9,
        checkpoint_buffer=False,
        save_model=False,
    )
    buffer = MeasuredBuffer(CAPACITY)
    with (
        tempfile.TemporaryDirectory() as parent,
        contextlib.redirect_stdout(sys.stderr),
        mock.patch.object(qmix, "EpisodeBuffer", lambda capacity: buffer),
    ):
        qmix.train(args, folder=Path(parent) / "run")
    length, reference, lean = np.mean(buffer.measured, axis=0)
    env = qmix.open_env(args)
    sizes = {"PyMARL": pymarl_bytes(env), "`qmix.py`": reference, "`qmix_memefficient.py`": lean}
    return length, env.time_limit, sizes


def in_units(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def print_row(*cells: str):
    print("|", " | ".join(cells), "|", flush=True)


def main(args: Args):
    full = f"{CAPACITY:,} episodes"
    head = ["map", "mean episode", "limit", "buffer", "bytes per transition", full, "relative"]
    print_row(*head)
    print_row("---", "---:", "---:", "---", "---:", "---:", "---:")
    for map_name in args.maps:
        length, limit, sizes = measure(map_name, args.total_timesteps)
        least = sizes["`qmix_memefficient.py`"]
        for buffer, size in sizes.items():
            cells = [map_name, f"{length:.1f}", str(limit), buffer, f"{size / length:,.0f}"]
            print_row(*cells, in_units(CAPACITY * size), f"{size / least:.2f}")


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
