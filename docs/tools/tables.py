"""Writes the tables of the documentation that repeat code or results, and draws its figures.

    python docs/tools/tables.py

Each table replaces the one with the same head; below a command or a heading, the first one there:

- the arguments of each script, in its page
- units and maps, in docs/battles.md; every map is drawn to docs/images/maps/
- races and random battles, in docs/random_battles.md; six battles of each race are drawn to
  docs/images/random/
- results, below each `plot` command of docs/results.md, docs/trials.md and docs/modify.md, with the
  figures that the pages show; the times to win in docs/results.md; the headline of README.md
"""

import ast
import re
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import tyro
from PIL import Image

from cleanmarl.battle import BattleEnv, map_names, random_names
from cleanmarl.battle.render import CAPTION
from cleanmarl.battle.scenario import Scenario, UnitKind, _table, load_map
from cleanmarl.benchmark.__main__ import make_parser
from cleanmarl.benchmark.plot import Groups, choose, duration, plot, table

DOCS = Path(__file__).parent.parent
RECORDS = DOCS / "results/records"
SCRIPTS = ("qmix", "qmix_memefficient", "qmix_multienvs", "qmix_lstm")
AIMS = {"3m": "", "8m": "", "2s3z": "95%", "3s5z": "90%", "1c3s5z": "85%", "MMM": "80%"}
AIMS["corridor"] = "98%"
SETTINGS = ("defaults", "recommended")  # folders of records: the columns of the headline
SIZE, COLOURS, COLUMNS = 480, 96, 3
BATTLES = 6  # drawn of each race


@dataclass
class Args:
    docs: Path = DOCS
    """folder with the pages and images/maps"""


def args_table(script: Path) -> list[str]:
    """The fields of the class `Args` in a script.

    The docstring below a field is its meaning, a comment above one the title of a group.
    """
    source = script.read_text()
    (body,) = (node.body for node in ast.parse(source).body if getattr(node, "name", "") == "Args")
    lines = ["| argument | default | meaning |", "| --- | --- | --- |"]
    for field, doc in pairwise(body):
        if isinstance(field, ast.AnnAssign):
            above = source.splitlines()[field.lineno - 2].strip()
            if above.startswith("# "):
                lines.append(row((f"**{above[2:]}**", "", "")))
            option = f"--{field.target.id.replace('_', '-')}"
            lines.append(row((f"`{option}`", f"`{ast.unparse(field.value)}`", doc.value.value)))
    return lines


def headline() -> list[str]:
    """The win rates with each setting, and the minutes."""
    groups = choose([RECORDS / setting for setting in SETTINGS], AIMS)
    head = ("map", "target", *SETTINGS, "seeds", "minutes")
    lines = [row(head), f"| --- |{' ---: |' * (len(head) - 1)}"]
    for name, results in by_map(groups).items():
        minutes = [minute for result in results for minute in result["minutes"].split()]
        minutes.sort(key=float)
        rates = [f"{float(result['IQM']):.0%}" for result in results]
        span = f"{minutes[0]} to {minutes[-1]}"
        lines.append(row((f"`{name}`", AIMS[name], *rates, results[0]["seeds"], span)))
    return lines


def times_to_win() -> list[str]:
    """The median time to win of each script with its defaults, on each map."""
    groups = choose([RECORDS / "defaults", RECORDS / "scripts"], AIMS)
    cells = defaultdict(dict)
    for name, results in by_map(groups).items():
        for result in results:
            cells[result["script"]][name] = duration(result["seconds_to_win"])
    lines = [row(["script", *AIMS]), f"| --- |{' ---: |' * len(AIMS)}"]
    for script, times in cells.items():
        lines.append(row([f"`{script}`", *(times.get(name, "") for name in AIMS)]))
    return lines


def by_map(groups: Groups) -> dict[str, list[dict]]:
    """Map -> the rows of its results."""
    found = {name: [] for name in AIMS}
    for result in table(groups, reps=100):
        found[result["environment"]].append(result)
    return found


def redraw(text: str, page: Path) -> str:
    """A page with the tables of its `plot` commands; the figures that it shows are drawn."""
    command = r"^python -m cleanmarl.benchmark (plot (?:.*\\\n)*.*)$"
    for found in re.findall(command, text, re.MULTILINE):
        args = vars(make_parser().parse_args(found.replace("\\\n", " ").split()))
        if not args["out"].is_relative_to("docs"):
            continue
        args["runs"] = [DOCS.parent / folder for folder in args["runs"]]
        out = args["out"].relative_to("docs")
        del args["command"]
        with tempfile.TemporaryDirectory() as folder:
            results = plot(**args | {"out": Path(folder)})
            for name in re.findall(rf"\({out}/(\w+\.svg)\)", text):
                (page.parent / out).mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(folder, name), page.parent / out / name)
        text = put(results.splitlines(), text, below=found)
    return text


def draw(name: str, folder: Path):
    env = BattleEnv(name, render_mode="rgb_array")
    save(picture_of(env, 1, SIZE), folder / f"{name}.png")


def draw_random(race: str, folder: Path):
    """Battles with the seeds from 1 on, in rows."""
    env = BattleEnv(f"{race}_10_vs_10", render_mode="rgb_array")
    small = [picture_of(env, 1 + n, SIZE * 2 // 3) for n in range(BATTLES)]
    width, height = small[0].size
    picture = Image.new("RGB", (COLUMNS * width, BATTLES // COLUMNS * height))
    for n, one in enumerate(small):
        picture.paste(one, (n % COLUMNS * width, n // COLUMNS * height))
    save(picture, folder / f"{race}.png")


def picture_of(env: BattleEnv, seed: int, size: int) -> Image.Image:
    """The start of a battle, at most `size` pixels wide and high."""
    env.reset(seed=seed)
    picture = Image.fromarray(env.render()[CAPTION:])
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    return picture


def save(picture: Image.Image, path: Path):
    how = {"method": Image.Quantize.MAXCOVERAGE, "kmeans": 1, "dither": Image.Dither.NONE}
    picture.quantize(COLOURS, **how).save(path, optimize=True)


def gallery() -> list[str]:
    cells = []
    for name in map_names():
        cells.append(f"![{name}: {armies(load_map(name))}](images/maps/{name}.png)<br>{name}")
    cells += [""] * (-len(cells) % COLUMNS)
    rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    return ["| " * COLUMNS + "|", "| :---: " * COLUMNS + "|", *map(row, rows)]


def maps_table() -> list[str]:
    lines = ["| map | allies | enemies | actions | obs | state | limit | terrain |"]
    lines += ["| --- | --- | --- | ---: | ---: | ---: | ---: | --- |"]
    for name in map_names():
        env, scenario = BattleEnv(name), load_map(name)
        terrain = _table("maps")[name]["terrain"]
        both = [army(scenario, side) for side in ("ally", "enemy")]
        sizes = env.n_actions, env.obs_size, env.state_size, env.time_limit
        lines.append(row((f"`{name}`", *both, *sizes, f"`{terrain}`")))
    return lines


def races_table() -> list[str]:
    lines = ["| race | unit: probability | may not fill an army alone |", "| --- | --- | --- |"]
    for race, entry in _table("races").items():
        chances = ", ".join(f"{words(unit)} {chance}" for unit, chance in entry["units"].items())
        lines.append(row((race, chances, ", ".join(map(words, entry.get("not_alone", []))))))
    return lines


def random_table() -> list[str]:
    lines = ["| battles | agents | enemies | actions | obs | state |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    for name in random_names():
        env = BattleEnv(name)
        counts = env.n_agents, env.scenario.count("enemy")
        lines.append(row((f"`{name}`", *counts, env.n_actions, env.obs_size, env.state_size)))
    return lines


def units_table() -> list[str]:
    head = ["unit", "hp", "shield", "armor", "attack", "every", "range", "speed", "radius"]
    lines = [row([*head, "hits", "attributes"])]
    lines += ["| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | --- | --- |"]
    for name, entry in _table("units").items():
        kind = UnitKind(name, **entry)
        numbers = [f"{value:g}" for value in (kind.hp, kind.shield, kind.armor)]
        every = f"{kind.cooldown:g} s" if kind.cooldown else "tick"
        sizes = [f"{value:g}" for value in (kind.range, kind.speed, kind.radius)]
        hits = " and ".join(kind.targets).lower()
        attributes = ", ".join(map(words, kind.attributes))
        lines += [row((words(name), *numbers, attack(kind), every, *sizes, hits, attributes))]
    return lines


def row(cells) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def armies(scenario: Scenario) -> str:
    return f"{army(scenario, 'ally')} against {army(scenario, 'enemy')}"


def army(scenario: Scenario, side: str) -> str:
    counts = {}
    for group in scenario.groups:
        for kind, count in group.units.items() if group.side == side else ():
            counts[kind] = counts.get(kind, 0) + count
    named = []
    for kind, count in counts.items():
        named.append(f"{count} {words(kind) if count == 1 else plural(words(kind))}")
    return ", ".join(named)


def attack(kind: UnitKind) -> str:
    if kind.attack == "heal":
        return f"heals, energy {kind.energy_start:g} of {kind.energy:g}"
    times = f" \N{MULTIPLICATION SIGN} {kind.attacks}" if kind.attacks > 1 else ""
    bonus = "".join(f", +{extra:g} {words(attribute)}" for attribute, extra in kind.bonus.items())
    shapes = {
        "kamikaze": f", explodes, radius {kind.splash_radius:g}",
        "laser": f", beam {kind.beam[0]:g} wide",
    }
    return f"{kind.damage:g}{times}{bonus}{shapes.get(kind.attack, '')}"


def words(name: str) -> str:
    return name.lower().replace("_", " ")


def plural(word: str) -> str:
    return "colossi" if word == "colossus" else f"{word}s"


def put(table: list[str], text: str, below: str = "") -> str:
    """`text` with a table in the place of the first one below some words.

    Without words, it is the one of the same head.
    """
    start = text.index(below)
    head = r"\|.*" if below else re.escape(table[0])
    old = re.compile(rf"^{head}\n(?:\|.*\n)*", re.MULTILINE)
    before, after = old.split(text[start:], maxsplit=1)
    return "\n".join((text[:start] + before + table[0], *table[1:], after))


def main(args: Args):
    for name in map_names():
        draw(name, args.docs / "images/maps")
    for race in _table("races"):
        draw_random(race, args.docs / "images/random")
    tables = []  # page, words above the table, lines
    for script in SCRIPTS:
        tables.append((f"{script}.md", "", args_table(DOCS.parent / f"cleanmarl/{script}.py")))
    for one in (gallery(), maps_table(), units_table()):
        tables.append(("battles.md", "", one))
    for one in (races_table(), random_table()):
        tables.append(("random_battles.md", "", one))
    tables.append(("../README.md", "## Measured", headline()))
    tables.append(("results.md", "## Minutes to a winning team", times_to_win()))
    for page, below, one in tables:
        path = args.docs / page
        path.write_text(put(one, path.read_text(), below))
    for name in ("results.md", "trials.md", "modify.md"):
        page = args.docs / name
        page.write_text(redraw(page.read_text(), page))


if __name__ == "__main__":
    main(tyro.cli(Args))
