"""The memory of a battle: records that the compiled rules read and write, filled by a scenario.

Everything is a flat NumPy array of records, so that a rule can say `unit.hp` and still be compiled:

- `UNIT`: one per unit, with its statistics and all that changes from tick to tick;
- `BATTLE`: one per battle, with its random state, step counter and the outcome of the last step;
- `RULES`: one per scenario, with the sizes and switches that never change;
- `CELL`: one per cell of the map, and `WALL`: one per obstacle that is near a cell.

The arrays that rules take together are in a group: `World` and `Seen`.
"""

from typing import NamedTuple

import numpy as np

from cleanmarl.battle.scenario import ATTACKS, PLANES, SIDES, Scenario, UnitKind

STOP, MOVE, TARGET, MARCH = range(4)  # orders; MARCH is the enemies' attack-move
STANDARD, KAMIKAZE, LASER, HEAL = range(4)  # attacks, in the order of scenario.ATTACKS
NOBODY = -1  # as a target

UNIT = np.dtype(
    [
        # what the loops over pairs of units read, together at the front
        ("x", "f4"),
        ("y", "f4"),
        ("start_x", "f4"),  # position at the start of the tick, by which searches go
        ("start_y", "f4"),
        ("alive", "?"),  # until removed at the end of a tick
        ("is_ally", "?"),
        ("attacking", "?"),
        ("pref_single", "?"),  # the preferred velocity was computed in single precision
        ("plane", "i4"),
        ("radius", "f8"),
        ("hp", "f8"),
        ("vel_x", "f8"),
        ("vel_y", "f8"),
        ("pref_x", "f8"),  # preferred velocity of the tick
        ("pref_y", "f8"),
        ("new_x", "f8"),  # velocity that collision avoidance chose
        ("new_y", "f8"),
        ("target", "i4"),
        ("prev_target", "i4"),
        ("order", "i4"),
        ("order_target", "i4"),
        ("order_x", "f8"),
        ("order_y", "f8"),
        ("shield", "f8"),
        ("energy", "f8"),
        ("cooldown", "f8"),
        ("shield_wait", "f8"),
        ("heal_pool", "f8"),
        ("last_action", "i4"),
        # statistics, the same in every tick
        ("index", "i4"),  # within its side
        ("kind", "i4"),  # row and column in the table of damages
        ("type", "i4"),  # position in the one-hot unit type
        ("attack", "i4"),
        ("attacks", "i4"),
        ("targets", "i4"),  # bit p: can attack or heal on plane p
        ("max_hp", "f8"),
        ("max_shield", "f8"),
        ("max_energy", "f8"),
        ("hp_regen", "f8"),  # per tick
        ("armor", "f8"),
        ("max_cooldown", "f8"),
        ("speed", "f8"),
        ("range", "f8"),
        ("scan_range", "f8"),
        ("splash_radius", "f8"),
        ("beam_length", "f8"),
        ("beam_depth", "f8"),
    ],
    align=True,
)

BATTLE = np.dtype(
    [
        ("random", "u8"),
        ("steps", "i8"),
        ("reward", "f8"),
        ("terminated", "?"),
        ("truncated", "?"),
        ("won", "?"),
        ("over", "?"),
    ],
    align=True,
)

RULES = np.dtype(
    [
        ("n_allies", "i8"),
        ("n_enemies", "i8"),
        ("n_actions", "i8"),
        ("n_types", "i8"),
        ("n_walls", "i8"),
        ("ally_shields", "i8"),
        ("enemy_shields", "i8"),
        ("agent_ids", "i8"),
        ("time_limit", "i8"),
        ("width", "i8"),
        ("height", "i8"),
        ("attack_x", "f8"),
        ("attack_y", "f8"),
        ("max_radius", "f8"),
        ("max_reward", "f8"),
        ("published_walls", "?"),
        # where the blocks of an observation begin, after the agent's 4 moves, and their sizes
        ("obs_enemy_size", "i8"),
        ("obs_ally_size", "i8"),
        ("obs_enemies", "i8"),
        ("obs_allies", "i8"),
        ("obs_own", "i8"),
        ("obs_id", "i8"),
        ("obs_size", "i8"),
        # the same of the state, which begins with the allies
        ("state_ally_size", "i8"),
        ("state_enemy_size", "i8"),
        ("state_enemies", "i8"),
        ("state_actions", "i8"),
        ("state_size", "i8"),
    ],
    align=True,
)

CELL = np.dtype(
    [
        ("blocked", "?"),
        ("begin", "i8"),  # of the walls that a unit in the cell may be close enough to meet
        ("end", "i8"),
    ],
    align=True,
)

WALL = np.dtype([("x0", "f8"), ("y0", "f8"), ("x1", "f8"), ("y1", "f8")], align=True)

FAR = 10.0  # cells; how far a unit reaches, in a second, for which lists of walls become long

# What a unit has under the name that its kind has for it.
SAME = ("radius", "attacks", "armor", "speed", "range", "scan_range", "splash_radius")


class World(NamedTuple):
    """What no battle of a scenario changes."""

    rules: np.ndarray
    """[1] RULES"""
    damages: np.ndarray
    """[n_kinds, n_kinds] damage of a blow, bonuses included: row attacks column"""
    cells: np.ndarray
    """[height * width + 1] CELL, row by row; the last stands for all places off the map"""
    walls: np.ndarray
    """[n] WALL, for one cell after the other those that are near, in the order of discovery"""
    allies: np.ndarray
    """[n_allies] their numbers among all units, by their indices"""
    enemies: np.ndarray
    """[n_enemies] the same of the enemies"""


class Seen(NamedTuple):
    """What the learner sees of `num` battles, or of one, without the first dimension."""

    obs: np.ndarray
    """[num, n_agents, obs_size] float32"""
    state: np.ndarray
    """[num, state_size] float32"""
    avail_actions: np.ndarray
    """[num, n_agents, n_actions] int8"""


def build(
    scenario: Scenario, *, walls: str, time_limit: int, agent_ids: bool
) -> tuple[World, np.ndarray]:
    """The world of a scenario and its units at the start of a battle, [n_units] UNIT."""
    units = _units(scenario)
    rules = np.zeros(1, RULES)
    rules["time_limit"] = time_limit
    rules["published_walls"] = walls == "published"
    rules["agent_ids"] = agent_ids
    rules["height"], rules["width"] = scenario.blocked.shape
    rules["attack_x"], rules["attack_y"] = scenario.attack_point
    rules["max_radius"] = units["radius"].max()
    _set_armies(rules[0], scenario, units)
    _set_layout(rules[0])
    kinds = scenario.kinds.values()
    damages = np.array([[kind.damage_to(other) for other in kinds] for kind in kinds], float)
    reach = float((units["radius"] + units["speed"]).max())
    cells, nearby = _cells(scenario.blocked, reach)
    rules["n_walls"] = cells["end"][-1] - cells["begin"][-1]
    allies = np.flatnonzero(units["is_ally"])
    enemies = np.flatnonzero(~units["is_ally"])
    return World(rules, damages, cells, nearby, allies, enemies), units


def seen_of(rules: np.void, num: int) -> Seen:
    """Arrays for what is seen of `num` battles, not written yet."""
    n_agents = rules["n_allies"]
    return Seen(
        np.empty((num, n_agents, rules["obs_size"]), np.float32),
        np.empty((num, rules["state_size"]), np.float32),
        np.empty((num, n_agents, rules["n_actions"]), np.int8),
    )


def _set_armies(rules: np.void, scenario: Scenario, units: np.ndarray):
    allies, enemies = units[units["is_ally"]], units[~units["is_ally"]]
    rules["n_allies"], rules["n_enemies"] = len(allies), len(enemies)
    n_targets = len(enemies)
    healers = allies["attack"] == HEAL
    if healers.any():
        # A healer's target is an ally by its index: there are slots up to the last fighter's.
        n_targets = max(n_targets, allies["index"][~healers].max(initial=-1) + 1)
    rules["n_actions"] = 6 + n_targets
    rules["n_types"] = len(scenario.unit_types)
    rules["ally_shields"], rules["enemy_shields"] = map(scenario.has_shields, SIDES)
    health = (enemies["hp"] + enemies["shield"]).sum()
    rules["max_reward"] = 10 * len(enemies) + 200 + health


def _set_layout(rules: np.void):
    """Where everything is in observations and states (section 13)."""
    n_allies, n_enemies = rules["n_allies"], rules["n_enemies"]
    of_ally = rules["ally_shields"] + rules["n_types"]
    of_enemy = rules["enemy_shields"] + rules["n_types"]
    rules["obs_enemy_size"] = 5 + of_enemy
    rules["obs_ally_size"] = 5 + of_ally
    rules["obs_enemies"] = 4
    rules["obs_allies"] = rules["obs_enemies"] + n_enemies * rules["obs_enemy_size"]
    rules["obs_own"] = rules["obs_allies"] + (n_allies - 1) * rules["obs_ally_size"]
    rules["obs_id"] = rules["obs_own"] + 1 + of_ally
    rules["obs_size"] = rules["obs_id"] + (n_allies if rules["agent_ids"] else 0)
    rules["state_ally_size"] = 4 + of_ally
    rules["state_enemy_size"] = 3 + of_enemy
    rules["state_enemies"] = n_allies * rules["state_ally_size"]
    rules["state_actions"] = rules["state_enemies"] + n_enemies * rules["state_enemy_size"]
    rules["state_size"] = rules["state_actions"] + n_allies * rules["n_actions"]


def _units(scenario: Scenario) -> np.ndarray:
    """The units of both sides in their places, in single precision (section 5)."""
    kinds = list(scenario.kinds)
    units = np.zeros(sum(scenario.count(side) for side in SIDES), UNIT)
    number = 0
    index = {"ally": 0, "enemy": 0}
    for group in scenario.groups:
        for kind, x, y in scenario.members_of(group):
            unit = units[number]
            _set_statistics(unit, kind)
            unit["x"] = unit["start_x"] = x
            unit["y"] = unit["start_y"] = y
            unit["is_ally"] = group.side == "ally"
            unit["order"] = STOP if group.side == "ally" else MARCH
            unit["index"] = index[group.side]
            unit["kind"] = kinds.index(kind.name)
            unit["type"] = scenario.unit_types.index(kind.name) if scenario.unit_types else 0
            number += 1
            index[group.side] += 1
    units["alive"] = True
    for field in ("target", "prev_target", "order_target"):
        units[field] = NOBODY
    units["last_action"] = -1
    return units


def _set_statistics(unit: np.void, kind: UnitKind):
    for name in SAME:
        unit[name] = getattr(kind, name)
    unit["hp"] = unit["max_hp"] = kind.hp
    unit["shield"] = unit["max_shield"] = kind.shield
    unit["max_energy"] = kind.energy
    unit["energy"] = kind.energy_start
    unit["hp_regen"] = kind.hp_regen / 16
    unit["max_cooldown"] = kind.cooldown
    unit["beam_length"], unit["beam_depth"] = kind.beam
    unit["attack"] = ATTACKS.index(kind.attack)
    unit["plane"] = PLANES.index(kind.plane)
    unit["targets"] = sum(1 << PLANES.index(plane) for plane in set(kind.targets))


def _obstacles(blocked: np.ndarray) -> np.ndarray:
    """Rectangles that cover the blocked cells, in the order of discovery (section 4).

    They may overlap.
    """
    height, width = blocked.shape
    covered = np.zeros_like(blocked)
    found = []
    for y0, x0 in np.argwhere(blocked):
        if covered[y0, x0]:
            continue
        x1, y1 = x0 + 1, y0 + 1
        while x1 < width and blocked[y0, x1]:
            x1 += 1
        while y1 < height and blocked[y1, x0:x1].all():
            y1 += 1
        covered[y0:y1, x0:x1] = True
        found.append((x0, y0, x1, y1))
    return np.array(found, WALL)


def _cells(blocked: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The cells, [height * width + 1] CELL, and the walls within `reach` of each, [n] WALL.

    Off the map, and for units that get far in a second, these are all walls.
    """
    walls = _obstacles(blocked)
    height, width = blocked.shape
    cells = np.zeros(height * width + 1, CELL)
    cells["blocked"] = np.append(blocked, True)
    if reach > FAR:
        cells["end"] = len(walls)
        return cells, walls
    x = np.arange(width)[:, None]
    dx = np.maximum(0, np.maximum(walls["x0"] - (x + 1), x - walls["x1"]))  # [width, n_walls]
    counts, nearby = [], []
    for y in range(height):
        dy = np.maximum(0, np.maximum(walls["y0"] - (y + 1), y - walls["y1"]))
        close = dx**2 + dy**2 <= (reach + 1e-3) ** 2
        counts.append(close.sum(axis=1))
        nearby.append(walls[np.nonzero(close)[1]])
    counts = np.concatenate([*counts, [len(walls)]])
    cells["end"] = np.cumsum(counts)
    cells["begin"] = cells["end"] - counts
    return cells, np.concatenate([*nearby, walls])
