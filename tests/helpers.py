"""Helpers of several test files: the scripts, small trainings, and their results."""

import contextlib
import importlib
import io
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[1]
SCRIPTS = ["qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm"]
MODULES = {script: importlib.import_module(f"cleanmarl.{script}") for script in SCRIPTS}
SOURCES = {script: (ROOT / "cleanmarl" / f"{script}.py").read_text() for script in SCRIPTS}

# Environments: an episode of the two-step game has two steps
TWO_STEPS = {"env_type": "pz", "env_family": "tests.games", "env_name": "two_step_game"}
LBF = {"env_type": "lbf", "env_name": "Foraging-8x8-2p-3f-v3"}
SPREAD = {"env_type": "pz", "env_name": "simple_spread_v3"}

SMALL = {"hidden_dim": 8, "hyper_dim": 8, "td_lambda": 0.0, "double_q": False}
SMALL |= {"greedy_episodes": 0.0}
SMALL |= {"total_timesteps": 40, "batch_size": 2, "buffer_size": 20, "num_eval_ep": 1}
SMALL |= {"torch_threads": 1}
OWN = {"qmix_multienvs": {"num_envs": 2}}

every_script = pytest.mark.parametrize("script", SCRIPTS)
properties = settings(deadline=None, max_examples=40, derandomize=True)
seeds = st.integers(0, 2**32 - 1)


def small_args(script: str, **options):
    """Arguments of a script for a very short training."""
    return MODULES[script].Args(**SMALL | OWN.get(script, {}) | options)


def trained(script: str, folder: Path, **options) -> Path:
    """Train a script with small arguments in a new folder; returns the folder."""
    MODULES[script].train(small_args(script, **options), folder=folder)
    return folder


def run_program(program: str, *arguments: str) -> tuple[int, str, str]:
    """Run a program in this process, which is faster; returns exit status, output, errors.

    `program` is the path of a file, or the name of a module, as after `python -m`.
    """
    out, err, status = io.StringIO(), io.StringIO(), 0
    threads = torch.get_num_threads()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", [program, *arguments])
        try:
            if program.endswith(".py"):
                patch.syspath_prepend(str(Path(program).parent))  # as Python does
                runpy.run_path(program, run_name="__main__")
            else:
                patch.delitem(sys.modules, f"{program}.__main__", raising=False)
                runpy.run_module(program, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            status = end.code or 0
    torch.set_num_threads(threads)
    return status, out.getvalue(), err.getvalue()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each point of the curves of a run."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    names = events.Tags()["scalars"]
    return {name: [(point.step, point.value) for point in events.Scalars(name)] for name in names}


def values_of(folder: Path, name: str) -> list[float]:
    """The values of one curve of a run."""
    return [value for _, value in scalars(folder)[name]]


def weights(folder: Path, name: str = "model.pt") -> dict[str, torch.Tensor]:
    """The weights of all networks that a run saved."""
    model = torch.load(folder / name, weights_only=True)
    del model["step"]
    return {f"{part}.{name}": value for part, of in model.items() for name, value in of.items()}


def equal_weights(one: Path, other: Path) -> bool:
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def random_availability(*shape: int) -> torch.Tensor:
    """[..., n_actions] of 0 and 1, with at least one 1 for each agent."""
    available = torch.rand(shape) < 0.5
    available.scatter_(-1, torch.randint(shape[-1], (*shape[:-1], 1)), True)
    return available.to(torch.int8)


def actions_of(act: Callable, q, available, times: int) -> np.ndarray:
    """The actions of `act` for repeated identical observations: [times, ...].

    Agents observe their action values, so the network can be the identity.
    """
    observation = {"obs": np.asarray(q, np.float32)}
    observation["avail_actions"] = np.asarray(available, np.int8)
    return np.stack([act(observation) for _ in range(times)])


def numbered_episode(number: int, length: int) -> dict[str, np.ndarray]:
    """A marked episode: reward and observations of step t are 100 number + t."""
    marks = 100 * number + np.arange(length + 1, dtype=np.float32)
    return {
        "obs": np.tile(marks[:, None, None], (1, 2, 3)),
        "state": marks[:, None],
        "avail_actions": np.ones((length + 1, 2, 4), np.int8),
        "actions": np.ones((length, 2), int),
        "reward": marks[:-1],
        "terminated": np.zeros(length, np.float32),
    }


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
