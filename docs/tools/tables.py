"""Writes the tables of the documentation that repeat code or results, and draws its figures.

    python docs/tools/tables.py

Each table replaces the one with the same head; below a command or a heading, the first one there:

- the arguments of the scripts, in docs/arguments.md
- units and maps, in docs/battles.md; every map is drawn to docs/images/maps/
- races and random battles, in docs/random_battles.md; six battles of each race are drawn to
  docs/images/random/
- results, below each `plot` command of docs/results.md, docs/trials.md and docs/random_battles.md,
  with the figures that the pages show; on phones, the site shows curves_narrow.svg for curves.svg
- the suite in short, below `<!-- suite -->` in README.md; the picture of the first seconds
"""

import ast
import inspect
import re
import shlex
import shutil
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import tyro
from PIL import Image

from cleanmarl import qmix, qmix_lstm, qmix_memefficient, qmix_multienvs
from cleanmarl.battle import BattleEnv, map_names, random_names
from cleanmarl.battle.render import CAPTION
from cleanmarl.battle.scenario import Scenario, UnitKind, _table
from cleanmarl.benchmark.__main__ import read
from cleanmarl.benchmark.estimates import iqm
from cleanmarl.benchmark.figures import STYLE, new_figure, save_figure
from cleanmarl.benchmark.groups import choose, find_runs
from cleanmarl.benchmark.plot import plot
from cleanmarl.benchmark.suite import choose_tasks
from cleanmarl.benchmark.tables import duration, in_code, suite_table, table
from cleanmarl.training.arguments import as_words, option

DOCS = Path(__file__).parent.parent
RECORDS = DOCS / "results/records"
SCRIPTS = (qmix, qmix_memefficient, qmix_multienvs, qmix_lstm)
SUITE = "<!-- suite -->"  # README.md has the table below it
SMALL = ("games", "matrix")  # families that are not in README.md
EARLIER = [RECORDS / name for name in ("hard_lstm", "hard_two_layers", "random_long")]
MAPS = ("3m", "8m", "2s3z", "3s5z", "1c3s5z", "MMM", "corridor")  # in the picture of README.md
SIZE, COLOURS, COLUMNS = 480, 96, 3
BATTLES = 6  # drawn of each race
SECONDS = 300  # in the picture of README.md


@dataclass
class Args:
    docs: Path = DOCS
    """folder with the pages and images/maps"""
    results: bool = True
    """also the tables and figures of `plot` commands, and the picture of the first seconds"""


def args_table() -> list[str]:
    """The arguments of all scripts as on a command line; bold where they are not qmix.py's."""
    order = [""]
    for script in SCRIPTS:
        names = [field.name for field in fields(script.Args)]
        for before, name in pairwise(["", *names]):
            if name not in order:
                order.insert(order.index(before) + 1, name)
    heads = [script.__name__.split(".")[1].removeprefix("qmix_") for script in SCRIPTS]
    lines = [dense(("argument", "meaning", *heads)), dense(["---"] * (2 + len(heads)))]
    about = {head: titles_and_meanings(of.Args) for head, of in zip(heads, SCRIPTS, strict=True)}
    latest = ""
    for name in order[1:]:
        known = {head: of[name] for head, of in about.items() if name in of}
        title = next(iter(known.values()))[0]
        if title != latest:
            lines.append(dense((f"**{title}**", "", *[""] * len(heads))))
        latest = title
        cells = [default(script.Args, name) for script in SCRIPTS]
        lines.append(dense((f"`{option(name)}`", meaning(known), *cells)))
    return lines


def titles_and_meanings(Args: type) -> dict[str, tuple[str, str]]:
    """For each field of `Args`: the comment above its group, and the docstring below the field."""
    source = inspect.getsource(Args)
    lines = source.splitlines()
    (definition,) = ast.parse(source).body
    found, title = {}, ""
    for field, docstring in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign):
            above = lines[field.lineno - 2].strip()
            if above.startswith("# "):
                title = above.removeprefix("# ")
            found[field.target.id] = (title, docstring.value.value)
    return found


def meaning(known: dict[str, tuple[str, str]]) -> str:
    """Of an argument, by script: the first one's, and those that differ."""
    scripts = defaultdict(list)
    for head, (_, text) in known.items():
        scripts[text].append(head)
    first, *others = scripts
    return "; ".join([first, *(f"in {' and '.join(scripts[text])}: {text}" for text in others)])


def default(Args: type, name: str) -> str:
    """As one types it, 1e6 for 1000000; empty if there is no such argument."""
    values = asdict(Args())
    if name not in values:
        return ""
    typed = re.sub("0{5,}$", lambda zeros: f"e{len(zeros[0])}", shlex.quote(as_words(values[name])))
    differs = values[name] != getattr(qmix.Args, name, values[name])
    return f"**`{typed}`**" if differs else f"`{typed}`"


def suite_in_short() -> list[str]:
    """The suite's trained tasks; those of a family with equal results share a row.

    Random battles share one with a range, as foraging does. Tasks of battles that are trained
    with earlier defaults only have a star.
    """
    tasks = choose_tasks("field")
    now = suite_table(find_runs(tasks, [RECORDS / "field"]), 100)
    trained = {row["environment"] for row in now if row["seeds"]}
    battles = {task.title for task in tasks if "battles" in task.family} - trained
    before = [row for row in table(choose(EARLIER), 100) if row["environment"] in battles]
    shared = defaultdict(list)  # cells, scores -> rows
    for row in [*now, *before]:
        if row["seeds"] and row.get("family") not in SMALL:
            ranged = row["environment"] in random_names() or row.get("family") == "foraging"
            alike = "any" if ranged else short_scores([row])
            shared[short_cells(row), alike].append(row)
    heads = ("task", "script", "steps", "seeds", "final score", "worst seed", "time to win")
    lines = [dense(heads), dense(("---", "---", *["---:"] * 5))]
    for (shown, _), rows in shared.items():
        family, *cells, won = shown
        star = "" if family else "*"
        names = ", ".join(f"`{row['environment']}`{star}" for row in rows)
        times = sorted(row["seconds_to_win"] or 0 for row in rows)
        spread = " to ".join(dict.fromkeys(map(duration, (times[0], times[-1]))))
        scores = short_scores(rows)
        lines.append(dense((names, *cells, *scores, spread if won == "won" else won)))
    return lines


def short_scores(rows: list[dict]) -> tuple[str, str]:
    """The final scores, from the lowest to the highest, and the worst seed."""
    rate = rows[0]["metric"] in ("win rate", "success rate")
    form = "{:.0%}" if rate else "{:.2f}"
    finals = sorted(float(row["IQM"]) for row in rows)
    spread = " to ".join(dict.fromkeys(map(form.format, (finals[0], finals[-1]))))
    return spread, form.format(min(float(row["worst_seed"]) for row in rows))


def short_cells(row: dict) -> tuple[str, ...]:
    """Family, script, steps, seeds, and "won", "never" or nothing."""
    won = {None: "", np.inf: "never"}.get(row["seconds_to_win"], "won")
    wanted = row.get("of_seeds", 0)
    seeds = str(row["seeds"]) if row["seeds"] >= wanted else f"{row['seeds']} of {wanted}"
    steps = f"{row['steps'] / 1e6:g}M"
    return (row.get("family", ""), in_code(row["script"]), steps, seeds, won)


def draw_first_seconds(path: Path):
    """Interquartile means of win rates over seconds, by the latest evaluation of each seed."""
    picture, (panel,) = new_figure(1, 7)
    seconds = np.arange(SECONDS + 1)
    for (name, _), labels in choose([RECORDS / "field"], MAPS).items():
        (runs,) = labels.values()
        rates = []
        for run in runs:
            number = np.searchsorted(run.seconds, seconds, side="right")
            rates.append(np.append(0, run.values)[number])  # 0 before the first evaluation
        panel.plot(seconds, iqm(np.array(rates)), label=name, linewidth=2)
    panel.set(xlabel="seconds of training", xlim=(0, SECONDS))
    panel.set(ylabel="win rate (IQM)")
    picture.legend(loc="outside right center", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_figure(picture, path)


def redraw(text: str, page: Path) -> str:
    """A page with the tables of its `plot` commands; the figures that it shows are drawn."""
    command = r"^python -m cleanmarl.benchmark (plot (?:.*\\\n)*.*)$"
    for found in re.findall(command, text, re.MULTILINE):
        args = vars(read(found.replace("\\\n", " ").split()))
        if not args["out"].is_relative_to("docs"):
            continue
        args["runs"] = [DOCS.parent / folder for folder in args["runs"]]
        out = args["out"].relative_to("docs")
        with tempfile.TemporaryDirectory() as folder:
            results = plot(**args | {"out": Path(folder)})
            if names := re.findall(rf"\({out}/(\w+)\.svg\)", text):
                plot(**args | {"out": Path(folder, "narrow"), "columns": 1})
                (page.parent / out).mkdir(parents=True, exist_ok=True)
            for name in names:
                shutil.copy(Path(folder, f"{name}.svg"), page.parent / out)
                narrow = page.parent / out / f"{name}_narrow.svg"
                shutil.copy(Path(folder, f"narrow/{name}.svg"), narrow)
        lines = [dense(cells(line)) for line in results.splitlines() if line.startswith("|")]
        text = put(lines, text, below=found)
    return text


def draw(name: str, folder: Path):
    env = BattleEnv(name, render_mode="rgb_array")
    save(picture_of(env, 1, SIZE), folder / f"{name}.png")


def draw_random(race: str, folder: Path):
    """Battles with the seeds from 1 on: three in a row, and two for phones."""
    env = BattleEnv(f"{race}_10_vs_10", render_mode="rgb_array")
    small = [picture_of(env, 1 + n, SIZE * 2 // 3) for n in range(BATTLES)]
    width, height = small[0].size
    for name, columns in ((race, COLUMNS), (f"{race}_narrow", 2)):
        picture = Image.new("RGB", (columns * width, BATTLES // columns * height))
        for n, one in enumerate(small):
            picture.paste(one, (n % columns * width, n // columns * height))
        save(picture, folder / f"{name}.png")


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
    cells = [f"![{name}](images/maps/{name}.png)<br>{name}" for name in map_names()]
    cells += [""] * (-len(cells) % COLUMNS)
    rows = [cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)]
    return ["| " * COLUMNS + "|", dense([":---:"] * COLUMNS), *map(dense, rows)]


def maps_table() -> list[str]:
    lines = [dense(("map", "allies", "enemies", "actions", "obs", "state", "limit"))]
    lines += [dense(["---"] * 3 + ["---:"] * 4)]
    for name in map_names():
        env = BattleEnv(name)
        allies, enemies = (army(env.scenario, side) for side in ("ally", "enemy"))
        enemies = "the same" if enemies == allies else enemies
        sizes = env.n_actions, env.obs_size, env.state_size, env.time_limit
        lines.append(dense((f"`{name}`", allies, enemies, *map(str, sizes))))
    return lines


def races_table() -> list[str]:
    lines = [dense(("race", "unit: probability")), dense(["---", "---"])]
    for race, entry in _table("races").items():
        chances = ", ".join(f"{words(unit)} {chance}" for unit, chance in entry["units"].items())
        lines.append(dense((race, chances)))
    return lines


def random_table() -> list[str]:
    """A row for each number of units: races of the same sizes share two columns."""
    sizes = {}  # number of units -> race -> sizes of its battles
    for name in random_names():
        env, (race, number) = BattleEnv(name), name.split("_", 1)
        found = (env.n_actions, env.obs_size, env.state_size)
        sizes.setdefault(number, {})[race] = tuple(map(str, found))
    races = defaultdict(list)
    for race in _table("races"):
        races[tuple(of[race] for of in sizes.values())].append(race)
    shared = [" and ".join(names) for names in races.values()]
    heads = [f"{what}, {names}" for names in shared for what in ("obs", "state")]
    lines = [dense(("numbers", "actions", *heads)), dense(["---", *["---:"] * (1 + len(heads))])]
    for number, of in sizes.items():
        firsts = [of[names[0]] for names in races.values()]
        lengths = [length for first in firsts for length in first[1:]]
        lines.append(dense((f"`{number}`", firsts[0][0], *lengths)))
    return lines


def units_table() -> list[str]:
    head = ("unit", "hp/shield/armor", "attack", "range", "speed", "radius", "attributes")
    lines = [dense(head), dense(["---", "---", "---", "---:", "---:", "---:", "---"])]
    for name, entry in _table("units").items():
        kind = UnitKind(name, **entry)
        life = f"{kind.hp:g}/{kind.shield:g}/{kind.armor:g}"
        sizes = [f"{value:g}" for value in (kind.range, kind.speed, kind.radius)]
        attributes = ", ".join(map(words, kind.attributes))
        lines.append(dense((words(name), life, attack(kind), *sizes, attributes)))
    return lines


def cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table."""
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def dense(cells) -> str:
    return f"|{'|'.join(cells)}|"


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
        "kamikaze": f", radius {kind.splash_radius:g}",
        "laser": f", beam {kind.beam[0]:g} wide",
    }
    blow = f"{kind.damage:g}{times}{bonus}{shapes.get(kind.attack, '')}"
    air = ", also air" if "AIR" in kind.targets else ""
    return f"{blow}, every {kind.cooldown:g} s{air}"


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
    tables.append(("arguments.md", "", args_table()))
    for one in (gallery(), maps_table(), units_table()):
        tables.append(("battles.md", "", one))
    for one in (races_table(), random_table()):
        tables.append(("random_battles.md", "", one))
    if SUITE in (args.docs / "../README.md").read_text():
        tables.append(("../README.md", SUITE, suite_in_short()))
    for page, below, one in tables:
        path = args.docs / page
        path.write_text(put(one, path.read_text(), below))
    if not args.results:
        return
    for name in ("results.md", "trials.md", "random_battles.md"):
        page = args.docs / name
        page.write_text(redraw(page.read_text(), page))
    with matplotlib.rc_context(STYLE):
        draw_first_seconds(args.docs / "results/figures/first_seconds.svg")


if __name__ == "__main__":
    main(tyro.cli(Args))
