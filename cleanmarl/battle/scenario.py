"""Scenarios: unit kinds, terrain and groups of a battle, from this package or your own file.

A scenario is data. `load_map("3m")` loads one of the 23 maps of SMAC, `load_map("terran_5_vs_5")`
random battles as in SMACv2, `load_scenario("mine.toml")` your own. The tables of the package
(`maps.toml`, `races.toml`, `terrains.toml`, `units.toml`) have the same format as your file.
"""

import math
import re
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
PLACES = ("reflected", "surrounded")

SMALLEST = 0.01  # hp, radius, cooldown
LARGEST_RADIUS = 2  # cells; units that touch are then within TARGET_RANGE
MOST_UNITS = 100  # of a side
MOST_OF_A_RACE = 50  # of a side, in the random battles of the package
MOST_CELLS = 256  # along a side of the map
MOST_STEPS = 1_000_000  # of an episode
LEAST_WEIGHT, LARGEST_WEIGHT = 0.001, 1000  # of kinds or places that are drawn at random
GAP = 0.05  # between units at the start
RING = 0.5  # cells between the rings on which a drawn unit looks for room further than 1 cell away
TARGET_RANGE = 6.0  # greatest distance of an agent's target, from centre to centre


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
    """words that the `bonus` of other kinds may name"""
    plane: str = "GROUND"
    """GROUND or AIR; only units of one plane collide, and only ground units meet walls"""
    damage: float = 0
    """damage of one blow"""
    attacks: int = 1
    """blows per attack"""
    bonus: dict[str, float] = field(default_factory=dict)
    """attribute of the target -> extra damage of one blow"""
    armor: float = 0
    """subtracted from the part of each blow that reaches the health points"""
    shield: float = 0
    """shield points; they regenerate, and armor does not protect them"""
    hp_regen: float = 0
    """health points per second"""
    energy: float = 0
    """maximum energy of a healer"""
    energy_start: float = 0
    """energy at the start of the battle"""
    scan_range: float = 5
    """distance in cells within which an enemy looks for targets"""
    splash_radius: float = 0
    """kamikaze: reach of the explosion in cells"""
    beam: tuple[float, float] = (0, 0)
    """laser: length across the line of fire and depth along it, in cells"""

    def damage_to(self, other: "UnitKind") -> float:
        """Damage of one blow, before shield and armor."""
        return self.damage + sum(self.bonus.get(attribute, 0) for attribute in other.attributes)

    def can_hurt(self, other: "UnitKind") -> bool:
        """Whether an attack on this kind does damage."""
        can_hit = self.attack != "heal" and other.plane in self.targets
        armor = 0 if other.shield > 0 else other.armor
        return can_hit and self.damage_to(other) > armor


@dataclass(frozen=True)
class Group:
    """Units that start together. Their kinds and places may be drawn for each battle."""

    side: str
    """ally, enemy, or both; with both, the enemies get the same army as the allies"""
    at: tuple
    """its place, or two places for both sides; empty if places are drawn"""
    units: dict[str, float]
    """number of units of each kind or, with `number`, the weight of each kind"""
    number: tuple[int, int] | None = None
    """number of allies and of enemies, if their kinds are drawn"""
    not_alone: tuple[str, ...] = ()
    """kinds that may not fill an army alone"""
    places: dict[str, float] = field(default_factory=dict)
    """weights of `PLACES`, if places are drawn"""

    @property
    def is_drawn(self) -> bool:
        return self.side == "both" or self.number is not None

    def sides(self) -> tuple[str, ...]:
        return SIDES if self.side == "both" else (self.side,)

    def count(self, side: str) -> int:
        if side not in self.sides():
            return 0
        return sum(self.units.values()) if self.number is None else self.number[SIDES.index(side)]

    def place_of(self, side: str) -> tuple[float, float]:
        """The place of one side of the group, if the scenario gives it."""
        return self.at[SIDES.index(side)] if self.side == "both" else self.at


class Member(NamedTuple):
    """A unit of a group, and its starting place."""

    kind: UnitKind
    x: float
    y: float


@dataclass(frozen=True)
class Scenario:
    """A battle: its units, their places, the terrain, and the time limit."""

    name: str
    blocked: np.ndarray
    """[height, width] bool, True where a cell is a wall; y grows to the north"""
    groups: tuple[Group, ...]
    attack_point: tuple[float, float] | None
    """where the enemies march to, in cells; None: the middle of the allies' starting places"""
    episode_limit: int
    """environment steps"""
    kinds: dict[str, UnitKind]
    """the kinds that the groups use, by name"""

    def kinds_of(self, side: str) -> set[str]:
        return {name for group in self.groups if side in group.sides() for name in group.units}

    def members_of(self, group: Group) -> list[Member]:
        """The units of a group without random parts, in the order of their numbers."""
        kinds = []
        for name, count in group.units.items():
            kinds += [self.kinds[name]] * count
        places = _grid(group.side, group.at, [kind.radius for kind in kinds])
        return [Member(kind, *place) for kind, place in zip(kinds, places, strict=True)]

    def count(self, side: str) -> int:
        return sum(group.count(side) for group in self.groups)

    @property
    def is_random(self) -> bool:
        """Whether anything at the start of a battle is drawn."""
        return any(group.is_drawn for group in self.groups)

    @property
    def unit_types(self) -> list[str]:
        """Order of the one-hot unit type; empty (no such feature) if each side has one kind."""
        return sorted(self.kinds) if any(len(self.kinds_of(side)) > 1 for side in SIDES) else []

    def has_shields(self, side: str) -> bool:
        return any(self.kinds[name].shield > 0 for name in self.kinds_of(side))


def _grid(side: str, at: tuple[float, float], radii: list[float]) -> list[tuple[float, float]]:
    """Centres of the members of a group, row by row in a square grid (section 5).

    The enemies' grid is rotated by 180 degrees.
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


def random_names() -> list[str]:
    """The names of SMACv2's random battles; `load_map` accepts other numbers of units too."""
    sizes = ("5_vs_5", "10_vs_10", "10_vs_11", "20_vs_20", "20_vs_23")
    return [f"{race}_{size}" for race in _table("races") for size in sizes]


def load_map(name: str) -> Scenario:
    """One of the maps of the package, or random battles such as zerg_7_vs_8.

    Raises ScenarioError with the nearest names if the name is unknown.
    """
    if name in _table("maps"):
        return _build(_table("maps")[name], name)
    found = re.fullmatch(r"(\w+?)_(0|[1-9]\d*)_vs_(0|[1-9]\d*)", name, re.ASCII)
    if found and found[1] in _table("races"):
        number = [int(digits) if len(digits) < 9 else 10**9 for digits in found.groups()[1:]]
        for count in number:
            expect(1 <= count <= MOST_OF_A_RACE, name, f"1 to {MOST_OF_A_RACE} units a side", count)
        group = _table("races")[found[1]] | {"side": "both", "number": number}
        return _build({"episode_limit": 200, "groups": [group]}, name)
    known = map_names() + random_names()
    if found:  # other numbers, and a misspelt race
        known += {race + name[found.end(1) :] for race in _table("races")} - {*known}
    raise ScenarioError(f"unknown map {name!r}; {nearest(name, known)}")


def load_scenario(source: str | Path | dict) -> Scenario:
    """Your own scenario, from a TOML file or a dict of the same format.

    Raises:
        ScenarioError: the message names the file, the wrong field, and the expected value.
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
    if kind.attack == "kamikaze":  # a smaller explosion would miss the target
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
    known = ["side", "at", "units", "number", "not_alone", "places"]
    check_keys(entry, where, known, required=("side", "units"))
    side = read_choice(entry["side"], f"{where}.side", (*SIDES, "both"))
    places = {}
    if "places" in entry:
        places = _weights(entry["places"], f"{where}.places", "place", PLACES)
    check(not places or side == "both", f"{where}.places", 'only with side = "both"')
    check(not places or "at" not in entry, f"{where}.places", "give either at or places")
    check(places or "at" in entry, f"{where}.at", "missing")
    number = _number(entry["number"], f"{where}.number", side) if "number" in entry else None
    if number:
        units = _weights(entry["units"], f"{where}.units", "unit", known_units)
    else:
        units = _counts(entry["units"], f"{where}.units", known_units)
    not_alone = read_names(entry.get("not_alone", []), f"{where}.not_alone")
    for kind in not_alone:
        check(number, f"{where}.not_alone", "only with number, where kinds are drawn")
        check_known(kind, f"{where}.not_alone", f"unit {kind!r} of the group", list(units))
    some = set(units) - set(not_alone)
    check(some, f"{where}.not_alone", "some kind must be able to fill an army alone")
    return Group(side, _at(entry, where, side), units, number, not_alone, places)


def _at(entry: dict, where: str, side: str) -> tuple:
    if "at" not in entry:
        return ()
    if side != "both":
        return _place(entry["at"], f"{where}.at")
    two = read_list(entry["at"], f"{where}.at", "two places, of the allies and of the enemies", 2)
    return tuple(_place(place, f"{where}.at[{i}]") for i, place in enumerate(two))


def _number(value, where: str, side: str) -> tuple[int, int]:
    whole = {"low": 1, "high": MOST_UNITS, "whole": True}
    if side == "both":
        return read_numbers(value, where, 2, **whole)
    return (read_number(value, where, **whole),) * 2


def _counts(value, where: str, known: list[str]) -> dict[str, int]:
    ok = isinstance(value, dict) and len(value) > 0
    expect(ok, where, "a table of kind = count", value)
    for kind, count in value.items():
        check_known(kind, f"{where}.{kind}", "unit", known)
        read_number(count, f"{where}.{kind}", low=1, high=MOST_UNITS, whole=True)
    return dict(value)


def _weights(value, where: str, what: str, known) -> dict[str, float]:
    ok = isinstance(value, dict) and len(value) > 0
    expect(ok, where, f"a table of {what} = weight", value)
    for name, weight in value.items():
        check_known(name, f"{where}.{name}", what, list(known))
        read_number(weight, f"{where}.{name}", low=LEAST_WEIGHT, high=LARGEST_WEIGHT)
    return dict(value)


def _build(table: dict, name: str) -> Scenario:
    known = ["name", "terrain", "size", "walls", "episode_limit", "attack_point", "groups", "units"]
    for key in table:
        check_known(key, f"{name}: {key}", "field", known)
    check("groups" in table, f"{name}: groups", "missing")
    own = table.get("units", {})
    expect(isinstance(own, dict), f"{name}: units", "a table of unit kinds", own)
    kinds = {}
    for kind, entry in (_table("units") | own).items():
        kinds[kind] = _unit_kind(kind, entry, f"{name}: units.{kind}")
    entries = enumerate(read_list(table["groups"], f"{name}: groups", "a list of groups"))
    groups = tuple(_group(entry, f"{name}: groups[{i}]", list(kinds)) for i, entry in entries)
    limit, point = table.get("episode_limit", 150), table.get("attack_point")
    scenario = Scenario(
        name=name,
        blocked=_ground(table, name),
        groups=groups,
        attack_point=None if point is None else _place(point, f"{name}: attack_point"),
        episode_limit=read_steps(limit, f"{name}: episode_limit"),
        kinds={kind: kinds[kind] for group in groups for kind in group.units},
    )
    _check_units(scenario, f"{name}: groups")
    if scenario.attack_point:
        problem = _problem_at(*scenario.attack_point, scenario.blocked)
        check(not problem, f"{name}: attack_point", f"it is {problem}")
    _check_reach(scenario, f"{name}: groups")
    return scenario


# Whether the battle can be fought


def _check_units(scenario: Scenario, where: str):
    """Both sides have units, not too many, and each unit stands on free ground."""
    for side in SIDES:
        count = scenario.count(side)
        check(count > 0, where, f"there is no group of side {side!r}")
        expect(count <= MOST_UNITS, where, f"at most {MOST_UNITS} units of side {side!r}", count)
    for i, group in enumerate(scenario.groups):
        if group.is_drawn:
            _check_drawn(scenario, group, f"{where}[{i}]")
            continue
        for kind, x, y in scenario.members_of(group):
            problem = _problem_at(x, y, scenario.blocked, flies=kind.plane == "AIR")
            place = f"a {kind.name} of this group would start at ({x:.2f}, {y:.2f}), {problem}"
            check(not problem, f"{where}[{i}].at", place)


def _check_drawn(scenario: Scenario, group: Group, where: str):
    """There is room for all units of a random group, and all units can meet."""
    blocked = scenario.blocked
    for side in group.sides() if group.at else ():
        x, y = group.place_of(side)
        problem = _problem_at(x, y, blocked)
        field = f"at[{SIDES.index(side)}]" if group.side == "both" else "at"
        check(not problem, f"{where}.{field}", f"({x:.2f}, {y:.2f}) is {problem}")
    # Half of the map (as for reflected places) must have twice the room that a side needs.
    width = blocked.shape[1]
    largest = max(RING / 2, *(kind.radius for kind in scenario.kinds.values()))
    columns = max(0, int(width / 2 - max(1, largest)))
    free = ~blocked
    half = min(free[:, :columns].sum(), free[:, width - columns :].sum())
    room = int(half / 2 / (2 * largest) ** 2)
    most = max(map(scenario.count, SIDES))
    problem = f"this map has room for {room} units of a side, not for {most}"
    check(most <= room, where, problem)
    in_one_piece = _spread(blocked, np.argwhere(free)[:1].tolist()).sum() == free.sum()
    problem = "walls divide the map, so units could start in parts that do not connect"
    check(in_one_piece, where, problem)


def _problem_at(x: float, y: float, blocked: np.ndarray, flies: bool = False) -> str:
    """What is wrong with a place; an empty string if nothing is."""
    height, width = blocked.shape
    x, y = np.float32(x), np.float32(y)  # as the engine stores them
    if not (0 <= x < width and 0 <= y < height):
        return f"off the map of {width} x {height} cells"
    return "in a wall" if blocked[int(y), int(x)] and not flies else ""


def _check_reach(scenario: Scenario, where: str):
    """Some ally can reach an enemy and hurt it: otherwise the reward would stay 0."""
    pairs = []
    for ally in scenario.kinds_of("ally"):
        for enemy in scenario.kinds_of("enemy"):
            if scenario.kinds[ally].can_hurt(scenario.kinds[enemy]):
                pairs.append((ally, enemy))
    reasons = "see attack, targets, damage and armor of the kinds"
    check(len(pairs) > 0, where, f"no ally can hurt an enemy: {reasons}")
    meet = any(_can_meet(scenario, ally, enemy) for ally, enemy in pairs)
    reasons = "see walls, speed and range"
    check(meet, where, f"no ally can reach an enemy that it can hurt: {reasons}")


def _can_meet(scenario: Scenario, ally: str, enemy: str) -> bool:
    """Whether allies of one kind can come into range of enemies of another, cell by cell."""
    one, other = scenario.kinds[ally], scenario.kinds[enemy]
    theirs = _reachable(scenario, "enemy", other)
    ours = _reachable(scenario, "ally", one)
    if (ours & theirs).any():
        return True
    reach = math.ceil(min(one.range + one.radius + other.radius, TARGET_RANGE))
    windows = sliding_window_view(np.pad(ours, reach), (2 * reach + 1, 2 * reach + 1))
    return bool((windows.any(axis=(2, 3)) & theirs).any())


def _reachable(scenario: Scenario, side: str, kind: UnitKind) -> np.ndarray:
    """[height, width] bool: the cells that units of a kind can reach."""
    blocked = scenario.blocked
    cells = []
    for group in scenario.groups:
        if side not in group.sides() or kind.name not in group.units:
            continue
        if group.places:
            cells += np.argwhere(~blocked).tolist()
        elif group.is_drawn:
            x, y = group.place_of(side)
            cells.append((int(y), int(x)))
        else:
            members = scenario.members_of(group)
            cells += [(int(y), int(x)) for of, x, y in members if of is kind]
    flies = kind.plane == "AIR"
    if kind.speed > 0:
        return np.ones_like(blocked) if flies else _spread(blocked, cells)
    reachable = np.zeros_like(blocked)
    for y, x in cells:
        reachable[y, x] = flies or not blocked[y, x]
    return reachable


def _spread(blocked: np.ndarray, cells: list) -> np.ndarray:
    """[height, width] bool: the free cells that a unit can walk to from `cells`, each (y, x)."""
    height, width = blocked.shape
    reached = np.zeros_like(blocked)
    cells = list(cells)
    while cells:
        y, x = cells.pop()
        inside = 0 <= y < height and 0 <= x < width
        if inside and not blocked[y, x] and not reached[y, x]:
            reached[y, x] = True
            cells += [(y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x)]
    return reached
