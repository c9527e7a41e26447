"""The original SMAClite (package `smaclite`), to compare the compiled engine with."""

import random
from contextlib import contextmanager

import gymnasium
import numpy as np

from cleanmarl.env import TeamEnv, unknown


class UpstreamSMAClite(TeamEnv):
    """Terminated when a side has died out; `info["battle_won"]` then.

    The original has no time limit; None stands for SMAC's of that map, or for none on maps that SMAC does not have.
    """

    def __init__(self, env_name: str, kwargs: dict, *, time_limit: int | None, **team): ...
