"""The scene of an episode for the browser to draw: a battle's units, or pictures."""

import io

import gymnasium
import numpy as np
from PIL import Image

from cleanmarl.battle import BattleEnv
from cleanmarl.battle.engine import SIGHT_RANGE, TARGET_RANGE
from cleanmarl.battle.names import action_names, observation_names
from cleanmarl.battle.world import HEAL
from cleanmarl.training.errors import Refused
from cleanmarl.watch.episodes import Episode
from cleanmarl.watch.trained import Trained

LBF_ACTIONS = ["none", "north", "south", "west", "east", "load"]
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
    n_agents, n_actions = episode.observations[0]["avail_actions"].shape
    obs_size = episode.observations[0]["obs"].shape[-1]
    found = {"agents": [f"agent {i}" for i in range(n_agents)]}
    found["actions"] = [[f"action {j}" for j in range(n_actions)]] * n_agents
    if isinstance(env.unwrapped, BattleEnv):
        found |= words_of_battle(env.unwrapped, obs_size)
    elif run.args.env_type == "lbf":
        found |= words_of_foraging(n_agents, obs_size, run.args.agent_ids)
    env.close()
    if any(len(names) != obs_size for names in found.get("observation", [])):
        del found["observation"]
    return found


def words_of_battle(env: BattleEnv, obs_size: int) -> dict:
    scenario = env.scenario
    allies = sorted((u for u in env.units[0] if u["is_ally"]), key=lambda unit: unit["index"])
    kinds = [kind.replace("_", " ").lower() for kind in scenario.kinds]
    heal = [unit["attack"] == HEAL for unit in allies]
    agent_ids = len(observation_names(scenario, 0)) < obs_size
    numbers = range(len(allies))
    return {
        "agents": [f"{kinds[unit['kind']]} {unit['index']}" for unit in allies],
        "actions": [action_names(scenario, heals, env.n_actions) for heals in heal],
        "observation": [observation_names(scenario, i, agent_ids) for i in numbers],
    }


def words_of_foraging(n_agents: int, obs_size: int, agent_ids: bool) -> dict:
    """An agent observes row, column and level of each food, of itself and of the other agents."""
    num_food = (obs_size - (n_agents if agent_ids else 0)) // 3 - n_agents
    observations = []
    for agent in range(n_agents):
        others = [f"agent {other}" for other in range(n_agents) if other != agent]
        things = [*(f"food {number}" for number in range(num_food)), "itself", *others]
        names = [f"{thing}: {entry}" for thing in things for entry in ("row", "column", "level")]
        if agent_ids:
            names += [f"number: is agent {number}" for number in range(n_agents)]
        observations.append(names)
    return {"actions": [LBF_ACTIONS] * n_agents, "observation": observations}
