"""What a battle consists of: unit kinds, terrain, groups; from this package or your own file.

A scenario is data. `load_map("3m")` gives one of the 23 maps of SMAC, `load_scenario("mine.toml")`
your own. The tables of the package (`maps.toml`, `terrains.toml`, `units.toml`) have the same shape
as your file.
"""

import math
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cleanmarl.battle.reading import (
    ScenarioError,
    check,
    check_keys,
    check_known,
    expect,
    nearest,
    read_choice,
    read_list,
    read_names,
    read_number,
    read_numbers,
)

ATTACKS = ("standard", "kamikaze", "laser", "heal")
PLANES = ("GROUND", "AIR")
SIDES = ("ally", "enemy")

SMALLEST = 0.01  # hp, radius, cooldown
LARGEST_RADIUS = 2  # cells; two units that touch are then within reach of an order, which is 6
MOST_UNITS = 100  # of a side
MOST_CELLS = 256  # along a side of the map
MOST_STEPS = 1_000_000  # of an episode
GAP = 0.05  # between units at the start
TARGET_RANGE = 6.0  # how far away an agent may pick a target, from centre to centre


@dataclass(frozen=True)
class UnitKind:
    """The statistics of one kind of unit (section 3 of the rules)."""

    name: str
    hp: float
    """health points"""
    attack: str
    """standard (hits its target), kamikaze (explodes), laser (a beam across its target), or heal"""
    cooldown: float
    """seconds between two attacks"""
    range: float
    """reach of an attack in cells, between the rims of both units"""
    speed: float
    """cells per second"""
    radius: float
    """cells"""
    targets: tuple[str, ...] = ("GROUND",)
    """planes that it can attack or heal"""
    attributes: tuple[str, ...] = ()
    """what other kinds' `bonus` may refer to"""
    plane: str = "GROUND"
    """GROUND or AIR; only units of one plane collide, and only ground units meet walls"""
    damage: float = 0
    """of one blow"""
    attacks: int = 1
    """blows per attack"""
    bonus: dict[str, float] = field(default_factory=dict)
    """attribute of the target -> extra damage of a blow"""
    armor: float = 0
    """taken off the part of each blow that reaches the health points"""
    shield: float = 0
    """shield points; they regenerate, and armor does not protect them"""
    hp_regen: float = 0
    """health points per second"""
    energy: float = 0
    """full energy of a healer"""
    energy_start: float = 0
    """energy at the start of the battle"""
    scan_range: float = 5
    """how far it sees targets when it is on its own (enemies), in cells"""
    splash_radius: float = 0
    """kamikaze: reach of the explosion in cells"""
    beam: tuple[float, float] = (0, 0)
    """laser: length across the line of fire and depth along it, in cells"""

    def damage_to(self, other: "UnitKind") -> float:
        """Of one blow, before shield and armor."""
        return self.damage + sum(self.bonus.get(attribute, 0) for attribute in other.attributes)

    def can_hurt(self, other: "UnitKind") -> bool:
        """Whether an attack on this kind does damage."""
        can_hit = self.attack != "heal" and other.plane in self.targets
        armor = 0 if other.shield > 0 else other.armor
        return can_hit and self.damage_to(other) > armor


@dataclass(frozen=True)
class Group:
    """Units of one side that stand together at the start."""

    side: str
    at: tuple[float, float]
    units: dict[str, int]


class Member(NamedTuple):
    """A unit of a group, and where it starts."""

    kind: UnitKind
    x: float
    y: float


@dataclass(frozen=True)
class Scenario:
    """A battle: who, where, on what ground, and for how long."""

    name: str
    blocked: np.ndarray
    """[height, width] bool, True where a cell is a wall; y grows to the north"""
    groups: tuple[Group, ...]
    attack_point: tuple[float, float]
    """where the enemies march, in cells"""
    episode_limit: int
    """environment steps"""
    kinds: dict[str, UnitKind]
    """the kinds that occur, by name"""

    def kinds_of(self, side: str) -> set[str]:
        return {name for group in self.groups if group.side == side for name in group.units}

    def members_of(self, group: Group) -> list[Member]:
        """The units of a group in the order of their numbers, in their places."""
        kinds = []
        for name, count in group.units.items():
            kinds += [self.kinds[name]] * count
        places = _grid(group.side, group.at, [kind.radius for kind in kinds])
        return [Member(kind, *place) for kind, place in zip(kinds, places, strict=True)]

    def count(self, side: str) -> int:
        return sum(sum(group.units.values()) for group in self.groups if group.side == side)

    @property
    def unit_types(self) -> list[str]:
        """Order of the one-hot unit type; empty (no such feature) if each side has one kind."""
        return sorted(self.kinds) if any(len(self.kinds_of(side)) > 1 for side in SIDES) else []

    def has_shields(self, side: str) -> bool:
        return any(self.kinds[name].shield > 0 for name in self.kinds_of(side))


def _grid(side: str, at: tuple[float, float], radii: list[float]) -> list[tuple[float, float]]:
    """Centres of the members of a group, row by row in a square grid (section 5).

    The grid of the enemies is turned by 180 degrees.
    """
    sign = 1 if side == "ally" else -1
    columns = math.ceil(math.sqrt(len(radii)))
    rows = [radii[row * columns : (row + 1) * columns] for row in range(columns)]
    heights = [max(row, default=0) for row in rows]
    height = 2 * sum(heights) + (columns - 1) * GAP
    width = max(2 * sum(row) for row in rows)
    places = []
    y = at[1] - sign * height / 2
    previous_height = 0
    for row, row_height in zip(rows, heights, strict=True):
        y += sign * (previous_height + row_height)
        x = at[0] - sign * width / 2
        previous_radius = 0
        for radius in row:
            x += sign * (previous_radius + radius)
            places.append((x, y))
            x += sign * GAP
            previous_radius = radius
        y += sign * GAP
        previous_height = row_height
    return places


@cache
def _table(name: str) -> dict:
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text())


def map_names() -> list[str]:
    """The names of the maps of the package."""
    return list(_table("maps"))


def load_map(name: str) -> Scenario:
    """One of the maps of the package. For an unknown one: ScenarioError with the nearest names."""
    if name not in _table("maps"):
        raise ScenarioError(f"unknown map {name!r}; {nearest(name, map_names())}")
    return _build(_table("maps")[name], name)


def load_scenario(source: str | Path | dict) -> Scenario:
    """A user's own scenario, from a TOML file or a dict of the same shape.

    Raises:
        ScenarioError: names the file and the field that is wrong, and what would be right.
    """
    if isinstance(source, dict):
        return _build(source, str(source.get("name", "scenario")))
    try:
        table = tomllib.loads(Path(source).read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"cannot read the map file {source}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ScenarioError(f"{source} is not a TOML file: {error}") from None
    return _build(table, Path(source).name)


def _planes(value, where: str) -> tuple[str, ...]:
    return tuple(read_choice(plane, where, PLANES) for plane in read_names(value, where))


def _bonus(value, where: str) -> dict[str, float]:
    expect(isinstance(value, dict), where, "a table of attribute = extra damage", value)
    return {name: read_number(extra, f"{where}.{name}") for name, extra in value.items()}


_place = partial(read_numbers, count=2, high=MOST_CELLS)
read_steps = partial(read_number, low=1, high=MOST_STEPS, whole=True)
READERS = {
    "hp": partial(read_number, low=SMALLEST),
    "radius": partial(read_number, low=SMALLEST, high=LARGEST_RADIUS),
    "attacks": partial(read_number, low=1, high=100, whole=True),
    "attack": partial(read_choice, options=ATTACKS),
    "plane": partial(read_choice, options=PLANES),
    "targets": _planes,
    "attributes": read_names,
    "bonus": _bonus,
    "beam": partial(read_numbers, count=2),
}


def _unit_kind(name: str, entry, where: str) -> UnitKind:
    known = {f.name: f for f in fields(UnitKind) if f.name != "name"}
    check_keys(entry, where, ["like", *known])
    if "like" in entry:
        check_known(entry["like"], f"{where}.like", "unit", list(_table("units")))
        own = {key: value for key, value in entry.items() if key != "like"}
        entry = _table("units")[entry["like"]] | own
    required = [key for key, f in known.items() if f.default is f.default_factory is MISSING]
    check_keys(entry, where, list(known), tuple(required))
    read = {}
    for key, value in entry.items():
        reader = READERS.get(key, read_number)
        read[key] = reader(value, f"{where}.{key}")
    kind = UnitKind(name, **read)
    read_number(kind.energy_start, f"{where}.energy_start", high=kind.energy)
    if kind.attack != "heal":
        read_number(kind.cooldown, f"{where}.cooldown", low=SMALLEST)
    if kind.attack == "kamikaze":  # else its explosion misses the target
        read_number(kind.splash_radius, f"{where}.splash_radius", low=kind.range + kind.radius)
    return kind


def _ground(table: dict, name: str) -> np.ndarray:
    """[height, width] bool, the blocked cells."""
    if "terrain" in table:
        where, terrain = f"{name}: terrain", table["terrain"]
        alone = "walls" not in table and "size" not in table
        check(alone, where, "give either terrain, or size and walls")
        check_known(terrain, where, f"terrain {terrain!r}", list(_table("terrains")))
        table = _table("terrains")[terrain]
    cells = partial(read_numbers, low=0, high=MOST_CELLS, whole=True)
    width, height = cells(table.get("size", [32, 32]), f"{name}: size", 2, low=1)
    blocked = np.zeros((height, width), bool)
    walls = read_list(table.get("walls", []), f"{name}: walls", "a list of [x0, y0, x1, y1]")
    for i, rectangle in enumerate(walls):
        where = f"{name}: walls[{i}]"
        x0, y0, x1, y1 = cells(rectangle, where, 4)
        inside = x0 < x1 <= width and y0 < y1 <= height
        check(inside, where, f"not a rectangle inside {width} x {height}")
        blocked[y0:y1, x0:x1] = True
    return blocked


def _group(entry, where: str, known_units: list[str]) -> Group:
    check_keys(entry, where, ["side", "at", "units"], required=("side", "at", "units"))
    side = read_choice(entry["side"], f"{where}.side", SIDES)
    at = _place(entry["at"], f"{where}.at")
    units = entry["units"]
    ok = isinstance(units, dict) and len(units) > 0
    expect(ok, f"{where}.units", "a table of kind = count", units)
    for kind, count in units.items():
        check_known(kind, f"{where}.units.{kind}", "unit", known_units)
        read_number(count, f"{where}.units.{kind}", low=1, high=MOST_UNITS, whole=True)
    return Group(side, at, dict(units))


def _build(table: dict, name: str) -> Scenario:
    known = ["name", "terrain", "size", "walls", "episode_limit", "attack_point", "groups", "units"]
    for key in table:
        check_known(key, f"{name}: {key}", "field", known)
    for key in ("groups", "attack_point"):
        check(key in table, f"{name}: {key}", "missing")
    own = table.get("units", {})
    expect(isinstance(own, dict), f"{name}: units", "a table of unit kinds", own)
    kinds = {}
    for kind, entry in (_table("units") | own).items():
        kinds[kind] = _unit_kind(kind, entry, f"{name}: units.{kind}")
    entries = enumerate(read_list(table["groups"], f"{name}: groups", "a list of groups"))
    groups = tuple(_group(entry, f"{name}: groups[{i}]", list(kinds)) for i, entry in entries)
    limit = table.get("episode_limit", 150)
    scenario = Scenario(
        name=name,
        blocked=_ground(table, name),
        groups=groups,
        attack_point=_place(table["attack_point"], f"{name}: attack_point"),
        episode_limit=read_steps(limit, f"{name}: episode_limit"),
        kinds={kind: kinds[kind] for group in groups for kind in group.units},
    )
    _check_units(scenario, f"{name}: groups")
    problem = _problem_at(*scenario.attack_point, scenario.blocked)
    check(not problem, f"{name}: attack_point", f"it is {problem}")
    _check_reach(scenario, f"{name}: groups")
    return scenario


# Whether the battle can be fought


def _check_units(scenario: Scenario, where: str):
    """There are units on both sides, not too many, and each stands on free ground."""
    for side in SIDES:
        count = scenario.count(side)
        check(count > 0, where, f"there is no group of side {side!r}")
        expect(count <= MOST_UNITS, where, f"at most {MOST_UNITS} units of side {side!r}", count)
    for i, group in enumerate(scenario.groups):
        for kind, x, y in scenario.members_of(group):
            problem = _problem_at(x, y, scenario.blocked, flies=kind.plane == "AIR")
            place = f"a {kind.name} of this group would start at ({x:.2f}, {y:.2f}), {problem}"
            check(not problem, f"{where}[{i}].at", place)


def _problem_at(x: float, y: float, blocked: np.ndarray, flies: bool = False) -> str:
    """What is wrong with a place, or nothing."""
    height, width = blocked.shape
    x, y = np.float32(x), np.float32(y)  # as the engine stores them
    if not (0 <= x < width and 0 <= y < height):
        return f"off the map of {width} x {height} cells"
    return "in a wall" if blocked[int(y), int(x)] and not flies else ""


def _check_reach(scenario: Scenario, where: str):
    """Some ally can hurt an enemy and get to it: else the reward would stay 0."""
    pairs = []
    for ally in scenario.kinds_of("ally"):
        for enemy in scenario.kinds_of("enemy"):
            if scenario.kinds[ally].can_hurt(scenario.kinds[enemy]):
                pairs.append((ally, enemy))
    reasons = "see attack, targets, damage and armor of the kinds"
    check(len(pairs) > 0, where, f"no ally can hurt an enemy: {reasons}")
    meet = any(_can_meet(scenario, ally, enemy) for ally, enemy in pairs)
    reasons = "see walls, speed and range"
    check(meet, where, f"no ally can get to an enemy that it can hurt: {reasons}")


def _can_meet(scenario: Scenario, ally: str, enemy: str) -> bool:
    """Whether allies of a kind can get into reach of enemies of another, cell by cell."""
    one, other = scenario.kinds[ally], scenario.kinds[enemy]
    theirs = _reachable(scenario, "enemy", other)
    ours = _reachable(scenario, "ally", one)
    if (ours & theirs).any():
        return True
    reach = math.ceil(min(one.range + one.radius + other.radius, TARGET_RANGE))
    windows = sliding_window_view(np.pad(ours, reach), (2 * reach + 1, 2 * reach + 1))
    return bool((windows.any(axis=(2, 3)) & theirs).any())


def _reachable(scenario: Scenario, side: str, kind: UnitKind) -> np.ndarray:
    """[height, width] bool: the cells that the units of a kind can get to."""
    height, width = scenario.blocked.shape
    reachable = np.zeros_like(scenario.blocked)
    groups = [group for group in scenario.groups if group.side == side]
    members = [member for group in groups for member in scenario.members_of(group)]
    cells = [(int(y), int(x)) for of, x, y in members if of is kind]
    if kind.speed > 0 and kind.plane == "AIR":
        return ~reachable
    while cells:
        y, x = cells.pop()
        if not (0 <= y < height and 0 <= x < width) or reachable[y, x]:
            continue
        if kind.plane == "GROUND" and scenario.blocked[y, x]:
            continue
        reachable[y, x] = True
        if kind.speed > 0:
            cells += [(y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)]
    return reachable
