"""The memory of a battle: a scenario fills its records, the compiled rules read and write them.

Everything is a flat NumPy array of records, so a rule can use `unit.hp` and still be compiled:

- `UNIT`: one per unit, with its statistics and all that changes from tick to tick;
- `BATTLE`: one per battle, with its random state, step counter and the outcome of the last step;
- `RULES`: one per scenario, with the sizes and switches that never change;
- `CELL`: one per cell of the map, and `WALL`: one per obstacle near a cell;
- `GROUP`: one per group of units whose kinds or places are drawn, and `LOT`: one per kind to draw.

Named tuples hold the arrays that rules use together: `World`, `Start` and `Seen`.
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from cleanmarl.battle.scenario import (
    ATTACKS,
    PLACES,
    PLANES,
    RING,
    SIDES,
    Group,
    Scenario,
    UnitKind,
)

STOP, MOVE, TARGET, MARCH = range(4)  # orders; MARCH is the enemies' attack-move
STANDARD, KAMIKAZE, LASER, HEAL = range(4)  # attacks, in the order of scenario.ATTACKS
NOBODY = -1  # as a target

UNIT = np.dtype(
    [
        # fields that the loops over pairs of units read come first
        ("x", "f4"),
        ("y", "f4"),
        ("start_x", "f4"),  # position at the start of the tick, which searches use
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
        ("order_x", "f8"),  # where the order sends it; for an enemy, its attack point
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
        ("own_place", "i8"),  # whether agents observe where they are
        ("agent_ids", "i8"),
        ("clock", "i8"),
        ("time_limit", "i8"),
        ("width", "i8"),
        ("height", "i8"),
        ("max_radius", "f8"),
        ("published_walls", "?"),
        # starts and sizes of the blocks of an observation, after the agent's 4 moves
        ("obs_enemy_size", "i8"),
        ("obs_ally_size", "i8"),
        ("obs_enemies", "i8"),
        ("obs_allies", "i8"),
        ("obs_own", "i8"),
        ("obs_place", "i8"),
        ("obs_id", "i8"),
        ("obs_size", "i8"),
        # the same for the state, which begins with the allies
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
        ("begin", "i8"),  # first and last + 1 of the walls that a unit in the cell may meet
        ("end", "i8"),
    ],
    align=True,
)

WALL = np.dtype([("x0", "f8"), ("y0", "f8"), ("x1", "f8"), ("y1", "f8")], align=True)

GROUP = np.dtype(
    [
        ("first", "i8", 2),  # number of the first unit of each side, and how many there are
        ("count", "i8", 2),
        ("place", "f8", (2, 2)),  # x and y for each side, unless places are drawn
        ("first_lot", "i8"),
        ("end_lot", "i8"),  # equal to first_lot if the kinds are not drawn
        ("reflected", "f8"),  # reflected places if a random number from 0 to 1 is below this
        ("surrounded", "f8"),  # else surrounded places if the number is below this
    ],
    align=True,
)

LOT = np.dtype([("kind", "i8"), ("below", "f8"), ("not_alone", "?")], align=True)

FAR = 10.0  # cells; if units can move further in a second, cells share one list of all walls

FINE_RING = 0.25  # cells between the rings on which a unit looks for room within 1 cell
# Drawn places are multiples of this part of a cell, so mirror images are exact in single precision
# on maps of up to 256 cells.
FINEST = 2.0**-16

# Fields that have the same name in UNIT and UnitKind
SAME = ("radius", "attacks", "armor", "speed", "range", "scan_range", "splash_radius")


class World(NamedTuple):
    """The parts of a scenario that its battles do not change."""

    rules: np.ndarray
    """[1] RULES"""
    damages: np.ndarray
    """[n_kinds, n_kinds] damage of a blow, bonuses included: row attacks column"""
    cells: np.ndarray
    """[height * width + 1] CELL, row by row; the last stands for all places off the map"""
    walls: np.ndarray
    """[n] WALL: cell by cell, the walls near the cell in the order of discovery"""
    allies: np.ndarray
    """[n_allies] index within the side -> number among all units"""
    enemies: np.ndarray
    """[n_enemies] the same for the enemies"""


class Start(NamedTuple):
    """The start of a scenario's battles."""

    units: np.ndarray
    """[n_units] UNIT at their places; units of random groups are not alive yet"""
    kinds: np.ndarray
    """[2, n_kinds] UNIT, an ally and an enemy of each kind"""
    groups: np.ndarray
    """[n] GROUP, the random groups"""
    lots: np.ndarray
    """[n] LOT, group by group"""
    spots: np.ndarray
    """[n, 2] offsets at which a unit looks for room around its place, the nearest first"""


class Seen(NamedTuple):
    """Observations of `num` battles; for a single battle, without the first dimension."""

    obs: np.ndarray
    """[num, n_agents, obs_size] float32"""
    state: np.ndarray
    """[num, state_size] float32"""
    avail_actions: np.ndarray
    """[num, n_agents, n_actions] int8"""


def build(
    scenario: Scenario, *, walls: str, time_limit: int, agent_ids: bool, clock: bool = False
) -> tuple[World, Start]:
    """The `World` and the `Start` of a scenario."""
    start = start_of(scenario)
    units = start.units
    rules = np.zeros(1, RULES)
    rules["time_limit"] = time_limit
    rules["published_walls"] = walls == "published"
    rules["agent_ids"] = agent_ids
    rules["clock"] = clock
    rules["height"], rules["width"] = scenario.blocked.shape
    rules["own_place"] = scenario.is_random
    rules["max_radius"] = start.kinds["radius"].max()
    _set_armies(rules[0], scenario, units)
    _set_layout(rules[0])
    kinds = scenario.kinds.values()
    damages = np.array([[kind.damage_to(other) for other in kinds] for kind in kinds], float)
    reach = float((start.kinds["radius"] + start.kinds["speed"]).max())
    cells, nearby = _cells(scenario.blocked, reach)
    rules["n_walls"] = cells["end"][-1] - cells["begin"][-1]
    allies = np.flatnonzero(units["is_ally"])
    enemies = np.flatnonzero(~units["is_ally"])
    return World(rules, damages, cells, nearby, allies, enemies), start


def seen_of(rules: np.void, num: int) -> Seen:
    """Uninitialised arrays for the observations of `num` battles."""
    n_agents = rules["n_allies"]
    return Seen(
        np.empty((num, n_agents, rules["obs_size"]), np.float32),
        np.empty((num, rules["state_size"]), np.float32),
        np.empty((num, n_agents, rules["n_actions"]), np.int8),
    )


def _set_armies(rules: np.void, scenario: Scenario, units: np.ndarray):
    allies, enemies = units[units["is_ally"]], units[~units["is_ally"]]
    rules["n_allies"], rules["n_enemies"] = len(allies), len(enemies)
    rules["n_actions"] = 6 + max(len(enemies), _patients(scenario))
    rules["n_types"] = len(scenario.unit_types)
    rules["ally_shields"], rules["enemy_shields"] = map(scenario.has_shields, SIDES)


def _patients(scenario: Scenario) -> int:
    """Number of targets of healers: the allies by index, up to the last that is not a healer."""
    index, slots, any_healer = 0, 0, False
    for group in scenario.groups:
        for kinds in _possible_kinds(scenario, group, "ally"):
            index += 1
            any_healer |= any(kind.attack == "heal" for kind in kinds)
            if any(kind.attack != "heal" for kind in kinds):
                slots = index
    return slots if any_healer else 0


def _possible_kinds(scenario: Scenario, group: Group, side: str) -> list[list[UnitKind]]:
    """The possible kinds of each unit of one side of a group."""
    if group.number:
        return [[scenario.kinds[name] for name in group.units]] * group.count(side)
    counts = group.units if group.count(side) else {}
    return [[scenario.kinds[name]] for name, count in counts.items() for _ in range(count)]


def _set_layout(rules: np.void):
    """Set the positions of all blocks in observations and states (section 13)."""
    n_allies, n_enemies = rules["n_allies"], rules["n_enemies"]
    of_ally = rules["ally_shields"] + rules["n_types"]
    of_enemy = rules["enemy_shields"] + rules["n_types"]
    rules["obs_enemy_size"] = 5 + of_enemy
    rules["obs_ally_size"] = 5 + of_ally
    rules["obs_enemies"] = 4
    rules["obs_allies"] = rules["obs_enemies"] + n_enemies * rules["obs_enemy_size"]
    rules["obs_own"] = rules["obs_allies"] + (n_allies - 1) * rules["obs_ally_size"]
    rules["obs_place"] = rules["obs_own"] + 1 + of_ally
    rules["obs_id"] = rules["obs_place"] + (2 if rules["own_place"] else 0)
    rules["obs_size"] = rules["obs_id"] + (n_allies if rules["agent_ids"] else 0) + rules["clock"]
    rules["state_ally_size"] = 4 + of_ally
    rules["state_enemy_size"] = 3 + of_enemy
    rules["state_enemies"] = n_allies * rules["state_ally_size"]
    rules["state_actions"] = rules["state_enemies"] + n_enemies * rules["state_enemy_size"]
    rules["state_size"] = rules["state_actions"] + n_allies * rules["n_actions"] + rules["clock"]


def start_of(scenario: Scenario) -> Start:
    """The start of a scenario's battles (section 5)."""
    kinds = np.array([[_unit(scenario, kind, side) for kind in scenario.kinds] for side in SIDES])
    rows = list(scenario.kinds)
    units, groups, lots = [], [], []
    index = {"ally": 0, "enemy": 0}
    for group in scenario.groups:
        first = [0, 0]
        for side, of_side in zip(SIDES, kinds, strict=True):
            first[SIDES.index(side)] = len(units)
            for possible in _possible_kinds(scenario, group, side):
                units.append(of_side[rows.index(possible[0].name)].copy())
                units[-1]["index"] = index[side]
                index[side] += 1
        if group.is_drawn:
            groups.append(_drawn(group, first, lots, rows))
            continue
        members = scenario.members_of(group)
        for unit, member in zip(units[-len(members) :], members, strict=True):
            unit["x"] = unit["start_x"] = member.x
            unit["y"] = unit["start_y"] = member.y
            unit["alive"] = True
    spots = _spots(math.hypot(*scenario.blocked.shape)) if groups else np.zeros((0, 2))
    return Start(np.array(units), kinds, np.array(groups, GROUP), np.array(lots, LOT), spots)


def _unit(scenario: Scenario, name: str, side: str) -> np.void:
    """A unit of a kind, still without place and index. It is not alive yet."""
    unit = np.zeros((), UNIT)
    _set_statistics(unit, scenario.kinds[name])
    unit["is_ally"] = side == "ally"
    unit["order"] = STOP if side == "ally" else MARCH
    if side == "enemy":
        unit["order_x"], unit["order_y"] = scenario.attack_point or (np.nan, np.nan)
    unit["kind"] = list(scenario.kinds).index(name)
    unit["type"] = scenario.unit_types.index(name) if scenario.unit_types else 0
    for field in ("target", "prev_target", "order_target"):
        unit[field] = NOBODY
    unit["last_action"] = -1
    return unit


def _drawn(group: Group, first: list[int], lots: list, rows: list[str]) -> np.void:
    """The record of a random group whose units are numbered from `first`; appends to `lots`."""
    record = np.zeros((), GROUP)
    record["first"] = first
    record["count"] = [group.count(side) for side in SIDES]
    for side in group.sides() if group.at else ():
        record["place"][SIDES.index(side)] = group.place_of(side)
    record["first_lot"] = len(lots)
    if group.number:
        below = np.cumsum(list(group.units.values())) / sum(group.units.values())
        for name, high in zip(group.units, below, strict=True):
            lots.append((rows.index(name), high, name in group.not_alone))
    record["end_lot"] = len(lots)
    weights = [group.places.get(place, 0) for place in PLACES]
    record["reflected"], record["surrounded"] = np.cumsum(weights) / (sum(weights) or 1)
    return record


@cache
def _spots(reach: float) -> np.ndarray:
    """The place itself, then rings of spots up to a radius, [n, 2].

    Neighbours on a ring are about as far apart as the rings.
    """
    spots = [np.zeros((1, 2))]
    for width, low, high in ((FINE_RING, 0, 1), (RING, 1, reach)):
        for radius in np.arange(low + width, high + width / 2, width):
            n_spots = 6 * round(radius / width)
            angle = 2 * math.pi * np.arange(n_spots) / n_spots
            spots.append(radius * np.stack([np.cos(angle), np.sin(angle)], axis=1))
    return np.trunc(np.concatenate(spots) / FINEST) * FINEST


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

    Places off the map list all walls; if `reach` exceeds FAR, every cell does.
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
