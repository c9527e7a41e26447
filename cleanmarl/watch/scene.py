"""The scene of an episode for the browser to draw: a battle's units, or pictures."""

import io

import gymnasium
import numpy as np
from PIL import Image

from cleanmarl.battle import BattleEnv
from cleanmarl.battle.engine import SIGHT_RANGE, TARGET_RANGE
from cleanmarl.battle.world import HEAL
from cleanmarl.training.errors import Refused
from cleanmarl.watch.episodes import Episode
from cleanmarl.watch.trained import Trained

WIDEST = 480  # pixels of a picture
FIXED = ("index", "kind", "plane", "attack", "radius", "range", "max_hp", "max_shield")
MOVING = ("x", "y", "hp", "shield", "alive", "target", "cooldown", "energy")


def film(run: Trained, episode: Episode) -> dict:
    """Replay an episode from its seed and its actions, and record what to draw.

    Raises Refused if it cannot be drawn, or if the environment is not deterministic.
    """
    battle = is_battle(run)
    try:
        env = run.script.open_env(run.args, None if battle else "rgb_array")
        env.reset(seed=episode.seed)
        shots = [shoot(env, battle)]
        for actions, reward in zip(episode.actions, episode.rewards, strict=True):
            if float(env.step(actions)[1]) != reward:
                raise Refused("a replay gives other rewards")
            shots.append(shoot(env, battle))
        env.close()
    except Exception as error:
        raise Refused(f"{run.args.env_name} cannot be drawn here: {error}") from error
    return units_of(env.unwrapped, np.array(shots)) if battle else {"pictures": shots}


def is_battle(run: Trained) -> bool:
    env = run.script.open_env(run.args)
    env.close()
    return isinstance(env.unwrapped, BattleEnv)


def shoot(env: gymnasium.Env, battle: bool) -> np.ndarray:
    """The units, or a picture as the bytes of a WebP file."""
    if battle:
        return env.unwrapped.units[0].copy()
    frame = env.render()
    if frame is None:
        raise Refused("its render() gives no picture")
    picture = Image.fromarray(frame)
    picture.thumbnail((WIDEST, WIDEST))
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=80, method=4)
    return np.frombuffer(file.getvalue(), np.uint8)


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
        ids = ids if run.args.agent_ids else []
        clock = ["clock: share of time left"] if getattr(team, "clock", False) else []
        full = [[*own, *ids, *clock] for own in names]
        if all(len(own) == obs_size for own in full):
            found["observation"] = full
    env.close()
    return found
