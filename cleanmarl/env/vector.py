"""Environments that step together: in processes that may fail, and restored from a checkpoint."""

import multiprocessing
import os
import queue
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, parent_process
from multiprocessing.connection import wait
from pathlib import Path

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState, _async_worker

from cleanmarl.env.team import REPORTS
from cleanmarl.errors import EnvFault, RunFailed

PATIENCE = 3.0  # seconds in which a process may close its environment
HURRY = 1.0  # the same, if it does not even answer
UNGUARDED = 96  # exit status of a process that would start others while it imports the user's file
FORK_SERVER_GONE = 255  # exit status of which multiprocessing knows nothing


class ErrorInProcess(Exception):
    """The traceback of an error in another process, to be printed above the error."""

    def __str__(self) -> str:
        return "\n" + self.args[0]


class StartStopped:
    """Whether Ctrl-C came while the processes of environments start."""

    asked = False


def stop_start():
    if StartStopped.asked:
        raise KeyboardInterrupt


def serve(*arguments):
    """Gymnasium's worker, but it ends in silence when the main process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Only the parent reacts to a terminal's Ctrl-C
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        _async_worker(*arguments)
    except OSError:
        parent_process().join(1)
        if parent_process().is_alive():
            raise


class SeedsAll(gymnasium.Wrapper):
    """An environment in a process of its own, whose seed is also that of the process.

    Processes begin with the same random numbers, so environments that draw from `np.random`,
    `random` or PyTorch would all draw alike.
    """

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed % 2**32)
            if "torch" in sys.modules:
                sys.modules["torch"].manual_seed(seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, actions):
        *answer, info = self.env.step(actions)
        return *answer, {name: info[name] for name in REPORTS if name in info}  # all that is read


class NeverPlayed(gymnasium.Wrapper):
    """An environment of which the main process only reads the spaces: it may fail to close."""

    def close(self):
        with suppress(Exception):
            self.env.close()


def end_with_parent():
    """End this process some seconds after the main process, also within an endless step."""
    parent_process().join()
    time.sleep(PATIENCE)
    os._exit(1)


class ProcessEnvs(AsyncVectorEnv):
    """Gymnasium's `AsyncVectorEnv`, but errors of processes are raised as they were there.

    RunFailed says which process has died, where, and by which signal or exit status.

    Attributes:
        while_waiting: called at least twice a second while an answer is not there; it may raise
    """

    def __init__(self, env_fns: list[Callable], **options):
        self.while_waiting: Callable = stop_start
        self.seeds = [None] * len(env_fns)
        self.episodes = np.zeros(len(env_fns), int)  # resets
        self.steps = np.zeros(len(env_fns), int)  # since the last reset
        super().__init__(env_fns, worker=serve, **options)
        self.while_waiting = lambda: None

    def _check_spaces(self):
        """Wait until all environments are open, and compare them."""
        try:
            self.call("render_mode")
            self.watched(super()._check_spaces)
        except BaseException:
            self.close()
            raise

    def reset(self, *, seed=None, options=None):
        begins = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        for i in np.flatnonzero(begins):
            self.seeds[i] = seed[i] if isinstance(seed, list) else seed
        self.episodes += begins
        self.steps[begins] = 0
        return self.watched(super().reset, seed=seed, options=options)

    def step(self, actions):
        self.steps += 1
        return self.watched(super().step, actions)

    def call(self, name, *args, **kwargs):
        return self.watched(super().call, name, *args, **kwargs)

    def _poll_pipe_envs(self, timeout=None):
        """Wait until all processes have answered, or have died."""
        if timeout is not None:
            return super()._poll_pipe_envs(timeout)
        for pipe in self.parent_pipes:
            while not pipe.poll(0.5):
                self.while_waiting()
        return True

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
            self.close()
        index, _, error, trace = min(errors, key=lambda one: one[0])
        if isinstance(error, EnvFault):
            raise EnvFault(f"environment {index}: {error}")
        raise error from ErrorInProcess(trace)

    def watched(self, call, *args, **options):
        """Make a call to all processes. Raises RunFailed if one of them has died."""
        try:
            return call(*args, **options)
        except (EOFError, OSError) as error:
            if self.closed:  # an error of the user's own code
                raise
            wait([process.sentinel for process in self.processes], timeout=PATIENCE)
            codes = [process.exitcode for process in self.processes]
            if UNGUARDED in codes:
                refuse_unguarded()
            if -signal.SIGTERM in codes or FORK_SERVER_GONE in codes:
                self.wait_for_stop()
            self.close()
            dead = [i for i, code in enumerate(codes) if code is not None]
            if not dead:
                raise
            raise RunFailed("; ".join(self.death(i, codes[i]) for i in dead)) from error

    def wait_for_stop(self):
        """Somebody ends processes: wait whether the main process is asked to stop, too."""
        deadline = time.monotonic() + 2 * PATIENCE
        while time.monotonic() < deadline:
            self.while_waiting()
            time.sleep(0.1)

    def death(self, i: int, code: int) -> str:
        """How and where the process of environment i has died, for an error message."""
        how = f"with exit status {code}"
        if code < 0:
            how = f"by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (perhaps because memory is used up)"
        where = f"died in episode {self.episodes[i]} (seed {self.seeds[i]})"
        where += f", step {self.steps[i]}" if self.steps[i] else ", at its reset"
        if self.episodes[i] == 0:
            where = "died while it was opened"
        elif self.autoreset_mode != AutoresetMode.DISABLED:
            where = f"(last reset with seed {self.seeds[i]}) died"
        return f"the process of environment {i} {where}: it ended {how}"

    def close_extras(self, timeout=None, terminate=False):
        """Let the processes close their environments, and kill those that take too long."""
        for pipe in self.parent_pipes:
            with suppress(OSError):
                pipe.send(("close", None))
        pending = self._state != AsyncState.DEFAULT
        began = time.monotonic()
        for pipe, process in zip(self.parent_pipes, self.processes, strict=True):
            patience = HURRY if pending and not pipe.poll() else PATIENCE
            process.join(max(0.0, began + patience - time.monotonic()))
            if process.is_alive():
                if not pending:
                    slow = f"environment {process.name} did not close within {PATIENCE:.0f} s"
                    print(f"warning: {slow}: its process is killed", file=sys.stderr)
                process.kill()
                process.join()
        for pipe in self.parent_pipes:
            pipe.close()


def refuse_unguarded():
    """End a program whose file starts processes whenever it is imported."""
    file = Path(sys.modules["__main__"].__file__).name
    remedy = 'write if __name__ == "__main__": above the code that trains, and indent that code'
    reason = f"the process of each environment imports {file}"
    print(f"{file}: error: {remedy}, because {reason}", file=sys.stderr)
    sys.exit(2)


def start_fork_server():
    """Start it, and a tracker of semaphores that removes those of a killed program in silence."""
    before = os.environ.get("PYTHONWARNINGS")
    quiet = "ignore::UserWarning:multiprocessing.resource_tracker"
    os.environ["PYTHONWARNINGS"] = f"{before},{quiet}" if before else quiet
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


@contextmanager
def ctrl_c_waits():
    """Delay Ctrl-C while processes start: a half-started process would print a traceback."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        os._exit(UNGUARDED)  # this process only imports the user's file
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def later(number: int, frame):
        StartStopped.asked = True
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends the program at once

    StartStopped.asked = False
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fork server inherits this
    try:
        if "forkserver" in multiprocessing.get_all_start_methods():
            start_fork_server()
        signal.signal(signal.SIGINT, later)
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    stop_start()


class RecordedEnvs:
    """Environments that step together, and a record of the current episode of each.

    Make the environments with `autoreset_mode=AutoresetMode.DISABLED`.

    Args:
        while_waiting: called twice a second while a process does not answer; it may raise

    Attributes:
        observation: the last one, [num_envs, ...] of each key
        observations: for each environment, its observations since its reset
        steps: for each environment, (actions, reward, terminated, truncated) of each step since
            its reset
    """

    def __init__(self, envs: VectorEnv, while_waiting: Callable = lambda: None):
        self.envs = envs
        self.envs.while_waiting = while_waiting
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
