"""One Gymnasium interface over SMAClite, Level-Based Foraging, PettingZoo and Gymnasium itself.

`make_env` opens an environment, `make_vector_env` several that step together.
"""

import multiprocessing
import os
import signal
import sys

import gymnasium
from gymnasium.vector import VectorEnv

from cleanmarl.env import version  # noqa: F401  # first: it refuses an old Gymnasium

# isort: split
from cleanmarl.env.team import TeamEnv
from cleanmarl.env.vector import NeverPlayed, ProcessEnvs, RecordedEnvs, SeedsAll, ctrl_c_waits
from cleanmarl.errors import EnvFault

__all__ = [
    "EnvFault",
    "RecordedEnvs",
    "TeamEnv",
    "env_arguments",
    "make_env",
    "make_vector_env",
]


def make_env(
    env_type: str,
    env_name: str,
    env_family: str = "mpe",
    *,
    agent_ids: bool = True,
    clock: bool = True,
    env_state: bool = True,
    time_limit: int | None = None,
    reward_aggr: str = "sum",
    render_mode: str | None = None,
    **options,
) -> gymnasium.Env:
    """One environment with the interface of `TeamEnv`.

    Args:
        env_type: "smaclite" (the compiled engine), "smaclite-upstream" (the original package),
            "lbf", "pz" or "gym"
        env_name: for example "3m" or "mine.toml" (a scenario file), "Foraging-8x8-2p-3f-v3",
            "simple_spread_v3", "rware:rware-tiny-2ag-v2" (the module that registers it, and its id)
        env_family: only for "pz": mpe, sisl, butterfly, or a package, for example your own, whose
            module `env_name` has `parallel_env()`
        agent_ids: append a one-hot agent id to each observation
        clock: append the share of time left to each observation and to the state, if the time limit
            is known
        env_state: the state is the task's own, where it has one; otherwise it is the observations
            of all agents
        time_limit: steps after which an episode is truncated; None for the environment's own limit
        reward_aggr: the team's reward is the "sum" or "mean" of the agents' rewards; SMAClite has
            only a team reward
        render_mode: with "rgb_array", `render()` returns uint8 [height, width, 3]
        options: passed to the task behind the environment

    Raises:
        ValueError: a name is unknown, an argument is out of range, or QMIX cannot act in this
            environment
        ImportError: a package is missing; the message says how to install it
    """
    if time_limit is not None and time_limit < 1:
        raise ValueError(f"time_limit must be at least 1 step, got {time_limit}")
    team = {"agent_ids": agent_ids, "clock": clock, "time_limit": time_limit}
    team |= {"render_mode": render_mode}
    if env_type == "smaclite":
        from cleanmarl.battle import BattleEnv

        return BattleEnv(**battle(env_name, env_state, options), **team)
    team |= {"env_state": env_state, "reward_aggr": reward_aggr}
    if render_mode == "rgb_array":
        # pyglet and pygame draw without a window: a training machine has no screen
        os.environ.setdefault("PYGLET_HEADLESS", "true")
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    try:
        return open_team(env_type, env_name, env_family, options, **team)
    except ModuleNotFoundError as error:
        if error.name is None:  # raised by the user's own code
            raise
        source = error.name
        package, _, inner = source.partition(".")
        if inner and package in sys.modules:
            raise ImportError(
                f"{env_type} {env_name} imports {source}, which is not there"
            ) from error
        if source == "smaclite":
            source = "git+https://github.com/uoe-agents/smaclite"
        how = f"pip install {source}"
        if env_type == "gym" or env_family not in ("mpe", "sisl", "butterfly"):
            how = "install the package that has it"  # which may have another name
        raise ImportError(f"{env_type} {env_name} needs {error.name}: {how}") from error


def open_team(env_type: str, env_name: str, env_family: str, options: dict, **team) -> TeamEnv:
    """Open any environment except a battle of the compiled engine. Only here, import its package.

    `team` is passed to `TeamEnv`, `options` to the package behind the environment.
    """
    if env_type == "smaclite-upstream":
        from cleanmarl.env.upstream import UpstreamSMAClite

        return UpstreamSMAClite(env_name, options, **team)
    if env_type == "lbf":
        from cleanmarl.env.lbf import LevelBasedForaging

        return LevelBasedForaging(env_name, options, **team)
    if env_type == "pz":
        from cleanmarl.env.pz import PettingZooTeam

        return PettingZooTeam(env_name, env_family, options, **team)
    if env_type == "gym":
        from cleanmarl.env.gyms import gymnasium_team

        return gymnasium_team(env_name, options, **team)
    known = "smaclite, smaclite-upstream, lbf, pz or gym"
    raise ValueError(f"env_type must be {known}, got {env_type!r}")


def make_vector_env(
    env_type: str,
    env_name: str,
    env_family: str = "mpe",
    num_envs: int = 4,
    *,
    agent_ids: bool = True,
    clock: bool = True,
    env_state: bool = True,
    time_limit: int | None = None,
    reward_aggr: str = "sum",
    render_mode: str | None = None,
    autoreset_mode: str = "SameStep",
    **options,
) -> VectorEnv:
    """`num_envs` environments that step together. Attributes are those of one environment.

    Other arguments and errors are those of `make_env`. SMAClite's battles step in one compiled
    call. Other environments run in one process each: call this under `if __name__ == "__main__":`.
    Of their infos, `is_success` and `battle_won` come back.
    """
    team = {"agent_ids": agent_ids, "clock": clock, "time_limit": time_limit}
    team |= {"render_mode": render_mode}
    if env_type == "smaclite":
        from cleanmarl.battle import BattleVectorEnv

        many = {"num_envs": num_envs, "autoreset_mode": autoreset_mode}
        known = ("walls", "num_threads")
        return BattleVectorEnv(**battle(env_name, env_state, options, known), **many, **team)
    team |= {"env_state": env_state, "reward_aggr": reward_aggr}
    # Forking a process with PyTorch's threads may hang.
    # The fork server has no threads. Its children share the modules that it has imported: those of
    # this package that a script imports, too, because they import the script.
    context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    multiprocessing.set_forkserver_preload(["torch", "cleanmarl.env", "cleanmarl.training"])

    def make_one() -> gymnasium.Env:
        if multiprocessing.parent_process():
            # Only the parent reacts to a terminal's Ctrl-C.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        env = make_env(env_type, env_name, env_family, **team, **options)
        return SeedsAll(env) if multiprocessing.parent_process() else NeverPlayed(env)

    with ctrl_c_waits():
        mode = gymnasium.vector.AutoresetMode(autoreset_mode)
        envs = ProcessEnvs([make_one] * num_envs, context=context, autoreset_mode=mode)
    names = ("n_agents", "n_actions", "obs_size", "state_size", "time_limit", "clock")
    for name in (*names, "agent_names"):
        setattr(envs, name, envs.get_attr(name)[0])
    return envs


def env_arguments(args) -> dict:
    """The arguments of `make_env` and `make_vector_env` among those of a script."""
    names = ("env_type", "env_name", "env_family")
    names += ("agent_ids", "clock", "env_state", "time_limit")
    return {name: getattr(args, name) for name in names if hasattr(args, name)} | args.env_options


def battle(env_name: str, env_state: bool, options: dict, known: tuple = ("walls",)) -> dict:
    """The arguments of `BattleEnv` for a map of the package or for a scenario file."""
    if not env_state:
        raise ValueError("battles always have their own state (--no-env-state)")
    if strange := options.keys() - known:
        here = " and ".join(known)
        raise ValueError(f"battles have the option {here} only, not {', '.join(sorted(strange))}")
    return {"map_file" if env_name.endswith(".toml") else "map_name": env_name} | options
