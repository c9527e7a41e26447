"""The scene of an episode for the browser to draw: units, things in their places, or pictures."""

import io
from collections.abc import Callable

import gymnasium
import numpy as np
from PIL import Image

from cleanmarl.battle import BattleEnv
from cleanmarl.battle.engine import SIGHT_RANGE, TARGET_RANGE
from cleanmarl.battle.world import HEAL
from cleanmarl.training.errors import Refused
from cleanmarl.watch.episodes import Episode
from cleanmarl.watch.field import finder, recorded
from cleanmarl.watch.trained import Trained

WIDEST = 480  # pixels of a picture
NO_DISPLAY = ("display", "libgl", "opengl", "glu library", "x11", "headless")
WITH_DISPLAY = "install xvfb and put xvfb-run -a before the command"
FIXED = ("index", "kind", "plane", "attack", "radius", "range", "max_hp", "max_shield")
MOVING = ("x", "y", "hp", "shield", "alive", "target", "cooldown", "energy")


def film(run: Trained, episode: Episode) -> dict:
    """Replay an episode from its seed and its actions, and record what to draw.

    Raises Refused if it cannot be drawn, or if the environment is not deterministic.
    """
    try:
        env, shoot = camera(run, episode.seed)
        shots = [shoot()]
        for actions, reward in zip(episode.actions, episode.rewards, strict=True):
            if float(env.step(actions)[1]) != reward:
                raise Refused("a replay gives other rewards")
            shots.append(shoot())
        env.close()
    except Exception as error:
        raise Refused(f"{run.args.env_name} cannot be drawn here: {reason(error)}") from error
    if isinstance(env.unwrapped, BattleEnv):
        return units_of(env.unwrapped, np.array(shots))
    return recorded(shots) if isinstance(shots[0], dict) else {"pictures": shots}


def camera(run: Trained, seed: int) -> tuple[gymnasium.Env, Callable]:
    """An environment at the start of an episode, and a function that records its moment.

    It records the units of a battle, or where everything is, or else a picture.
    """
    env = run.script.open_env(run.args)
    env.reset(seed=seed)
    if isinstance(env.unwrapped, BattleEnv):
        return env, lambda: env.unwrapped.units[0].copy()
    if where := finder(env):
        return env, where
    env.close()
    drawn = run.script.open_env(run.args, "rgb_array")
    drawn.reset(seed=seed)
    return drawn, lambda: photograph(drawn)


def photograph(env: gymnasium.Env) -> np.ndarray:
    """A picture of the environment as the bytes of a WebP file."""
    frame = env.render()
    if frame is None:
        raise Refused("its render() gives no picture")
    picture = Image.fromarray(frame)
    picture.thumbnail((WIDEST, WIDEST))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=80, method=4)
    return np.frombuffer(file.getvalue(), np.uint8)


def reason(error: Exception) -> str:
    """Why an environment cannot be drawn; without a display, how to get one."""
    words = f"{type(error).__name__}: {error}".lower()
    if any(sign in words for sign in NO_DISPLAY):
        return f"it needs a display; {WITH_DISPLAY}"
    return " ".join(str(error).split()) or type(error).__name__


def units_of(env: BattleEnv, units: np.ndarray) -> dict:
    """A battle from its records [T + 1, n_units]: each unit's fixed and changing fields."""
    kinds = [kind.replace("_", " ").lower() for kind in env.scenario.kinds]
    fixed = []
    for unit in units[0]:
        own = {name: unit[name].item() for name in FIXED}
        own |= {"kind": kinds[unit["kind"]], "ally": bool(unit["is_ally"])}
        own["heals"] = own.pop("attack") == HEAL
        fixed.append(own)
    moving = {name: units[name].astype(np.float32) for name in MOVING}
    wait = np.maximum(units["max_cooldown"], 1e-9)
    moving["cooldown"] = (units["cooldown"] / wait).astype(np.float32)  # 1 right after a blow
    blocked = env.scenario.blocked
    return {
        "units": fixed,
        "moving": moving,
        "blocked": blocked.astype(np.uint8),
        "sight": SIGHT_RANGE,
        "reach": TARGET_RANGE,
    }


def words(run: Trained, episode: Episode) -> dict:
    """Names of the agents, their actions and, if known, the entries of their observations."""
    env = run.script.open_env(run.args)
    env.reset(seed=episode.seed)
    team = env.unwrapped
    n_agents, obs_size = episode.observations[0]["obs"].shape
    n_actions = episode.observations[0]["avail_actions"].shape[-1]
    found = {"agents": getattr(team, "agent_names", [f"agent {i}" for i in range(n_agents)])}
    unnamed = [[f"action {j}" for j in range(n_actions)]] * n_agents
    found["actions"] = getattr(team, "action_names", unnamed)
    if names := getattr(team, "observation_names", None):
        ids = [f"number: is agent {number}" for number in range(n_agents)]
        ids = ids if getattr(run.args, "agent_ids", True) else []
        clock = ["clock: share of time left"] if getattr(team, "clock", False) else []
        full = [[*own, *ids, *clock] for own in names]
        if all(len(own) == obs_size for own in full):
            found["observation"] = full
    env.close()
    return found
