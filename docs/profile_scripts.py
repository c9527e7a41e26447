"""Where the time of a training step goes in each script, and the floor beneath it.

    python docs/profile_scripts.py --scripts qmix qmix_lstm --maps 3m MMM

trains with the script's defaults and prints, in microseconds per environment step, what each part took: the script's
functions are replaced by ones that look at the clock when they are entered and left. What they cost themselves, about
a microsecond a call, is counted where it happens. The first fifth of the time does not count.
"""

import contextlib
import functools
import gc
import importlib
import io
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from unittest import mock

import torch
import tyro

PARTS = {  # the functions of a script, and what their time, without that of the ones they call, is counted as
    "act": "acting",
    "act_in_all": "acting",
    "collect_episode": "storing",
    "Collector.step": "storing",
    "EpisodeBuffer.store": "storing",
    "EpisodeBuffer.sample": "sampling",
    "qmix_loss": "forward",
    "episode_targets": "forward",
    "agent_inputs": "forward",
    "chunk_loss": "forward",
    "make_optimizer": "rest",
    "update": "optimizer",
    "Networks.update_targets": "optimizer",
    "evaluate": "evaluation",
    "Log.episode": "logging",
    "Log.training": "logging",
    "Log.write": "logging",
    "save": "logging",
}
ORDER = ["environment", "acting", "storing", "sampling", "forward", "backward"]
ORDER += ["optimizer", "evaluation", "logging", "rest"]


@dataclass
class Args:
    scripts: tuple[str, ...] = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
    """scripts to profile"""
    maps: tuple[str, ...] = ("3m", "2s3z", "MMM", "27m_vs_30m")
    """maps to train on"""
    seconds: float = 20.0
    """how long each training counts"""


class Clock:
    """Time by part; a part does not count while another one that it calls does, except within an evaluation."""

    def __init__(self):
        self.spent, self.parts, self.last = Counter(), ["rest"], time.perf_counter()

    def turn(self):
        now = time.perf_counter()
        self.spent[self.parts[-1]] += now - self.last
        self.last = now

    def timed(self, part: str, function):
        @functools.wraps(function)
        def call(*args, **options):
            self.turn()
            self.parts.append("evaluation" if "evaluation" in self.parts else part)
            try:
                return function(*args, **options)
            finally:
                self.turn()
                self.parts.pop()

        return call


def profile(script: str, map_name: str, seconds: float) -> tuple[float, dict[str, float]]:
    """Environment steps a second, and microseconds per step by part, of a training after its first fifth."""
    module, clock, stop, seen = importlib.import_module(f"cleanmarl.{script}"), Clock(), Event(), []
    args = module.Args(env_name=map_name, save_model=False)

    def watch(log, progress, episode, info):
        now = time.perf_counter()
        if not seen or (len(seen) == 1 and now - seen[0][0] > seconds / 4):
            seen.append((now, progress.step))
            clock.spent.clear()
        if now - seen[0][0] > seconds * 1.25:
            stop.set()
            seen.append((now, progress.step))
        return episode_logged(log, progress, episode, info)

    with contextlib.ExitStack() as patches:
        patch = lambda target, name, new: patches.enter_context(mock.patch.object(target, name, new))  # noqa: E731
        for name, part in PARTS.items():
            *owner, function = name.split(".")
            target = getattr(module, owner[0], None) if owner else module
            if hasattr(target, function):
                patch(target, function, clock.timed(part, getattr(target, function)))
        patch(torch.Tensor, "backward", clock.timed("backward", torch.Tensor.backward))
        episode_logged = module.Log.episode
        patch(module.Log, "episode", watch)
        env, eval_env = getattr(module, "open_envs", module.open_env)(args), module.open_env(args)
        for method in ("reset", "step"):
            patch(env, method, clock.timed("environment", getattr(env, method)))
        gc.freeze()  # as the script does
        folder = patches.enter_context(tempfile.TemporaryDirectory())
        patches.enter_context(contextlib.redirect_stdout(io.StringIO()))
        patches.enter_context(contextlib.redirect_stderr(io.StringIO()))
        module.train(args, env, eval_env, Path(folder), stop)
    (began, first), (ended, last) = seen[1:3]
    return (last - first) / (ended - began), {part: 1e6 * clock.spent[part] / (last - first) for part in ORDER}


def main(args: Args):
    print("| script | map | steps/s | " + " | ".join(ORDER) + " |")
    print("| --- | --- |" + " ---: |" * (len(ORDER) + 1))
    for script in args.scripts:
        for map_name in args.maps:
            rate, spent = profile(script, map_name, args.seconds)
            cells = [f"{spent[part]:.1f}" for part in ORDER]
            print(f"| `{script}.py` | {map_name} | {rate:,.0f} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
