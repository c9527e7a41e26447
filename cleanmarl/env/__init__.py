"""One Gymnasium interface over SMAClite, Level-Based Foraging, PettingZoo and Gymnasium itself.

`make_env` opens an environment, `make_vector_env` several that step together.
"""

import multiprocessing
import signal
import textwrap
from collections.abc import Iterable

import gymnasium
from gymnasium.vector import AutoresetMode, VectorEnv

from cleanmarl.env.team import TeamEnv
from cleanmarl.env.vector import ProcessEnvs, RecordedEnvs, ctrl_c_waits

__all__ = ["RecordedEnvs", "TeamEnv", "list_envs", "make_env", "make_vector_env"]


def make_env(
    env_type: str,
    env_name: str,
    env_family: str = "mpe",
    *,
    agent_ids: bool = True,
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
        time_limit: steps after which an episode is truncated; None for the environment's own limit
        reward_aggr: the team's reward is the "sum" or "mean" of the agents' rewards; SMAClite has
            only a team reward
        render_mode: with "rgb_array", `render()` returns uint8 [height, width, 3]
        options: passed to the package behind the environment

    Raises:
        ValueError: a name is unknown, an argument is out of range, or QMIX cannot act in this
            environment
        ImportError: a package is missing; the message says how to install it
        TypeError: the package behind the environment has no such option
    """
    if time_limit is not None and time_limit < 1:
        raise ValueError(f"time_limit must be at least 1 step, got {time_limit}")
    team = {"agent_ids": agent_ids, "time_limit": time_limit, "render_mode": render_mode}
    if env_type == "smaclite":
        from cleanmarl.battle import BattleEnv

        return BattleEnv(**scenario(env_name), **team, **options)
    try:
        return open_team(env_type, env_name, env_family, options, reward_aggr=reward_aggr, **team)
    except ModuleNotFoundError as error:
        source = error.name
        if source == "smaclite":
            source = "git+https://github.com/uoe-agents/smaclite"
        advice = f"needs {error.name}: pip install {source}"
        raise ImportError(f"{env_type} {env_name} {advice}") from error


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
        from cleanmarl.env.gyms import GymnasiumTeam

        return GymnasiumTeam(env_name, options, **team)
    known = "smaclite, smaclite-upstream, lbf, pz or gym"
    raise ValueError(f"env_type must be {known}, got {env_type!r}")


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
    **options,
) -> VectorEnv:
    """`num_envs` environments that step together. Attributes are those of one environment.

    Other arguments and errors are those of `make_env`. SMAClite's battles step in one compiled
    call. Other environments run in one process each: call this under `if __name__ == "__main__":`.
    """
    team = {"agent_ids": agent_ids, "time_limit": time_limit, "render_mode": render_mode}
    if env_type == "smaclite":
        from cleanmarl.battle import BattleVectorEnv

        many = {"num_envs": num_envs, "autoreset_mode": autoreset_mode}
        return BattleVectorEnv(**scenario(env_name), **many, **team, **options)
    # Forking a process with PyTorch's threads may hang.
    # The fork server has no threads, and its children share the modules that it has imported.
    context = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    multiprocessing.set_forkserver_preload(["torch", "cleanmarl.env"])

    def make_one() -> gymnasium.Env:
        if multiprocessing.parent_process():
            # Only the parent reacts to a terminal's Ctrl-C.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        return make_env(env_type, env_name, env_family, reward_aggr=reward_aggr, **team, **options)

    with ctrl_c_waits():
        envs = ProcessEnvs([make_one] * num_envs, context=context, autoreset_mode=autoreset_mode)
    for name in ("n_agents", "n_actions", "obs_size", "state_size", "time_limit"):
        setattr(envs, name, envs.get_attr(name)[0])
    return envs


def scenario(env_name: str) -> dict[str, str]:
    """The argument of `BattleEnv` for a map of the package or for a scenario file."""
    return {"map_file" if env_name.endswith(".toml") else "map_name": env_name}


def list_envs():
    """Print the environments of each `env_type`."""
    from cleanmarl.battle import map_names, random_names
    from cleanmarl.env.lbf import patterns
    from cleanmarl.env.pz import FAMILIES, modules_of

    print("--env-type smaclite, --env-name")
    print_names([*map_names(), *random_names(), "mine.toml (your own scenario file)"])
    print("--env-type lbf, --env-name")
    print_names(patterns())
    for family, package in FAMILIES.items():
        print(f"--env-type pz --env-family {family}, --env-name")
        print_names(name for name in modules_of(package) if opens(name, family))
    print("--env-type pz --env-family PACKAGE --env-name MODULE: your own environment")
    print("--env-type gym --env-name MODULE:ID: for example rware:rware-tiny-2ag-v2")


def opens(env_name: str, env_family: str) -> bool:
    """Whether a PettingZoo environment is installed and has discrete actions."""
    try:
        make_env("pz", env_name, env_family).close()
        return True
    except (ImportError, ValueError):
        return False


def print_names(names: Iterable[str]):
    print(textwrap.fill(", ".join(names), 96, initial_indent="    ", subsequent_indent="    "))
