"""What a battle consists of: unit kinds, terrain, groups; from this package or your own file.

A scenario is data. `load_map("3m")` gives one of the 23 maps of SMAC, `load_scenario("mine.toml")`
your own. The tables of the package (`maps.toml`, `terrains.toml`, `units.toml`) have the same shape
as your file.
"""

import difflib
import math
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from functools import cache, partial
from numbers import Real
from pathlib import Path

import numpy as np

ATTACKS = ("standard", "kamikaze", "laser", "heal")
PLANES = ("GROUND", "AIR")
SIDES = ("ally", "enemy")


class ScenarioError(ValueError):
    """A scenario that cannot be fought; the message names the field."""


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


@dataclass(frozen=True)
class Group:
    """Units of one side that stand together at the start."""

    side: str
    at: tuple[float, float]
    units: dict[str, int]


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

    def count(self, side: str) -> int:
        return sum(sum(group.units.values()) for group in self.groups if group.side == side)

    @property
    def unit_types(self) -> list[str]:
        """Order of the one-hot unit type; empty (no such feature) if each side has one kind."""
        return sorted(self.kinds) if any(len(self.kinds_of(side)) > 1 for side in SIDES) else []

    def has_shields(self, side: str) -> bool:
        return any(self.kinds[name].shield > 0 for name in self.kinds_of(side))


@cache
def _table(name: str) -> dict:
    return tomllib.loads((Path(__file__).parent / f"{name}.toml").read_text())


def map_names() -> list[str]:
    """The names of the maps of the package."""
    return list(_table("maps"))


def load_map(name: str) -> Scenario:
    """One of the maps of the package. For an unknown one: ScenarioError with the nearest names."""
    if name not in _table("maps"):
        raise ScenarioError(f"unknown map {name!r}; {_nearest(name, map_names())}")
    return _build(_table("maps")[name], name)


def load_scenario(source: str | Path | dict) -> Scenario:
    """A user's own scenario, from a TOML file or a dict of the same shape.

    Raises:
        ScenarioError: names the file and the field that is wrong, and what would be right.
    """
    if isinstance(source, dict):
        return _build(source, str(source.get("name", "scenario")))
    try:
        return _build(tomllib.loads(Path(source).read_text()), Path(source).name)
    except OSError as error:
        raise ScenarioError(f"cannot read the map file {source}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{source} is not a TOML file: {error}") from None


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
    return f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known)}"


# Reading a table. `where` is the file and the field, which begin every message.


def _check(ok: bool, where: str, wanted: str):
    if not ok:
        raise ScenarioError(f"{where}: {wanted}")


def _known(value, where: str, what: str, known: list[str]):
    if value not in known:
        raise ScenarioError(f"{where}: unknown {what}; {_nearest(value, known)}")


def _keys(entry, where: str, known: list[str], required: tuple[str, ...] = ()):
    _check(isinstance(entry, dict), where, f"expected a table with {', '.join(known)}")
    for key in entry:
        _known(key, f"{where}.{key}", "field", known)
    for key in required:
        _check(key in entry, f"{where}.{key}", "missing")


def _number(
    value, where: str, low: float = -math.inf, above: float = -math.inf, whole: bool = False
) -> float:
    kind = int if whole else Real
    ok = isinstance(value, kind) and not isinstance(value, bool) and math.isfinite(value)
    bound = f" >= {low:g}" if low > -math.inf else "" if above == -math.inf else f" > {above:g}"
    wanted = f"expected a {'whole ' if whole else ''}number{bound}, got {value!r}"
    _check(ok and value >= low and value > above, where, wanted)
    return value


def _numbers(value, where: str, count: int, low: float = -math.inf, whole: bool = False) -> tuple:
    ok = isinstance(value, list | tuple) and len(value) == count
    _check(ok, where, f"expected {count} numbers, got {value!r}")
    return tuple(_number(entry, f"{where}[{i}]", low, whole=whole) for i, entry in enumerate(value))


def _choice(value, where: str, options) -> str:
    _check(value in options, where, f"expected one of {', '.join(options)}, got {value!r}")
    return value


def _names(value, where: str) -> tuple[str, ...]:
    ok = isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value)
    _check(ok, where, f"expected a list of names, got {value!r}")
    return tuple(value)


def _planes(value, where: str) -> tuple[str, ...]:
    return tuple(_choice(plane, where, PLANES) for plane in _names(value, where))


def _bonus(value, where: str) -> dict[str, float]:
    wanted = f"expected a table of attribute = extra damage, got {value!r}"
    _check(isinstance(value, dict), where, wanted)
    return {attribute: _number(extra, f"{where}.{attribute}") for attribute, extra in value.items()}


READERS = {
    "hp": partial(_number, above=0),
    "radius": partial(_number, above=0),
    "attacks": partial(_number, low=1, whole=True),
    "attack": partial(_choice, options=ATTACKS),
    "plane": partial(_choice, options=PLANES),
    "targets": _planes,
    "attributes": _names,
    "bonus": _bonus,
    "beam": partial(_numbers, count=2, low=0),
}


def _unit_kind(kind: str, entry, where: str) -> UnitKind:
    known = {f.name: f for f in fields(UnitKind) if f.name != "name"}
    _keys(entry, where, ["like", *known])
    if "like" in entry:
        _known(entry["like"], f"{where}.like", "unit", list(_table("units")))
        own = {key: value for key, value in entry.items() if key != "like"}
        entry = _table("units")[entry["like"]] | own
    required = [key for key, f in known.items() if f.default is f.default_factory is MISSING]
    _keys(entry, where, list(known), tuple(required))
    read = {}
    for key, value in entry.items():
        reader = READERS.get(key, partial(_number, low=0))
        read[key] = reader(value, f"{where}.{key}")
    if read["attack"] != "heal":
        _number(read["cooldown"], f"{where}.cooldown", above=0)
    return UnitKind(kind, **read)


def _ground(table: dict, name: str) -> np.ndarray:
    """[height, width] bool, the blocked cells."""
    if "terrain" in table:
        where, terrain = f"{name}: terrain", table["terrain"]
        alone = "walls" not in table and "size" not in table
        _check(alone, where, "give either terrain, or size and walls")
        _known(terrain, where, f"terrain {terrain!r}", list(_table("terrains")))
        table = _table("terrains")[terrain]
    width, height = _numbers(table.get("size", [32, 32]), f"{name}: size", 2, low=1, whole=True)
    blocked = np.zeros((height, width), bool)
    walls = table.get("walls", [])
    _check(isinstance(walls, list | tuple), f"{name}: walls", "expected a list of [x0, y0, x1, y1]")
    for i, rectangle in enumerate(walls):
        where = f"{name}: walls[{i}]"
        x0, y0, x1, y1 = _numbers(rectangle, where, 4, low=0, whole=True)
        inside = x0 < x1 <= width and y0 < y1 <= height
        _check(inside, where, f"not a rectangle inside {width} x {height}")
        blocked[y0:y1, x0:x1] = True
    return blocked


def _group(entry, where: str, known_units: list[str]) -> Group:
    _keys(entry, where, ["side", "at", "units"], required=("side", "at", "units"))
    units = entry["units"]
    ok = isinstance(units, dict) and len(units) > 0
    _check(ok, f"{where}.units", "expected a table of kind = count")
    for kind, count in units.items():
        _known(kind, f"{where}.units.{kind}", "unit", known_units)
        _number(count, f"{where}.units.{kind}", low=1, whole=True)
    side = _choice(entry["side"], f"{where}.side", SIDES)
    return Group(side, _numbers(entry["at"], f"{where}.at", 2), dict(units))


def _build(table: dict, name: str) -> Scenario:
    known = ["name", "terrain", "size", "walls", "episode_limit", "attack_point", "groups", "units"]
    for key in table:
        _known(key, f"{name}: {key}", "field", known)
    for key in ("groups", "attack_point"):
        _check(key in table, f"{name}: {key}", "missing")
    own = table.get("units", {})
    _check(isinstance(own, dict), f"{name}: units", "expected a table of unit kinds")
    kinds = {}
    for kind, entry in (_table("units") | own).items():
        kinds[kind] = _unit_kind(kind, entry, f"{name}: units.{kind}")
    where, entries = f"{name}: groups", table["groups"]
    _check(isinstance(entries, list | tuple), where, "expected a list of groups")
    groups = tuple(_group(entry, f"{where}[{i}]", list(kinds)) for i, entry in enumerate(entries))
    for side in SIDES:
        some = any(group.side == side for group in groups)
        _check(some, where, f"there is no group of side {side!r}")
    limit = table.get("episode_limit", 150)
    return Scenario(
        name=name,
        blocked=_ground(table, name),
        groups=groups,
        attack_point=_numbers(table["attack_point"], f"{name}: attack_point", 2),
        episode_limit=_number(limit, f"{name}: episode_limit", low=1, whole=True),
        kinds={kind: kinds[kind] for group in groups for kind in group.units},
    )
