"""One Gymnasium interface over SMAClite, Level-Based Foraging and PettingZoo.

`make_env` makes one environment, `make_vector_env` several that step together; `TeamEnv` says what they look like.
"""

import difflib
import multiprocessing
from collections.abc import Iterable
from functools import partial

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiBinary, MultiDiscrete
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, VectorEnv

__all__ = ["TeamEnv", "make_env", "make_vector_env"]


def make_env(
    env_type: str,
    env_name: str,
    env_family: str = "mpe",
    *,
    agent_ids: bool = True,
    time_limit: int | None = None,
    reward_aggr: str = "sum",
    render_mode: str | None = None,
    **kwargs,
) -> gymnasium.Env:
    """One environment with the interface of `TeamEnv`.

    Args:
        env_type: "smaclite" (the compiled engine), "smaclite-upstream" (the original package), "lbf" or "pz".
        env_name: a map of SMAC or the path of a scenario (`.toml`); a map of the original; `Foraging-8x8-2p-3f-v3`, ...;
            `simple_spread_v3`, ...
        env_family: for "pz": mpe, sisl, butterfly, or the dotted name of any importable package, one's own included,
            that has a module `env_name` with a `parallel_env()`.
        agent_ids: append to each agent's observation its one-hot number.
        time_limit: environment steps after which an episode is truncated; None is the environment's own limit.
        reward_aggr: the team reward is the "sum" or the "mean" over agents. SMAClite's is the team's already.
        render_mode: "rgb_array" makes `render()` return an image, uint8 [height, width, 3].
        kwargs: what else the environment behind takes.

    Raises:
        ValueError: an unknown type, name, family or option, or an action space that is not Discrete.
        ImportError: a package that this environment needs is not installed; the message says how to install it.
    """
    _check_options(env_type, time_limit, reward_aggr)
    team = {"agent_ids": agent_ids, "time_limit": time_limit, "render_mode": render_mode}
    if env_type == "smaclite":
        from cleanmarl.battle import BattleEnv

        return BattleEnv(**_battle(env_name), **team, **kwargs)
    if env_type == "smaclite-upstream":
        from cleanmarl.env.smaclite import UpstreamSMAClite

        return UpstreamSMAClite(env_name, kwargs, **team)
    if env_type == "lbf":
        from cleanmarl.env.lbf import LevelBasedForaging

        return LevelBasedForaging(env_name, kwargs, reward_aggr=reward_aggr, **team)
    from cleanmarl.env.pettingzoo import PettingZooTeam

    return PettingZooTeam(env_name, env_family, kwargs, reward_aggr=reward_aggr, **team)


def make_vector_env(
    env_type: str,
    env_name: str,
    env_family: str = "mpe",
    num_envs: int = 4,
    *,
    agent_ids: bool = True,
    time_limit: int | None = None,
    reward_aggr: str = "sum",
    render_mode: str | None = None,
    autoreset_mode: AutoresetMode = AutoresetMode.SAME_STEP,
    **kwargs,
) -> VectorEnv:
    """`num_envs` environments that step together; the arguments and errors are those of `make_env`.

    SMAClite's battles share one compiled call, all others have a process each. The sizes (`n_agents`, `n_actions`,
    `obs_size`, `state_size`) and the `time_limit` of one environment are attributes here too. As the processes import
    the main script anew, the script calls this only under `if __name__ == "__main__":`.
    """
    _check_options(env_type, time_limit, reward_aggr)
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, got {num_envs}")
    team = {"agent_ids": agent_ids, "time_limit": time_limit, "render_mode": render_mode, **kwargs}
    if env_type == "smaclite":
        from cleanmarl.battle import BattleVectorEnv

        return BattleVectorEnv(**_battle(env_name), num_envs=num_envs, autoreset_mode=autoreset_mode, **team)
    make_one = partial(make_env, env_type, env_name, env_family, reward_aggr=reward_aggr, **team)
    # A plain fork copies the locks of PyTorch's threads but not the threads that would release them: the child may
    # hang. The fork server is a fresh process without threads, and it forks faster than new interpreters start.
    context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    envs = AsyncVectorEnv([make_one] * num_envs, context=context, autoreset_mode=autoreset_mode)
    for name in ("n_agents", "n_actions", "obs_size", "state_size", "time_limit"):
        setattr(envs, name, envs.get_attr(name)[0])
    return envs


class TeamEnv(gymnasium.Env):
    """A cooperative task of `n_agents`, each with `n_actions`; the environments of this module are all of this form.

    An observation is a dict of
        obs: float32 [n_agents, obs_size], what each agent sees, and its one-hot number where `agent_ids`
        state: float32 [state_size], for training only; if the task has none, all agents' observations without numbers
        avail_actions: int8 [n_agents, n_actions], 1 where an agent may take an action now

    `terminated` means that the task itself ended, `truncated` that time was up: after `time_limit` steps (None: unknown).
    A seeded reset determines all that follows, later unseeded resets included.

    Subclasses have `_start(seed)`, which returns an observation, and `_advance(actions)`, which returns an observation,
    the agents' rewards, terminated, truncated and info. They build observations with `_observe`.
    """

    def __init__(
        self,
        low: np.ndarray,
        high: np.ndarray,
        always_available: np.ndarray,
        state_size: int | None = None,
        *,
        agent_ids: bool = True,
        time_limit: int | None = None,
        reward_aggr: str = "sum",
        render_mode: str | None = None,
    ):
        """`low`, `high`: bounds of the observations without ids, [n_agents, size].

        `always_available`: int8 [n_agents, n_actions], the actions that are available in whatever state an episode starts.
        `state_size`: None if the state is the concatenated observations.
        """
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode {render_mode!r} is not among {self.metadata['render_modes']}")
        self.n_agents, self.n_actions = always_available.shape
        self.time_limit, self.render_mode = time_limit, render_mode
        self._reward_divisor = self.n_agents if reward_aggr == "mean" else 1
        self._ids = np.eye(self.n_agents, dtype=np.float32) if agent_ids else None
        state = Box(low.ravel(), high.ravel()) if state_size is None else Box(-np.inf, np.inf, (state_size,))
        if agent_ids:
            low, high = np.hstack([low, np.zeros_like(self._ids)]), np.hstack([high, np.ones_like(self._ids)])
        self.observation_space = Dict(
            obs=Box(low, high), state=state, avail_actions=MultiBinary((self.n_agents, self.n_actions))
        )
        self.action_space = AvailableActions(always_available)
        self.obs_size, self.state_size = low.shape[1], state.shape[0]

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self._steps = 0
        # Each episode has a seed, so no task needs to keep a random stream of its own from one to the next.
        return self._start(int(self.np_random.integers(2**31)) if seed is None else seed), {}

    def step(self, actions: Iterable[int]) -> tuple[dict, float, bool, bool, dict]:
        """`actions`: [n_agents]. Raises ValueError for an action that is not available to its agent."""
        actions = np.asarray(actions).tolist()
        if len(actions) != self.n_agents:
            raise ValueError(f"expected one action for each of {self.n_agents} agents, got {actions}")
        available = self.action_space.available
        for agent, action in enumerate(actions):
            if not (0 <= action < self.n_actions and available[agent, action]):
                choices = np.flatnonzero(available[agent]).tolist()
                raise ValueError(f"agent {agent} cannot take action {action}, available to it are {choices}")
        observation, rewards, terminated, truncated, info = self._advance(actions)
        self._steps += 1
        truncated = truncated or (self._steps == self.time_limit and not terminated)
        return observation, sum(map(float, rewards)) / self._reward_divisor, terminated, truncated, info

    def _observe(self, obs: np.ndarray, avail_actions: np.ndarray, state: np.ndarray | None = None) -> dict:
        """The observation made of `obs` float32 [n_agents, size] without ids, and of fresh arrays only."""
        self.action_space.available = avail_actions
        state = obs.flatten() if state is None else state
        obs = obs if self._ids is None else np.concatenate((obs, self._ids), axis=1)
        return {"obs": obs, "state": state, "avail_actions": avail_actions}


class AvailableActions(MultiDiscrete):
    """Joint actions [n_agents], of which a plain `sample()` draws one that is available now."""

    def __init__(self, always_available: np.ndarray):
        self.available = self.always_available = always_available
        n_agents, n_actions = always_available.shape
        super().__init__([n_actions] * n_agents)

    def seed(self, seed: int | None = None):
        # What is drawn after seeding must not depend on the past: until the environment speaks up, any start must allow it.
        self.available = self.always_available
        return super().seed(seed)

    def sample(self, mask=None, probability=None) -> np.ndarray:
        mask = tuple(self.available) if mask is None and probability is None else mask
        return super().sample(mask, probability)


def unknown(what: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a misspelt name: it lists the nearest of the known ones."""
    nearest = difflib.get_close_matches(str(name), list(known), n=4, cutoff=0)
    return ValueError(f"unknown {what} {name!r}, the nearest known are {', '.join(nearest)}")


def _check_options(env_type: str, time_limit: int | None, reward_aggr: str):
    if env_type not in (env_types := ("smaclite", "smaclite-upstream", "lbf", "pz")):
        raise unknown("env_type", env_type, env_types)
    if reward_aggr not in (reward_aggrs := ("sum", "mean")):
        raise unknown("reward_aggr", reward_aggr, reward_aggrs)
    if time_limit is not None and time_limit < 1:
        raise ValueError(f"time_limit must be at least 1 step, or None for the environment's own, got {time_limit}")


def _battle(env_name: str) -> dict:
    return {"map_file" if env_name.endswith(".toml") else "map_name": env_name}
