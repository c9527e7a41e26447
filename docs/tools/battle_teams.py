"""Win rates of hand-written teams in random battles, to compare learned teams with.

    python docs/tools/battle_teams.py

These teams see the whole map. Each agent acts on a target in its range, and walks towards the enemy
that is nearest to the team's centre if it has none.
"""

from dataclasses import dataclass

import numpy as np
import tyro

from cleanmarl.battle import BattleEnv
from cleanmarl.battle.world import HEAL

RACES = ("protoss", "terran", "zerg")
# Actions: stop, four moves (north, south, east, west), one for each target
STOP = 1
FIRST_MOVE = 2
FIRST_TARGET = 6


@dataclass
class Args:
    maps: tuple[str, ...] = tuple(f"{race}_{n}_vs_{n}" for n in (5, 10) for race in RACES)
    """random battles"""
    battles: int = 1000
    """battles of each team"""


def positions(units: np.ndarray) -> np.ndarray:
    return np.stack((units["x"], units["y"]), axis=-1)


def nearest(unit, targets: np.ndarray) -> np.ndarray:
    """Squared distances to the targets."""
    return ((positions(targets) - positions(unit)) ** 2).sum(-1)


def weakest(unit, targets: np.ndarray) -> np.ndarray:
    """Health and shields of the targets."""
    return targets["hp"] + targets["shield"]


TEAMS = {"the nearest": nearest, "the weakest": weakest}


def act(env: BattleEnv, avail_actions: np.ndarray, preference) -> np.ndarray:
    """Actions [n_agents]; each agent chooses the target for which `preference` is lowest."""
    units = env.units[0]
    agents, enemies = units[: env.n_agents], units[env.n_agents :]
    centre = positions(agents[agents["alive"]]).mean(0)
    goals = positions(enemies[enemies["alive"]])
    goal = goals[((goals - centre) ** 2).sum(-1).argmin()]
    actions = np.zeros(env.n_agents, int)
    for i in np.flatnonzero(agents["alive"]):
        targets = np.flatnonzero(avail_actions[i, FIRST_TARGET:])
        if len(targets):
            others = agents if agents["attack"][i] == HEAL else enemies
            best = preference(agents[i], others[targets]).argmin()
            actions[i] = FIRST_TARGET + targets[best]
        else:
            actions[i] = step_to(goal - positions(agents[i]), avail_actions[i])
    return actions


def step_to(ahead: np.ndarray, avail_actions: np.ndarray) -> int:
    """The available move that leads furthest along `ahead` [2], or stop."""
    east, north = ahead
    gain = np.array([north, -north, east, -east])
    gain[avail_actions[FIRST_MOVE:FIRST_TARGET] == 0] = -np.inf
    if gain.max() <= 0:
        return STOP
    return FIRST_MOVE + int(gain.argmax())


def play(name: str, preference, battles: int) -> float:
    """The share of battles that a team wins."""
    env = BattleEnv(name)
    won = 0
    for number in range(battles):
        observation, _ = env.reset(seed=number)
        over = False
        while not over:
            actions = act(env, observation["avail_actions"], preference)
            observation, _, terminated, truncated, info = env.step(actions)
            over = terminated or truncated
        won += info["battle_won"]
    return won / battles


def main(args: Args):
    for name in args.maps:
        for target, preference in TEAMS.items():
            print(f"{name}, {target}: {play(name, preference, args.battles):.3f}", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Args))
