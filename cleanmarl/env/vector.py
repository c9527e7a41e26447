"""Environments that step together: in processes that may fail, and restored from a checkpoint."""

import multiprocessing
import queue
import signal
import threading
import time
from contextlib import contextmanager
from multiprocessing import forkserver

import numpy as np
from gymnasium.vector import AsyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState

from cleanmarl.errors import EnvFault


class ErrorInProcess(Exception):
    """The traceback of an error in another process, to be printed above the error."""

    def __str__(self) -> str:
        return "\n" + self.args[0]


class ProcessEnvs(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv`, but errors of processes are raised as they were there.

    A RuntimeError says which process has died.
    """

    last_seeds: list[int] | int | None = None

    def reset(self, *, seed=None, options=None):
        self.last_seeds = seed
        return self.watched(super().reset, seed=seed, options=options)

    def step(self, actions):
        return self.watched(super().step, actions)

    def _raise_if_errors(self, successes):
        """Raise the error of the first process that reports one."""
        failed = [index for index, success in enumerate(successes) if not success]
        if not failed:
            return
        try:
            errors = [self.error_queue.get(timeout=10) for _ in failed]
        except Exception as reason:
            if isinstance(reason, queue.Empty):
                reason = "it cannot be sent to the main process"
            raise RuntimeError(f"environment {failed[0]} has raised an error: {reason}") from None
        finally:
            self._state = AsyncState.DEFAULT
            self.close(terminate=True)
        index, _, error, trace = min(errors, key=lambda one: one[0])
        if isinstance(error, EnvFault):
            raise EnvFault(f"environment {index}: {error}")
        raise error from ErrorInProcess(trace)

    def watched(self, call, *args, **options):
        try:
            return call(*args, **options)
        except (EOFError, OSError) as error:
            time.sleep(0.1)  # until the system knows that the process has died
            dead = [i for i, process in enumerate(self.processes) if not process.is_alive()]
            self.close(terminate=True)
            seeds = self.last_seeds if isinstance(self.last_seeds, list) else [None] * self.num_envs
            about = ", ".join(f"{i} (last reset with seed {seeds[i]})" for i in dead)
            raise RuntimeError(f"the process of environment {about} died") from error


@contextmanager
def ctrl_c_waits():
    """Delay Ctrl-C while processes start: a half-started process would print a traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fork server inherits this
    try:
        if "forkserver" in multiprocessing.get_all_start_methods():
            forkserver.ensure_running()
        signal.signal(signal.SIGINT, lambda *_: came.append(True))
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


class RecordedEnvs:
    """Environments that step together, and a record of the current episode of each.

    Make the environments with `autoreset_mode=AutoresetMode.DISABLED`.

    Attributes:
        observation: the last one, [num_envs, ...] of each key
        observations: for each environment, its observations since its reset
        steps: for each environment, (actions, reward, terminated, truncated) of each step since
            its reset
    """

    def __init__(self, envs: VectorEnv):
        self.envs = envs
        self.seeds = [0] * envs.num_envs
        self.observation: dict[str, np.ndarray] = {}
        self.observations: list[list[dict]] = [[] for _ in self.seeds]
        self.steps: list[list[tuple]] = [[] for _ in self.seeds]

    def reset(self, where: np.ndarray, seeds: list[int]):
        """Reset each environment i with seeds[i], if `where` [num_envs] is True for it."""
        for i in np.flatnonzero(where):
            self.seeds[i] = seeds[i]
            self.observations[i] = []
            self.steps[i] = []
        self.observation, _ = self.envs.reset(seed=self.seeds, options={"reset_mask": where})
        self.record(np.flatnonzero(where))

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, dict]:
        """Take actions [num_envs, n_agents]; returns which episodes are over, and the infos."""
        self.observation, reward, terminated, truncated, infos = self.envs.step(actions)
        answers = zip(actions, reward.tolist(), terminated, truncated, strict=True)
        for steps, answer in zip(self.steps, answers, strict=True):
            steps.append(answer)
        self.record(range(len(actions)))
        return terminated | truncated, infos

    def record(self, where):
        for i in where:
            seen = {key: rows[i] for key, rows in self.observation.items()}
            self.observations[i].append(seen)

    def state_dict(self) -> dict:
        """The seeds and the actions of the current episodes."""
        taken = []
        for steps in self.steps:
            over = bool(steps) and bool(steps[-1][2] or steps[-1][3])
            taken.append([] if over else [actions.tolist() for actions, *_ in steps])
        return {"seeds": list(self.seeds), "taken": taken}

    def load_state_dict(self, state: dict):
        """Replay the episodes. Raises ValueError if an environment is not deterministic."""
        observation, observed, steps = replay(self.envs, state["seeds"], state["taken"])
        self.seeds = list(state["seeds"])
        self.observation = observation
        self.observations = observed
        self.steps = [[(*step, False, False) for step in part] for part in steps]


def replay(envs: VectorEnv, seeds: list[int], taken: list[list]) -> tuple[dict | None, list, list]:
    """Replay episodes: reset environment i with seeds[i], and take the actions taken[i].

    All replays end at the same step: an environment with fewer actions is reset at every step
    until it starts. The caller must reset an environment without actions.

    Returns the last observation and, for each environment, a list of its observations and a list
    of (actions, reward). Raises ValueError if an environment is not deterministic: an action is
    no longer available, or an episode ends early.
    """
    longest = max(map(len, taken))
    observation = None
    observed = [[] for _ in taken]
    steps = [[] for _ in taken]
    for step in range(longest):
        places = [step - longest + len(actions) for actions in taken]
        waits = np.array(places) <= 0
        if waits.any():
            observation, _ = envs.reset(seed=seeds, options={"reset_mask": waits})
        available = observation["avail_actions"]
        actions = available.argmax(-1)
        for i, place in enumerate(places):
            if place == 0:
                observed[i].append({key: rows[i] for key, rows in observation.items()})
            if place >= 0:
                actions[i] = taken[i][place]
        if not np.take_along_axis(available, actions[..., None], -1).all():
            raise ValueError("an action is no longer available")
        observation, reward, terminated, truncated, _ = envs.step(actions)
        for i, place in enumerate(places):
            if place >= 0 and (terminated[i] or truncated[i]):
                raise ValueError("an episode ends early")
            if place >= 0:
                observed[i].append({key: rows[i] for key, rows in observation.items()})
                steps[i].append((actions[i], reward[i].item()))
    return observation, observed, steps
