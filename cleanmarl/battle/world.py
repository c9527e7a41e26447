"""The memory of a battle: records that the compiled rules read and write, filled by a scenario.

Everything is a flat NumPy array of records, so that a rule can say `unit.hp` and still be compiled:

- `UNIT`: one per unit, with its statistics and all that changes from tick to tick;
- `BATTLE`: one per battle, with its random state, step counter and the outcome of the last step;
- `RULES`: one per scenario, with the sizes and switches that never change;
- `WALL`: one per obstacle of the terrain.
"""

from typing import NamedTuple

import numpy as np

from cleanmarl.battle.scenario import ATTACKS, PLANES, SIDES, Scenario

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
        ("ally_shields", "i8"),
        ("enemy_shields", "i8"),
        ("agent_ids", "i8"),
        ("obs_size", "i8"),
        ("state_size", "i8"),
        ("time_limit", "i8"),
        ("width", "i8"),
        ("height", "i8"),
        ("attack_x", "f8"),
        ("attack_y", "f8"),
        ("max_radius", "f8"),
        ("max_reward", "f8"),
        ("published_walls", "?"),
    ],
    align=True,
)

WALL = np.dtype([("x0", "f8"), ("y0", "f8"), ("x1", "f8"), ("y1", "f8")])

# What a unit has under the name that its kind has for it.
SAME = ("radius", "attacks", "armor", "speed", "range", "scan_range", "splash_radius")

GAP = 0.05  # between units at the start


class World(NamedTuple):
    """The arrays of a scenario that no battle changes, in the order in which rules take them."""

    rules: np.ndarray
    """[1] RULES"""
    damages: np.ndarray
    """[n_kinds, n_kinds] damage of a blow, bonuses included: row attacks column"""
    blocked: np.ndarray
    """[height, width] bool"""
    walls: np.ndarray
    """[n_walls] WALL, in the order of discovery"""
    near: np.ndarray
    """[n_cells + 1, 2] begin and end in `near_walls` per cell; the last row: places off the map"""
    near_walls: np.ndarray
    """indices of the walls that a unit in the cell may be close enough to meet"""


def build(
    scenario: Scenario, *, walls: str, time_limit: int, agent_ids: bool
) -> tuple[World, np.ndarray]:
    """The world of a scenario and its units at the start of a battle, [n_units] UNIT."""
    units = _units(scenario)
    allies, enemies = units[units["is_ally"]], units[~units["is_ally"]]
    n_allies, n_enemies = len(allies), len(enemies)
    healers = allies["attack"] == HEAL
    # A healer's target is an ally by its index: there are as many slots as the last fighter needs.
    n_targets = n_enemies
    if healers.any():
        n_targets = max(n_enemies, allies["index"][~healers].max(initial=-1) + 1)
    n_types = len(scenario.unit_types)
    ally_shields, enemy_shields = (int(scenario.has_shields(side)) for side in SIDES)
    n_actions = 6 + int(n_targets)
    ally_size, enemy_size = ally_shields + n_types, enemy_shields + n_types
    # of the agent's moves, of the enemies, of the other allies, and of the agent itself
    obs_size = 4 + n_enemies * (5 + enemy_size) + (n_allies - 1) * (5 + ally_size) + 1 + ally_size
    if agent_ids:
        obs_size += n_allies

    rules = np.zeros(1, RULES)
    height, width = scenario.blocked.shape
    for name, value in dict(
        n_allies=n_allies,
        n_enemies=n_enemies,
        n_actions=n_actions,
        n_types=n_types,
        ally_shields=ally_shields,
        enemy_shields=enemy_shields,
        agent_ids=agent_ids,
        obs_size=obs_size,
        state_size=n_allies * (4 + ally_size) + n_enemies * (3 + enemy_size) + n_allies * n_actions,
        time_limit=time_limit,
        width=width,
        height=height,
        attack_x=scenario.attack_point[0],
        attack_y=scenario.attack_point[1],
        max_radius=units["radius"].max(),
        max_reward=10 * n_enemies + 200 + (enemies["hp"] + enemies["shield"]).sum(),
        published_walls=walls == "published",
    ).items():
        rules[name] = value

    kinds = list(scenario.kinds.values())
    damages = np.zeros((len(kinds), len(kinds)))
    for row, kind in enumerate(kinds):
        for column, other in enumerate(kinds):
            bonus = sum(kind.bonus.get(attribute, 0) for attribute in other.attributes)
            damages[row, column] = kind.damage + bonus
    obstacles = _obstacles(scenario.blocked)
    near = _near(obstacles, scenario.blocked.shape, units)
    return World(rules, damages, scenario.blocked, obstacles, *near), units


def _units(scenario: Scenario) -> np.ndarray:
    """The units of both sides in their places, in single precision (section 5)."""
    kinds = list(scenario.kinds)
    units = np.zeros(sum(scenario.count(side) for side in SIDES), UNIT)
    number, index = 0, {"ally": 0, "enemy": 0}
    for group in scenario.groups:
        members = []
        for name, count in group.units.items():
            members += [scenario.kinds[name]] * count
        places = _places(group.side, group.at, [kind.radius for kind in members])
        for kind, (x, y) in zip(members, places, strict=True):
            unit = units[number]
            unit["x"], unit["y"] = unit["start_x"], unit["start_y"] = x, y
            unit["alive"] = True
            unit["is_ally"] = group.side == "ally"
            unit["index"] = index[group.side]
            unit["target"] = unit["prev_target"] = unit["order_target"] = NOBODY
            unit["last_action"] = -1
            unit["order"] = STOP if group.side == "ally" else MARCH
            unit["hp"] = unit["max_hp"] = kind.hp
            unit["shield"] = unit["max_shield"] = kind.shield
            unit["max_energy"], unit["energy"] = kind.energy, kind.energy_start
            unit["hp_regen"] = kind.hp_regen / 16
            unit["max_cooldown"] = kind.cooldown
            unit["beam_length"], unit["beam_depth"] = kind.beam
            unit["kind"] = kinds.index(kind.name)
            unit["type"] = scenario.unit_types.index(kind.name) if scenario.unit_types else 0
            unit["attack"] = ATTACKS.index(kind.attack)
            unit["plane"] = PLANES.index(kind.plane)
            unit["targets"] = sum(1 << PLANES.index(plane) for plane in set(kind.targets))
            for name in SAME:
                unit[name] = getattr(kind, name)
            number += 1
            index[group.side] += 1
    return units


def _places(side: str, at: tuple[float, float], radii: list[float]) -> list[tuple[float, float]]:
    """Centres of the members of a group, row by row in a square grid.

    The grid of the enemies is turned by 180 degrees.
    """
    sign = 1 if side == "ally" else -1
    columns = int(np.ceil(np.sqrt(len(radii))))
    rows = [radii[row * columns : (row + 1) * columns] for row in range(columns)]
    heights = [max(row, default=0) for row in rows]
    width = max(2 * sum(row) for row in rows)
    places, y, previous_height = [], at[1] - sign * (2 * sum(heights) + (columns - 1) * GAP) / 2, 0
    for row, row_height in zip(rows, heights, strict=True):
        y += sign * (previous_height + row_height)
        x, previous_radius = at[0] - sign * width / 2, 0
        for radius in row:
            x += sign * (previous_radius + radius)
            places.append((x, y))
            x += sign * GAP
            previous_radius = radius
        y += sign * GAP
        previous_height = row_height
    return places


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


def _near(
    walls: np.ndarray, shape: tuple[int, int], units: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each cell, the walls within reach of the widest and fastest unit in it.

    Off the map, all walls.
    """
    height, width = shape
    reach = float((units["radius"] + units["speed"]).max()) + 1e-3
    rows, indices = [], []
    for cell in range(height * width):
        x, y = cell % width, cell // width
        dx = np.maximum(0, np.maximum(walls["x0"] - (x + 1), x - walls["x1"]))
        dy = np.maximum(0, np.maximum(walls["y0"] - (y + 1), y - walls["y1"]))
        close = np.flatnonzero(dx**2 + dy**2 <= reach**2)
        rows.append((len(indices), len(indices) + len(close)))
        indices.extend(close)
    rows.append((len(indices), len(indices) + len(walls)))
    indices.extend(range(len(walls)))
    return np.array(rows, np.int64), np.array(indices, np.int64)
