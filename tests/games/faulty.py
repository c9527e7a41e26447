"""A game that answers wrongly, if it is told to: for tests of what a training then does."""

import os
import sys
import time
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class Faulty(ParallelEnv):
    """Three steps long, or endless. At step `at`, counted over all episodes, `fault` happens.

    From then on, each step waits until the file `until` exists, if one is named. `folder` becomes
    the current one at each reset.
    """

    metadata = {"name": "faulty"}  # noqa: RUF012
    possible_agents = ["red", "blue"]  # noqa: RUF012
    action_names = ["wait", "go"]  # noqa: RUF012

    def __init__(self, fault="", at=0, endless=False, pixels=0, pause=0.0, until="", folder=""):
        self.fault, self.at, self.endless, self.until = fault, at, endless, until
        self.pixels, self.pause, self.folder = pixels, pause, folder
        self.observation_names = [f"part {i}" for i in range(pixels or 3)]
        self.all_steps = 0

    def observation_space(self, agent):
        if self.pixels:
            return Box(0, 255, (self.pixels,), np.uint8)
        return Box(0, 1, (3,), np.float32)

    def action_space(self, agent):
        return Discrete(2)

    def reset(self, seed=None, options=None):
        self.rng = np.random.default_rng(seed)
        self.agents, self.steps = list(self.possible_agents), 0
        if self.folder:
            os.chdir(self.folder)
        return self.everyone(self.see), self.everyone(dict)

    def step(self, actions):
        time.sleep(self.pause)
        self.steps += 1
        self.all_steps += 1
        while self.until and self.all_steps >= self.at and not Path(self.until).exists():
            time.sleep(0.02)
        if self.due("crash"):
            raise IndexError("list index out of range")
        if self.due("exit"):
            sys.exit()  # as pygame's examples do when the window is closed
        if self.due("memory"):
            raise MemoryError("Unable to allocate 5.49 MiB")
        over = self.steps == 3 and not self.endless
        rewards = self.everyone(lambda: np.nan if self.due("reward") else 1.0)
        answer = (self.everyone(self.see), rewards, self.everyone(lambda: over))
        answer += (self.everyone(lambda: False), self.everyone(dict))
        if over:
            self.agents = []
        return answer

    def close(self):
        if self.fault == "close":
            self.rng.random()  # fails if no episode was played

    def due(self, fault):
        return self.fault == fault and self.all_steps == self.at

    def see(self):
        if self.pixels:
            return self.rng.integers(0, 256, self.pixels, np.uint8)
        seen = np.full(3, self.steps / 3, np.float32)
        if self.due("observation"):
            seen[1] = np.nan
        return seen

    def everyone(self, make):
        return {agent: make() for agent in self.agents}


def parallel_env(**options):
    return Faulty(**options)
