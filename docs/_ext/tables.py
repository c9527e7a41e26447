"""Tables that cannot drift: made, each time the documentation is built, from the code and the data that they describe.

Directives: `args-table` (a script's `Args`), `maps-table` and `units-table` (the package's battles).
"""

import ast
from itertools import pairwise
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


def read_args(script: Path) -> list[tuple[str, str, str]]:
    """Name, default and docstring of each field of the class `Args` in a script."""
    body = next(node for node in ast.parse(script.read_text()).body if getattr(node, "name", None) == "Args").body
    return [
        (field.target.id, ast.unparse(field.value), doc.value.value)
        for field, doc in pairwise(body)
        if isinstance(field, ast.AnnAssign)
    ]


class Table(SphinxDirective):
    """A table with the rows of a subclass; a cell is a string, or a node."""

    name_of_class, head, has_content = "", (), True

    def rows(self) -> list[tuple]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        table = nodes.table(classes=[self.name_of_class])
        group = nodes.tgroup(cols=len(self.head))
        group += [nodes.colspec(colwidth=1) for _ in self.head]
        group += nodes.thead("", self._row(self.head))
        group += nodes.tbody("", *[self._row(row) for row in self.rows()])
        return [table.__iadd__(group)]

    def _row(self, cells: tuple) -> nodes.row:
        content = [cell if isinstance(cell, nodes.Node) else nodes.Text(str(cell)) for cell in cells]
        return nodes.row("", *[nodes.entry("", nodes.paragraph("", "", cell)) for cell in content])


class ArgsTable(Table):
    name_of_class, head, required_arguments = "args", ("argument", "default", "meaning"), 1

    def rows(self):
        script = ROOT / self.arguments[0]
        self.env.note_dependency(str(script))
        for name, default, doc in read_args(script):
            option = f"--{name.replace('_', '-')}"
            yield nodes.literal("", option), nodes.literal("", default), doc


class MapsTable(Table):
    name_of_class = "maps"
    head = ("map", "allies", "enemies", "actions", "obs", "state", "limit", "terrain")

    def rows(self):
        from cleanmarl.battle.scenario import _table, load_map, map_names
        from cleanmarl.battle.world import build

        for name in map_names():
            scenario = load_map(name)
            rules = build(scenario, walls="upstream", time_limit=1, agent_ids=False)[0].rules[0]
            sizes = (rules["n_actions"], rules["obs_size"], rules["state_size"], scenario.episode_limit)
            terrain = _table("maps")[name]["terrain"].lower()
            yield nodes.literal("", name), self.army(scenario, "ally"), self.army(scenario, "enemy"), *sizes, terrain

    def army(self, scenario, side: str) -> str:
        units = [entry for group in scenario.groups if group.side == side for entry in group.units.items()]
        counts = {kind: sum(count for name, count in units if name == kind) for kind, _ in units}
        return ", ".join(
            f"{count} {plural(words(kind)) if count > 1 else words(kind)}" for kind, count in counts.items()
        )


class UnitsTable(Table):
    name_of_class = "units"
    head = ("unit", "hp", "shield", "armor", "attack", "every (s)", "range", "speed", "radius", "hits", "attributes")

    def rows(self):
        from cleanmarl.battle.scenario import UnitKind, _table

        for name, entry in _table("units").items():
            kind = UnitKind(name, **entry)
            hits = " and ".join(plane.lower() for plane in kind.targets)
            attributes = ", ".join(map(words, kind.attributes))
            every = f"{kind.cooldown:g}" if kind.cooldown else "tick"
            numbers = [f"{value:g}" for value in (kind.range, kind.speed, kind.radius)]
            plain = [f"{value:g}" for value in (kind.hp, kind.shield, kind.armor)]
            yield words(name), *plain, self.attack(kind), every, *numbers, hits, attributes

    def attack(self, kind) -> str:
        if kind.attack == "heal":
            return f"heals, energy {kind.energy_start:g} of {kind.energy:g}"
        times = f" \N{MULTIPLICATION SIGN} {kind.attacks}" if kind.attacks > 1 else ""
        bonus = "".join(f", +{extra:g} {words(attribute)}" for attribute, extra in kind.bonus.items())
        shape = {
            "kamikaze": f", explodes, radius {kind.splash_radius:g}",
            "laser": f", beam {kind.beam[0]:g} wide",
        }
        return f"{kind.damage:g}{times}{bonus}{shape.get(kind.attack, '')}"


def words(name: str) -> str:
    return name.lower().replace("_", " ")


def plural(word: str) -> str:
    return "colossi" if word == "colossus" else f"{word}s"


def setup(app):
    for name, directive in {"args-table": ArgsTable, "maps-table": MapsTable, "units-table": UnitsTable}.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
