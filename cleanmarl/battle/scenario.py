"""What a battle consists of: unit kinds, terrain, groups; from the tables of this package or a user's own file.

A scenario is data. `load_map("3m")` gives one of the 23 maps of SMAC, `load_scenario("mine.toml")` a user's own; the
tables of the package (`maps.toml`, `terrains.toml`, `units.toml`) have the very shape that a user's file has.
"""

import difflib
import math
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
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
    """standard (hits its target), kamikaze (explodes), laser (hits a beam across its target), or heal"""
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
        """Order of the one-hot unit type; empty (no such feature) where each side has a single kind."""
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
    """One of the maps of the package. Raises ScenarioError, with the nearest names, for an unknown one."""
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


def _build(table: dict, name: str) -> Scenario:
    def check(ok: bool, where: str, wanted: str):
        if not ok:
            raise ScenarioError(f"{name}: {where}: {wanted}")

    def known_keys(entry, where: str, keys: list[str]):
        check(isinstance(entry, dict), where, f"expected a table with {', '.join(keys)}")
        for key in entry:
            check(key in keys, f"{where}.{key}".lstrip("."), f"unknown field; {_nearest(key, keys)}")

    def number(value, where: str, low: float = -math.inf, strictly: bool = False, whole: bool = False):
        ok = isinstance(value, int if whole else Real) and not isinstance(value, bool) and math.isfinite(value)
        bound = "" if low == -math.inf else f" {'>' if strictly else '>='} {low:g}"
        wanted = f"expected a {'whole ' if whole else ''}number{bound}, got {value!r}"
        check(ok and (value > low if strictly else value >= low), where, wanted)
        return value

    def numbers(value, where: str, count: int, low: float = -math.inf, whole: bool = False) -> tuple:
        check(
            isinstance(value, list | tuple) and len(value) == count, where, f"expected {count} numbers, got {value!r}"
        )
        return tuple(number(entry, f"{where}[{i}]", low, whole=whole) for i, entry in enumerate(value))

    def choice(value, where: str, options) -> str:
        check(value in options, where, f"expected one of {', '.join(options)}, got {value!r}")
        return value

    def names(value, where: str) -> tuple[str, ...]:
        ok = isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value)
        check(ok, where, f"expected a list of names, got {value!r}")
        return tuple(value)

    def unit_kind(kind: str, entry) -> UnitKind:
        where = f"units.{kind}"
        known_keys(entry, where, ["like"] + [f.name for f in fields(UnitKind) if f.name != "name"])
        entry = dict(entry)
        if "like" in entry:
            like = entry.pop("like")
            check(like in _table("units"), f"{where}.like", f"unknown unit; {_nearest(like, list(_table('units')))}")
            entry = _table("units")[like] | entry
        for f in fields(UnitKind):
            if f.name == "name" or f.name not in entry:
                required = f.default is MISSING and f.default_factory is MISSING and f.name != "name"
                check(not required, f"{where}.{f.name}", "missing")
                continue
            value, at = entry[f.name], f"{where}.{f.name}"
            if f.name == "attack":
                choice(value, at, ATTACKS)
            elif f.name == "plane":
                choice(value, at, PLANES)
            elif f.name == "targets":
                entry[f.name] = tuple(choice(plane, at, PLANES) for plane in names(value, at))
            elif f.name == "attributes":
                entry[f.name] = names(value, at)
            elif f.name == "bonus":
                check(isinstance(value, dict), at, f"expected a table of attribute = extra damage, got {value!r}")
                for attribute, extra in value.items():
                    number(extra, f"{at}.{attribute}")
            elif f.name == "beam":
                entry[f.name] = numbers(value, at, 2, low=0)
            else:
                number(value, at, low=0, strictly=f.name in ("hp", "radius", "attacks"), whole=f.name == "attacks")
        if entry["attack"] != "heal":
            number(entry["cooldown"], f"{where}.cooldown", low=0, strictly=True)
        return UnitKind(kind, **entry)

    keys = ["name", "terrain", "size", "walls", "episode_limit", "attack_point", "groups", "units"]
    known_keys(table, "", keys)
    for key in ("groups", "attack_point"):
        check(key in table, key, "missing")

    ground = table
    if "terrain" in table:
        check("walls" not in table and "size" not in table, "terrain", "give either terrain, or size and walls")
        known = list(_table("terrains"))
        check(
            table["terrain"] in known, "terrain", f"unknown {table['terrain']!r}; {_nearest(table['terrain'], known)}"
        )
        ground = _table("terrains")[table["terrain"]]
    width, height = numbers(ground.get("size", [32, 32]), "size", 2, low=1, whole=True)
    blocked = np.zeros((height, width), bool)
    check(isinstance(ground.get("walls", []), list), "walls", "expected a list of [x0, y0, x1, y1]")
    for i, rectangle in enumerate(ground.get("walls", [])):
        x0, y0, x1, y1 = numbers(rectangle, f"walls[{i}]", 4, low=0, whole=True)
        check(x0 < x1 <= width and y0 < y1 <= height, f"walls[{i}]", f"not a rectangle inside {width} x {height}")
        blocked[y0:y1, x0:x1] = True

    own = table.get("units", {})
    check(isinstance(own, dict), "units", "expected a table of unit kinds")
    known_units = list(own) + [kind for kind in _table("units") if kind not in own]
    check(isinstance(table["groups"], list), "groups", "expected a list of groups")
    groups, kinds = [], {}
    for i, entry in enumerate(table["groups"]):
        where = f"groups[{i}]"
        known_keys(entry, where, ["side", "at", "units"])
        for key in ("side", "at", "units"):
            check(key in entry, f"{where}.{key}", "missing")
        check(isinstance(entry["units"], dict) and entry["units"], f"{where}.units", "expected a table of kind = count")
        for kind, count in entry["units"].items():
            check(kind in known_units, f"{where}.units.{kind}", f"unknown unit; {_nearest(kind, known_units)}")
            number(count, f"{where}.units.{kind}", low=1, whole=True)
            kinds[kind] = unit_kind(kind, own.get(kind, _table("units").get(kind)))
        at = numbers(entry["at"], f"{where}.at", 2)
        groups.append(Group(choice(entry["side"], f"{where}.side", SIDES), at, dict(entry["units"])))
    for kind in own:
        unit_kind(kind, own[kind])
    for side in SIDES:
        check(any(group.side == side for group in groups), "groups", f"there is no group of side {side!r}")
    return Scenario(
        name=name,
        blocked=blocked,
        groups=tuple(groups),
        attack_point=numbers(table["attack_point"], "attack_point", 2),
        episode_limit=number(table.get("episode_limit", 150), "episode_limit", low=1, whole=True),
        kinds=kinds,
    )
