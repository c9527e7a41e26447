"""One Gymnasium interface over SMAClite, Level-Based Foraging and PettingZoo.

`make_env` opens an environment, `make_vector_env` several that step together.
"""

import difflib
import multiprocessing
import signal
import textwrap

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, MultiBinary
from gymnasium.vector import AutoresetMode, VectorEnv

from cleanmarl.battle.spaces import AvailableActions
from cleanmarl.env.vector import ProcessEnvs, ctrl_c_waits

__all__ = ["TeamEnv", "list_envs", "make_env", "make_vector_env"]


def make_env(
    env_type,
    env_name,
    env_family="mpe",
    *,
    agent_ids=True,
    time_limit=None,
    reward_aggr="sum",
    render_mode=None,
    **etc,
) -> gymnasium.Env:
    """One environment, of the form that `TeamEnv` describes.

    Args:
        env_type: "smaclite" (the compiled engine), "smaclite-upstream" (the original package),
            "lbf" or "pz"
        env_name: for example "3m" or "mine.toml" (a scenario file), "Foraging-8x8-2p-3f-v3",
            "simple_spread_v3"
        env_family: of "pz" only: mpe, sisl, butterfly, or any package (for example your own) whose
            module `env_name` has `parallel_env()`
        agent_ids: append to each agent's observation its one-hot number
        time_limit: steps after which an episode is truncated; None for the environment's own limit
        reward_aggr: the team's reward is the "sum" or "mean" of the agents'; in SMAClite it is the
            team's already
        render_mode: with "rgb_array", `render()` returns uint8 [height, width, 3]
        etc: goes to the package behind the environment

    Raises:
        ValueError: a name or option does not exist, or actions are not Discrete
        ImportError: a package is missing; the message says how to install it
    """
    if time_limit is not None and time_limit < 1:
        raise ValueError(f"time_limit must be at least 1 step, got {time_limit}")
    team = {"agent_ids": agent_ids, "time_limit": time_limit, "render_mode": render_mode}
    try:
        if env_type == "smaclite":
            from cleanmarl.battle import BattleEnv, BattleVectorEnv

            scenario = {"map_file" if env_name.endswith(".toml") else "map_name": env_name}
            return (BattleVectorEnv if "num_envs" in etc else BattleEnv)(**scenario, **team, **etc)
        if env_type == "smaclite-upstream":
            from cleanmarl.env.smaclite import UpstreamSMAClite as Env
        elif env_type == "lbf":
            from cleanmarl.env.lbf import LevelBasedForaging as Env
        elif env_type == "pz":
            from cleanmarl.env.pettingzoo import PettingZooTeam as Env
        else:
            known = "smaclite, smaclite-upstream, lbf or pz"
            raise ValueError(f"env_type must be {known}, got {env_type!r}")
        return Env(env_name, env_family, etc, reward_aggr=reward_aggr, **team)
    except ModuleNotFoundError as error:
        source = error.name
        if source == "smaclite":
            source = "git+https://github.com/uoe-agents/smaclite"
        advice = f"needs {error.name}: pip install {source}"
        raise ImportError(f"{env_type} {env_name} {advice}") from error


def make_vector_env(
    env_type,
    env_name,
    env_family="mpe",
    num_envs=4,
    *,
    autoreset_mode=AutoresetMode.SAME_STEP,
    **options,
) -> VectorEnv:
    """`num_envs` environments that step together, with the attributes of one.

    `options` and errors are those of `make_env`. SMAClite's battles share one compiled call. Others
    have a process each: call this under `if __name__ == "__main__":`.
    """
    if env_type == "smaclite":
        options |= {"num_envs": num_envs, "autoreset_mode": autoreset_mode}
        return make_env(env_type, env_name, **options)
    # A fork of a process with PyTorch's threads may hang.
    # The fork server has none, and shares what it has imported.
    context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    multiprocessing.set_forkserver_preload(["torch", "cleanmarl.env"])

    def make_one():
        if multiprocessing.parent_process():
            # A terminal's Ctrl-C is for the parent alone.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return make_env(env_type, env_name, env_family, **options)

    with ctrl_c_waits():
        envs = ProcessEnvs([make_one] * num_envs, context=context, autoreset_mode=autoreset_mode)
    names = ("n_agents", "n_actions", "obs_size", "state_size", "time_limit")
    vars(envs).update({name: envs.get_attr(name)[0] for name in names})
    return envs


def list_envs():
    """Print what can be trained on, by `env_type`."""
    from cleanmarl.battle import map_names
    from cleanmarl.env.lbf import patterns
    from cleanmarl.env.pettingzoo import FAMILIES, modules_of

    print("--env-type smaclite (or smaclite-upstream), --env-name")
    print_names([*map_names(), "mine.toml (a scenario file of your own)"])
    print("--env-type lbf, --env-name")
    print_names(patterns())
    for family, package in FAMILIES.items():
        print(f"--env-type pz --env-family {family}, --env-name")
        print_names(name for name in modules_of(package) if opens(name, family))
    print("--env-type pz --env-family PACKAGE --env-name MODULE: an environment of your own")


def opens(env_name: str, env_family: str) -> bool:
    """Whether PettingZoo's environment is installed, and its actions are discrete."""
    try:
        make_env("pz", env_name, env_family).close()
        return True
    except (ImportError, ValueError):
        return False


def print_names(names):
    print(textwrap.fill(", ".join(names), 96, initial_indent="    ", subsequent_indent="    "))


class TeamEnv(gymnasium.Env):
    """`n_agents` with `n_actions` each, which share one reward. An observation is a dict of

    - `obs`: float32 [n_agents, obs_size], what each agent sees and, with `agent_ids`, its one-hot
      number
    - `state`: float32 [state_size], for training only: the task's own or, if it has none, the
      observations of all agents without their numbers
    - `avail_actions`: int8 [n_agents, n_actions], 1 where the agent can take the action

    `terminated`: the task itself ended; `truncated`: time was up, after `time_limit` steps (None if
    unknown). A seeded reset determines all episodes until the next one.

    Subclasses have `_env`, `_start(seed)` -> observation, and `_advance(actions)` -> observation,
    rewards, terminated, truncated, info. `at_start` says what is always legal.
    """

    def __init__(
        self,
        size,
        at_start,
        bounds=(-np.inf, np.inf),
        state_size=None,
        *,
        agent_ids,
        time_limit,
        reward_aggr,
        render_mode,
    ):
        self.metadata = {"render_modes": [], "render_fps": 10} | self._env.metadata
        self.time_limit = time_limit
        self.render_mode = render_mode
        known = self.metadata["render_modes"]
        if render_mode not in (None, *known):
            raise ValueError(f"render_mode {render_mode!r} is not among {known}")
        self.n_agents, self.n_actions = at_start.shape
        self._ids = np.eye(self.n_agents, self.n_agents if agent_ids else 0, dtype=np.float32)
        self.obs_size = size + self._ids.shape[1]
        self.state_size = state_size or self.n_agents * size
        self.observation_space = Dict(
            obs=Box(*bounds, (self.n_agents, self.obs_size)),
            state=Box(*bounds, (self.state_size,)),
            avail_actions=MultiBinary(at_start.shape),
        )
        self.action_space = AvailableActions(at_start)
        self._reward_divisor = find("reward_aggr", reward_aggr, {"sum": 1, "mean": self.n_agents})

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed=seed)
        self._steps = 0
        # Every episode gets a seed, so that nothing depends on a task's own random streams.
        return self._start(int(self.np_random.integers(2**31)) if seed is None else seed), {}

    def step(self, actions) -> tuple[dict, float, bool, bool, dict]:
        """`actions`: integers [n_agents]. ValueError: one is not available to its agent."""
        actions = np.asarray(actions).tolist()
        for agent, (action, available) in enumerate(zip(actions, self._available, strict=True)):
            if not (0 <= action < self.n_actions and available[action]):
                legal = np.flatnonzero(available).tolist()
                raise ValueError(f"agent {agent} cannot do action {action}, only {legal}")
        observation, rewards, terminated, truncated, info = self._advance(actions)
        self._steps += 1
        truncated = truncated or (self._steps == self.time_limit and not terminated)
        reward = sum(map(float, rewards)) / self._reward_divisor
        return observation, reward, terminated, truncated, info

    def _observe(self, obs: np.ndarray, avail_actions: np.ndarray, state=None) -> dict:
        self._available = self.action_space.available = avail_actions
        state = obs.flatten() if state is None else state
        obs = np.concatenate((obs, self._ids), axis=1)
        return {"obs": obs, "state": state, "avail_actions": avail_actions}

    def render(self) -> np.ndarray | None:
        return self._env.render() if self.render_mode else None

    def close(self):
        self._env.close()


def find(what: str, name: str, known: dict):
    """What is known under a name. Raises ValueError with the nearest names, or with examples."""
    if name not in known:
        nearest = difflib.get_close_matches(str(name), known, n=4)
        if nearest:
            others = f"the nearest known are {', '.join(nearest)}"
        elif len(known) <= 4:
            others = f"known are {', '.join(known)}"
        else:
            others = f"there are {', '.join(list(known)[:4])}, ... (--list-envs prints them)"
        raise ValueError(f"unknown {what} {name!r}; {others}")
    return known[name]
