"""Curves and tables of finished runs: interquartile means and their 95% bootstrap intervals.

`plot` compares scripts and variants; for a suite, it makes one table of all tasks.

The statistics are those of Agarwal et al. (2021), "Deep RL at the edge of the statistical
precipice". Scores are [tasks][seeds, points]: a number for each task, seed and part of a training.
"""

import csv
import io
import itertools
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cleanmarl.benchmark.compare import improvement, interval, profile
from cleanmarl.benchmark.records import METRICS, RATES, TAGS, LeftOut, Record, find_all
from cleanmarl.benchmark.suite import MEASURED, SuiteTask, choose_tasks, key_of, title_of_env
from cleanmarl.benchmark.sweep import OWN, SAME_CURVE, SCRIPTS, load_scripts, need, words_of
from cleanmarl.env.names import unknown
from cleanmarl.training.arguments import FREE, option
from cleanmarl.training.checkpoint import write_atomically

GREY = "#808080"  # of text and axes; `follow_theme` replaces it in SVG files
FOLLOW = ":root { color-scheme: light dark; color: #555 } "
FOLLOW += "@media (prefers-color-scheme: dark) { :root { color: #bbb } }"
LOOKS = (  # colour, and dashes for readers who cannot tell the colours apart
    ("#0072b2", "-"),
    ("#e69f00", (0, (1, 1.5))),
    ("#009e73", (0, (5, 2))),
    ("#cc79a7", (0, (6, 2, 1, 2))),
    ("#d55e00", (0, (3, 1, 1, 1, 1, 1))),
    ("#56b4e9", (0, (10, 2))),
)
COLOURED = ("text.color", "axes.labelcolor", "axes.edgecolor", "legend.labelcolor")
COLOURED += ("xtick.color", "ytick.color")
# With a fixed salt, equal figures are equal files.
STYLE = {"font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "cleanmarl"}
STYLE |= dict.fromkeys(COLOURED, GREY)

# In figures that are no part of a page, text is black. Journals want TrueType fonts.
PRINTED = STYLE | dict.fromkeys(COLOURED, "black") | {"pdf.fonttype": 42}
FORMATS = {  # what makes equal figures equal files
    "svg": {"metadata": {"Date": None}, "transparent": True},
    "pdf": {"metadata": {"CreationDate": None}},
    "png": {"dpi": 300},
}

ENOUGH = 5  # seeds: with fewer, a bootstrap interval is their range
INTERVAL = "95% interval"  # head of a column


class How(NamedTuple):
    """Where and how figures are drawn."""

    out: Path
    format: str
    points: int
    reps: int
    columns: int
    """panels in a row"""


# (environment, metric) -> label -> a run of each seed
Groups = dict[tuple[str, str], dict[str, list[Record]]]


# Choice and labels of the runs


def label_of(record: Record, varied: set[str]) -> str:
    """The script and the arguments in which its runs differ."""
    options = [f"{option(name)} {record.args[name]}" for name in record.args if name in varied]
    return " ".join([f"{record.script}.py", *options])


def order_of(record: Record) -> tuple:
    """Sort key: environments by name; in each, the four scripts first, then others by name."""
    place = SCRIPTS.index(record.script) if record.script in SCRIPTS else len(SCRIPTS)
    return natural(record.env), place, record.script, record.seed


def natural(name: str) -> list:
    """Sort key of an environment's name: numbers count as numbers, 5_vs_5 before 10_vs_10."""
    parts = re.split(r"(\d+)", name.casefold())  # text, digits, text, ...
    return [int(part) if part.isdecimal() else part for part in parts]


def group(records: list[Record], left_out: list[LeftOut] | None = None) -> Groups:
    """Group the runs by environment and label, in the order in which they are drawn.

    Of two runs with the same seed, the second is drawn; `left_out` gets the first.
    """
    values = defaultdict(set)
    for record in records:
        for name in record.args.keys() - (OWN - {"env_options"}) - SAME_CURVE:
            values[record.env, record.script, name].add(str(record.args[name]))
    varied = defaultdict(set)
    for (_, script, name), found in values.items():
        if len(found) > 1:
            varied[script].add(name)
    groups = defaultdict(lambda: defaultdict(dict))
    for record in sorted(records, key=order_of):
        label = label_of(record, varied[record.script])
        seeds = groups[record.env, record.metric][label]
        if record.seed in seeds:
            twice = f"{label} in {record.env} with seed {record.seed}"
            print(f"there are two runs of {twice}; the second is drawn", file=sys.stderr)
            if left_out is not None:
                left_out.append(LeftOut(record.env, record.seed, "the seed is there twice"))
        seeds[record.seed] = record
    return {
        env: {label: list(seeds.values()) for label, seeds in labels.items()}
        for env, labels in groups.items()
    }


def task_of(record: Record) -> tuple:
    """What tells the environment of a run from others."""
    args = record.args
    names = (args["env_type"], args["env_name"], args.get("env_family", ""))
    return key_of(*names, args.get("env_options", {}))


def measured(records: list[Record], tag: str = "") -> tuple[list[Record], list[LeftOut]]:
    """All runs of an environment with the same metric, and those that do not have it.

    Args:
        records: finished runs
        tag: of a metric, such as eval/ep_reward; without it, win rate, success rate or else reward,
            the first that a run of the environment has. A run that reports no success has a rate
            of 0

    Raises ValueError if no run has the metric.
    """
    tags = defaultdict(set)
    for record in records:
        tags[task_of(record)] |= record.tags
    known = sorted(set().union(*tags.values()))
    if tag and tag not in known:
        raise ValueError(unknown("metric", tag, known))
    found, left_out = [], []
    for record in records:
        there = tags[task_of(record)]
        wanted = tag or next(first for first in METRICS if first in there)
        one = record.measured_by(wanted) if wanted in there else None
        if one:
            found.append(one)
        else:
            left_out.append(LeftOut(record.env, record.seed, f"without {wanted}"))
    return found, left_out


def read_runs(folders: Sequence[Path], metric: str = "") -> tuple[list[Record], list[LeftOut]]:
    """All finished runs in some folders, and those left out. Raises ValueError if all are."""
    if not folders:
        raise ValueError("give a folder with runs")
    read = [find_all(folder) for folder in folders]
    records = [record for found, _ in read for record in found]
    if not records:
        raise ValueError(f"no finished run in {', '.join(map(str, folders))}")
    records, without = measured(records, metric)
    return records, [*(one for _, found in read for one in found), *without]


def choose(
    folders: Sequence[Path],
    envs: Sequence[str] = (),
    seeds: Sequence[int] = (),
    metric: str = "",
    left_out: list[LeftOut] | None = None,
) -> Groups:
    """Group the runs in some folders: all, or only those of the given environments and seeds.

    `left_out` gets those of them that are not drawn. Raises ValueError if there are no runs, or
    none of a given environment or seed, or with this metric.
    """
    records, others = read_runs(folders, metric)
    known = sorted({record.seed for record in records})
    if missing := sorted(set(seeds).difference(known)):
        there = ", ".join(map(str, known))
        wanted = ", ".join(map(str, missing))
        raise ValueError(f"no finished run with seed {wanted}; there are runs with {there}")
    groups = group([record for record in records if record.seed in (seeds or known)], others)
    names = list(dict.fromkeys(env for env, _ in groups))
    order = [title_of_env(env) for env in envs] or names
    if missing := sorted(set(order).difference(names)):
        there = ", ".join(names)
        raise ValueError(f"no finished run of {', '.join(missing)}; there are runs of {there}")
    if left_out is not None:
        chosen = [one for one in others if not envs or one.env in order]
        left_out += [one for one in chosen if not seeds or one.seed in seeds]
    chosen = sorted((key for key in groups if key[0] in order), key=lambda key: order.index(key[0]))
    return {key: groups[key] for key in chosen}


# Statistics


def scores(runs: list[Record], x: str, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide a training into parts: their ends [points], and mean evaluations [seeds, points].

    `x` is "steps" or "seconds"; seconds end with the fastest run. A part without evaluations is
    interpolated.
    """
    last = {"steps": max, "seconds": min}[x](getattr(run, x)[-1] for run in runs)
    ends = np.linspace(0, last, points + 1)[1:]
    rows = []
    for run in runs:
        part = np.searchsorted(ends, getattr(run, x))
        part[0] = min(part[0], points - 1)  # at least one counts
        there = np.intersect1d(part, range(points))
        means = [run.values[part == i].mean() for i in there]
        rows.append(np.interp(range(points), there, means))
    return ends, np.array(rows)


def iqm(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Interquartile mean of the scores of all tasks and seeds; `axis` is that of the seeds."""
    return need("scipy.stats").trim_mean(np.concatenate(tasks, axis), 0.25, axis=axis)


def mean(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean over the tasks of their means over the seeds."""
    return np.mean([task.mean(axis) for task in tasks], 0)


def median(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Median over the tasks of their means over the seeds."""
    return np.median([task.mean(axis) for task in tasks], 0)


def estimate(tasks: list[np.ndarray], statistic, reps: int) -> tuple[np.ndarray, ...]:
    """A statistic of scores [tasks][seeds, points], and the bounds of its 95% interval: [points].

    The interval comes from a stratified bootstrap: the seeds of each task are resampled separately.
    With one seed, the interval is the value itself.
    """
    middle = statistic(*tasks)
    if len(tasks[0]) == 1:
        return middle, middle, middle
    found = need("scipy.stats").bootstrap(
        tasks,
        statistic,
        n_resamples=reps,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return middle, found.confidence_interval.low, found.confidence_interval.high


# Figures


def looks_of(labels: Iterable[str]) -> dict[str, tuple]:
    """label -> colour and dashes of its line.

    Each of the four scripts has the same ones in all figures; its further variants and other
    scripts have others.
    """
    looks, others = {}, []
    for label in dict.fromkeys(labels):
        script = label.split(".py")[0]
        place = SCRIPTS.index(script) if script in SCRIPTS else None
        if place is None or LOOKS[place] in looks.values():
            others.append(label)
        else:
            looks[label] = LOOKS[place]
    for number, label in enumerate(others, len(SCRIPTS)):
        turn, place = divmod(number, len(LOOKS))
        dashes = LOOKS[(place + turn) % len(LOOKS)][1]  # other dashes if all colours are taken
        looks[label] = (LOOKS[place][0], dashes)
    return looks


def new_figure(number: int, width: float, columns: int = 3):
    """A figure with `number` panels in rows of up to `columns`, and its panels."""
    height = 2.7 if columns > 1 else 2.2  # of a panel
    columns = min(number, columns)
    rows = -(-number // columns)
    size = (width * columns, height * rows + 0.3)
    picture = need("matplotlib.figure").Figure(size, layout="constrained")
    panels = picture.subplots(rows, columns, squeeze=False).flat
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[number:]:
        panel.set_visible(False)
    return picture, panels[:number]


def draw_curve(panel, look: tuple, label: str, x: np.ndarray, tasks: list, reps: int):
    """Interquartile mean of scores [tasks][seeds, points] and its interval, over x [points]."""
    middle, low, high = estimate(tasks, iqm, reps)
    colour, dashes = look
    panel.plot(x, middle, color=colour, linestyle=dashes, linewidth=1.8, label=label)
    panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def write_figure(picture, name: str, how: How):
    """Write a figure with one legend for all its panels: above a single column of them."""
    lines = {line.get_label(): line for panel in picture.axes for line in panel.get_lines()}
    labels = [label for label in lines if not label.startswith("_")]
    where = "upper" if how.columns == 1 else "lower"
    look = {"loc": f"outside {where} center", "ncols": min(how.columns, 2), "frameon": False}
    picture.legend([lines[label] for label in labels], labels, **look)
    save_figure(picture, how.out / f"{name}.{how.format}")


def save_figure(picture, path: Path):
    """Save a figure with the whole of its legends."""
    content = io.BytesIO()
    kind = path.suffix.removeprefix(".")
    picture.savefig(content, format=kind, bbox_inches="tight", **FORMATS[kind])
    found = content.getvalue()
    write_atomically(path, follow_theme(found.decode()).encode() if kind == "svg" else found)


def follow_theme(svg: str) -> str:
    """An SVG figure whose text and axes are dark on a light page, and light on a dark one."""
    svg = svg.replace(GREY, "currentColor")
    return svg.replace("<defs>", f"<defs>\n  <style>{FOLLOW}</style>", 1)


def draw_curves(groups: Groups, looks: dict, x: str, name: str, how: How):
    """Draw a panel for each environment, over steps or seconds."""
    picture, panels = new_figure(len(groups), 3.2, how.columns)
    for panel, ((env, metric), labels) in zip(panels, groups.items(), strict=True):
        for label, runs in labels.items():
            ends, values = scores(runs, x, how.points)
            places = ends if x == "steps" else ends / 60
            draw_curve(panel, looks[label], label, places, [values], how.reps)
        unit = {"steps": "environment steps", "seconds": "minutes"}[x]
        panel.set(title=env, ylabel=f"{metric} (IQM)", xlabel=unit)
        if TAGS.get(metric) in RATES:
            panel.set_ylim(-0.05, 1.05)
        if x == "steps":
            panel.xaxis.set_major_formatter(need("matplotlib.ticker").EngFormatter(sep=""))
    write_figure(picture, name, how)


def in_common(groups: Groups) -> dict[str, list[list[Record]]]:
    """label -> its runs in each battle that all labels have, with equally many seeds per battle."""
    battles = [labels for (_, metric), labels in groups.items() if metric == "win rate"]
    names = dict.fromkeys(label for labels in battles for label in labels)
    battles = [labels for labels in battles if names.keys() == labels.keys()]
    found = {}
    for label in names if battles else ():
        seeds = min(len(labels[label]) for labels in battles)
        found[label] = [labels[label][:seeds] for labels in battles]
    return found


def draw_aggregate(groups: Groups, looks: dict, how: How):
    """Draw curves, and statistics of the last tenth, over the battles that all scripts have."""
    runs_of = in_common(groups)
    if not runs_of:
        print("no aggregate figure: the scripts have no battle in common", file=sys.stderr)
        return
    statistics = {"mean": mean, "median": median, "IQM": iqm}
    picture, (left, right) = new_figure(2, 3.8, how.columns)
    for i, (label, battles) in enumerate(runs_of.items()):
        curves = [scores(runs, "steps", how.points)[1] for runs in battles]
        final = [scores(runs, "steps", 10)[1][:, -1:] for runs in battles]
        places = np.linspace(0, 100, how.points + 1)[1:]
        draw_curve(left, looks[label], label, places, curves, how.reps)
        colour, dashes = looks[label]
        for j, statistic in enumerate(statistics.values()):
            middle, low, high = estimate(final, statistic, how.reps)
            height = j + 0.3 - 0.6 * (i + 0.5) / len(runs_of)
            line = {"color": colour, "linestyle": dashes, "linewidth": 1.8}
            right.plot([low[0], high[0]], [height, height], **line)
            right.plot(middle, [height], "o", color=colour, markersize=4)
    number = len(next(iter(runs_of.values())))
    left.set(title=f"{number} battles", xlabel="training [%]", ylabel="IQM of the win rates")
    right.set(title="last tenth of the training", ylim=(-0.5, 2.5))
    right.set(yticks=range(3), yticklabels=statistics)
    write_figure(picture, "aggregate", how)


# Tables


def table(groups: Groups, reps: int) -> list[dict]:
    """A row for each environment and label, with the result in the last tenth of the training.

    With fewer than five seeds, the interval goes from the lowest to the highest of them.
    `steps_to_win` and `seconds_to_win` are medians over the seeds; None except for battles.
    """
    rows = []
    for (env, metric), labels in groups.items():
        for label, runs in labels.items():
            final = scores(runs, "steps", 10)[1][:, -1:]
            found = np.array(estimate([final], iqm, reps))[:, 0]
            if len(runs) < ENOUGH:
                found[1:] = final.min(), final.max()
            # Means are rounded, so that of equal scores may be below them
            middle, low, high = found.clip(final.min(), final.max())
            row = {"environment": env, "metric": metric, "script": label, "seeds": len(runs)}
            row["steps"] = runs[0].args["total_timesteps"]
            row |= {"IQM": f"{middle:.3f}", "low": f"{low:.3f}", "high": f"{high:.3f}"}
            row["worst_seed"] = f"{final.min():.3f}"
            row |= {"steps_to_win": None, "seconds_to_win": None}
            if metric == "win rate":
                steps, seconds = np.median([run.until_won() for run in runs], axis=0)
                row |= {"steps_to_win": steps, "seconds_to_win": seconds}
            row["minutes"] = " ".join(f"{run.seconds[-1] / 60:.1f}" for run in runs)
            bounds = [abs(bound) for run in runs for bound in run.q_tot or ()]
            row["largest_q_tot"] = max(bounds, default=None)
            rows.append(row)
    return rows


def duration(seconds: float) -> str:
    """For example "34 s" or "3 min 7 s"; "never" if infinite."""
    if seconds == np.inf:
        return "never"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def columns_of(rows: list[dict]) -> dict[str, tuple[str, str]]:
    """Columns of a table: head -> alignment, format of a row's cell.

    If all rows share a metric, the head of the scores names it. The columns about winning appear
    only if a team won a battle. Script, seeds and steps are left out if they are the same in
    several rows.
    """
    metrics = {row["metric"] for row in rows}
    score = "IQM" if len(metrics) > 1 else min(metrics)
    columns = {  # head -> alignment, cell
        "environment": ("---", "{environment}"),
        "metric": ("---", "{metric}"),
        "script": ("---", "{title}"),
        "seeds": ("---:", "{seeds}"),
        "steps": ("---:", "{steps:,}"),
        f"final {score}": ("---:", "{IQM}"),
        interval_head(rows): ("---:", "{interval}"),
        "worst seed": ("---:", "{worst_seed}"),
        "time to win": ("---:", "{time_to_win}"),
        "steps to win": ("---:", "{steps_to_win}"),
        "minutes": ("---:", "{minutes}"),
    }
    if len(metrics) == 1:
        del columns["metric"]
    if not any_won(rows):
        del columns["time to win"], columns["steps to win"]
    for name in ("script", "seeds", "steps"):
        if len(rows) > 1 and len({row[name] for row in rows}) == 1:
            del columns[name]
    return columns


def any_won(rows: list[dict]) -> bool:
    """Whether half of a row's seeds or more won, so that their median is a number."""
    return any(row["steps_to_win"] not in (None, np.inf) for row in rows)


def cells_of(rows: list[dict]) -> list[dict]:
    """The rows with their cells in Markdown; times and steps to win are medians over the seeds."""
    cells = zip(rows, intervals(rows), strict=True)
    return [
        row | medians(row) | {"title": in_code(row["script"]), "interval": cell}
        for row, cell in cells
    ]


def interval_head(rows: list[dict]) -> str:
    few = all(row["seeds"] < ENOUGH for row in rows)
    return "range of seeds" if few else INTERVAL


def intervals(rows: list[dict]) -> list[str]:
    """The cells of intervals; empty for a single seed. Ranges are marked beside intervals."""
    mark = " (range)" if interval_head(rows) == INTERVAL else ""
    cells = []
    for row in rows:
        few = mark if row["seeds"] < ENOUGH else ""
        cells.append(f"{row['low']} to {row['high']}{few}" if row["seeds"] > 1 else "")
    return cells


def in_code(label: str) -> str:
    """A label as code, unless the user has named it."""
    return f"`{label}`" if label.partition(" ")[0].endswith(".py") else label.replace("|", r"\|")


def markdown(rows: list[dict]) -> str:
    """The rows as a Markdown table."""
    return in_markdown(columns_of(rows), cells_of(rows))


def in_markdown(columns: dict[str, tuple[str, str]], rows: list[dict]) -> str:
    """A table with these columns: head -> alignment, format of a row's cell."""
    alignments, cells = zip(*columns.values(), strict=True)
    lines = [f"| {' | '.join(line)} |" for line in (columns, alignments)]
    lines += [f"| {' | '.join(cells)} |".format(**row) for row in rows]
    return "\n".join([*lines, ""])


def in_latex(columns: dict[str, tuple[str, str]], rows: list[dict]) -> str:
    """The same table for LaTeX, with the rules of the package booktabs."""
    alignments = ["r" if where == "---:" else "l" for where, _ in columns.values()]
    lines = [[latex_of(head) for head in columns]]
    lines += [[latex_of(cell.format(**row)) for _, cell in columns.values()] for row in rows]
    head, *body = [" & ".join(line) + r" \\" for line in lines]
    begin, end = rf"\begin{{tabular}}{{{''.join(alignments)}}}", r"\end{tabular}"
    return "\n".join([begin, r"\toprule", head, r"\midrule", *body, r"\bottomrule", end, ""])


def latex_of(cell: str) -> str:
    """A cell of Markdown in LaTeX; formulas between dollars stay as they are."""
    signs = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    signs |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    parts = re.split(r"(\$.+?\$)", cell.replace(r"\|", "|"))
    for i in range(0, len(parts), 2):  # not the formulas
        text = "".join(signs.get(sign, sign) for sign in parts[i]).replace("--", "-{}-")
        parts[i] = re.sub("`(.*?)`", r"\\texttt{\1}", text)
    return "".join(parts)


def medians(row: dict) -> dict[str, str]:
    """The cells of a row that are medians over the seeds."""
    steps, seconds = row["steps_to_win"], row["seconds_to_win"]
    minutes = np.median([float(minutes) for minutes in row["minutes"].split()])
    cells = {"time_to_win": "", "steps_to_win": "", "minutes": f"{minutes:.1f}"}
    if steps is not None:
        cells["time_to_win"] = duration(seconds)
        cells["steps_to_win"] = "never" if steps == np.inf else f"{steps:,.0f}"
    return cells


def note_of(left_out: list[LeftOut]) -> str:
    """A line below a table, on the runs that are not in it; empty if there are none."""
    numbers = Counter((one.env, one.reason) for one in left_out)
    parts = []
    for (env, reason), number in numbers.items():
        parts.append(f"{number} {'run' if number == 1 else 'runs'} in {env} ({reason})")
    return f"\nLeft out: {', '.join(parts)}.\n" if parts else ""


def in_csv(rows: list[dict]) -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


# Suites

RESULTS = ("metric", "seeds", "steps", "IQM", "low", "high", "worst_seed")
RESULTS += ("steps_to_win", "seconds_to_win", "minutes", "largest_q_tot")


class Found(NamedTuple):
    """A task of a suite, and its finished runs."""

    task: SuiteTask
    groups: Groups
    """empty if there are none; several labels if runs differ in arguments"""


def find_runs(
    tasks: list[SuiteTask],
    folders: Sequence[Path],
    metric: str = "",
    left_out: list[LeftOut] | None = None,
) -> list[Found]:
    """The tasks with their runs in some folders; `left_out` gets those that are not drawn.

    Raises ValueError if there are no runs at all, or none with this metric.
    """
    runs_of = defaultdict(list)
    records, others = read_runs(folders, metric)
    for record in records:
        runs_of[record.script, task_of(record), record.seed].append(record)
    found = []
    for task in tasks:
        runs = [runs_of[task.script_name, task.key, seed] for seed in task.seeds]
        found.append(Found(task, group(list(itertools.chain(*runs)), others)))
    if left_out is not None:
        wanted = {(task.title, seed) for task in tasks for seed in task.seeds}
        left_out += [one for one in others if (one.env, one.seed) in wanted]
    return found


def not_default(args: dict, Args: type) -> str:
    """The arguments that are not the script's defaults, as on its command line.

    Those that choose the task, the number of steps, or only what is measured, are left out.
    """
    left_out = OWN | FREE | MEASURED
    differ = {}
    for name, default in asdict(Args()).items():
        if name not in left_out and args.get(name, default) != default:
            differ[name] = str(args[name])
    return " ".join(words_of(Args, differ))


def suite_table(found: list[Found], reps: int) -> list[dict]:
    """A row for each task; if its runs differ in arguments, a row for each of their settings.

    `of_seeds` is the number of seeds that the suite asks for. Without runs, results are None.
    """
    loaded = load_scripts([task for task, _ in found])
    rows = []
    for task, groups in found:
        Args = loaded[task.script][0].Args
        head = {"family": task.family, "environment": task.title}
        head |= {"script": f"{task.script_name}.py", "arguments": "", "of_seeds": len(task.seeds)}
        results = table(groups, reps)
        settings = [runs[0].args for labels in groups.values() for runs in labels.values()]
        if not results:
            planned = asdict(Args()) | task.all_arguments
            results = [{"seeds": 0, "steps": planned["total_timesteps"]}]
            settings = [planned]
        for args, result in zip(settings, results, strict=True):
            row = head | {"arguments": not_default(args, Args)}
            rows.append(row | {name: result.get(name) for name in RESULTS})
    return rows


def suite_cells(rows: list[dict]) -> list[dict[str, str]]:
    """The cells of the tasks with runs in Markdown."""
    rows = [row for row in rows if row["seeds"]]
    cells = zip(rows, intervals(rows), strict=True)
    return [suite_row(row) | {"interval": cell} for row, cell in cells]


def suite_row(row: dict) -> dict[str, str]:
    """The cells of a row in Markdown."""
    cells = {name: "" if row[name] is None else str(row[name]) for name in row}
    cells["title"] = in_code(row["script"])
    cells["steps"] = f"{row['steps']:,}"
    if row["arguments"]:
        cells["arguments"] = f"`{row['arguments']}`"
    if row["seeds"] < row["of_seeds"]:
        cells["seeds"] = f"{row['seeds']} of {row['of_seeds']}"
    if row["largest_q_tot"] is not None:
        cells["largest_q_tot"] = f"{row['largest_q_tot']:,.2f}"
    return cells | medians(row)


SUITE_COLUMNS = {  # head -> alignment, cell
    "family": ("---", "{family}"),
    "task": ("---", "{environment}"),
    "script": ("---", "{title}"),
    "arguments": ("---", "{arguments}"),
    "steps": ("---:", "{steps}"),
    "seeds": ("---:", "{seeds}"),
    "metric": ("---", "{metric}"),
    "final score": ("---:", "{IQM}"),
    INTERVAL: ("---:", "{interval}"),
    "worst seed": ("---:", "{worst_seed}"),
    "time to win": ("---:", "{time_to_win}"),
    "minutes": ("---:", "{minutes}"),
    "largest `train/q_tot`": ("---:", "{largest_q_tot}"),
}


def suite_columns(rows: list[dict]) -> dict[str, tuple[str, str]]:
    """Columns of the suite's table; `time to win` appears only if a team won a battle."""
    heads = {INTERVAL: interval_head(rows)}
    columns = {heads.get(head, head): cell for head, cell in SUITE_COLUMNS.items()}
    if not any_won(rows):
        del columns["time to win"]
    return columns


def suite_markdown(rows: list[dict]) -> str:
    """The tasks with runs as a Markdown table."""
    return in_markdown(suite_columns(rows), suite_cells(rows))


def not_trained(rows: list[dict]) -> str:
    """A sentence that names the tasks without runs; empty if there are none."""
    missing = defaultdict(list)
    for row in rows:
        if not row["seeds"]:
            missing[row["family"]].append(row["environment"])
    families = [f"{family} ({', '.join(tasks)})" for family, tasks in missing.items()]
    return f"\nnot trained yet: {'; '.join(families)}\n" if families else ""


def draw_families(found: list[Found], looks: dict, how: How):
    """Draw a figure for each family that has runs."""
    families = defaultdict(lambda: defaultdict(dict))
    for task, groups in found:
        for panel, labels in groups.items():
            families[task.family][panel] |= labels
    for family, groups in families.items():
        draw_curves(groups, looks, "steps", family, how)


# Comparison with a baseline


def find_baseline(baseline: str, labels: Iterable[str], titles: dict[str, str]) -> str:
    """The label of a baseline, given as script, label or name. Raises ValueError."""
    labels = list(labels)
    for label in labels:
        if baseline in (label, label.replace(".py", "", 1), titles[label]):
            return label
    if several := [label for label in labels if baseline in of_script(label)]:
        words = ", ".join(f'"{label}"' for label in several)
        raise ValueError(f"--baseline {baseline} has several rows: give one of {words}")
    raise ValueError(unknown("--baseline", baseline, [titles[label] for label in labels]))


def of_script(label: str) -> tuple[str, str]:
    """The two names of a label's script: qmix.py and qmix."""
    file = label.partition(" ")[0]
    return file, file.removesuffix(".py")


def final_scores(runs: list[Record]) -> np.ndarray:
    """The mean of each run's last tenth: [seeds]."""
    return scores(runs, "steps", 10)[1][:, -1]


def comparison(groups: Groups, baseline: str, reps: int) -> list[dict]:
    """A row for each other label: the probability that its runs are better than the baseline's.

    It counts the environments that both have. Raises ValueError if there is nothing to compare.
    """
    rows = []
    for label in dict.fromkeys(itertools.chain(*groups.values())):
        shared = [labels for labels in groups.values() if {label, baseline} <= labels.keys()]
        if label == baseline or not shared:
            continue
        both = [[final_scores(labels[one]) for labels in shared] for one in (label, baseline)]
        middle, low, high = interval(improvement, both, reps)
        row = {"script": label, "baseline": baseline, "environments": len(shared)}
        rows.append(row | {"probability": middle, "low": low, "high": high})
    if not rows:
        raise ValueError(f"no other script shares an environment with the baseline {baseline}")
    return rows


def comparison_columns(baseline: str) -> dict[str, tuple[str, str]]:
    """Columns of the comparison's table: head -> alignment, format of a row's cell."""
    return {
        "script": ("---", "{title}"),
        "environments": ("---:", "{environments}"),
        f"probability of improvement over {baseline}": ("---:", "{probability:.3f}"),
        "95% interval": ("---:", "{low:.3f} to {high:.3f}"),
    }


def comparable(groups: Groups) -> list[dict[str, list[Record]]]:
    """Environments that all labels have and whose scores mean the same: rates, or a single one."""
    names = dict.fromkeys(itertools.chain(*groups.values()))
    shared = {key: labels for key, labels in groups.items() if labels.keys() == names.keys()}
    rates = [labels for (_, metric), labels in shared.items() if TAGS.get(metric) in RATES]
    return rates or ([*shared.values()] if len(shared) == 1 else [])


def draw_comparison(groups: Groups, rows: list[dict], looks: dict, how: How):
    """Draw the probabilities of improvement and, where scores can be compared, the profiles."""
    shared = comparable(groups)
    picture, panels = new_figure(2 if shared else 1, 3.8, how.columns)
    panel = panels[-1]
    panel.axvline(0.5, color=GREY, linewidth=0.8)
    for i, row in enumerate(rows):
        colour, dashes = looks[row["script"]]
        line = {"color": colour, "linestyle": dashes, "linewidth": 1.8, "label": row["script"]}
        panel.plot([row["low"], row["high"]], [-i, -i], **line)
        panel.plot(row["probability"], [-i], "o", color=colour, markersize=4)
    words = f"probability of improvement\nover {rows[0]['baseline']}"
    panel.set(xlabel=words, xlim=(-0.05, 1.05), ylim=(0.5 - len(rows), 0.5), yticks=[])
    if not shared:
        print("no profiles: rewards of several environments cannot be compared", file=sys.stderr)
    else:
        draw_profiles(panels[0], shared, looks, how.reps)
    write_figure(picture, "comparison", how)


def draw_profiles(panel, shared: list[dict[str, list[Record]]], looks: dict, reps: int):
    """Draw the share of the runs with a higher final score than each threshold."""
    final = {label: [final_scores(one[label]) for one in shared] for label in shared[0]}
    every = np.concatenate([score for tasks in final.values() for score in tasks])
    thresholds = np.linspace(min(0, every.min()), every.max(), 101)
    for label, tasks in final.items():
        middle, low, high = interval(lambda tasks: profile(tasks, thresholds), [tasks], reps)
        colour, dashes = looks[label]
        panel.plot(thresholds, middle, color=colour, linestyle=dashes, linewidth=1.8, label=label)
        panel.fill_between(thresholds, low, high, color=colour, alpha=0.15, linewidth=0)
    metric = next(iter(shared[0].values()))[0].metric
    panel.set(xlabel=f"final {metric}", ylabel="share of the runs above", ylim=(-0.05, 1.05))


# Everything


def read_names(words: Sequence[str], labels: Iterable[str]) -> dict[str, str]:
    """label -> its name in figures and tables, from words such as qmix=QMIX.

    A word names a script, or one row of it ("qmix --td-lambda 0=QMIX(0)"). Raises ValueError.
    """
    labels, given = list(labels), {}
    known = {name for label in labels for name in (*of_script(label), label)}
    known |= {label.replace(".py", "", 1) for label in labels}
    for word in words:
        script, equals, name = word.partition("=")
        if not equals or not name.strip() or not name.isprintable():
            raise ValueError(f'a name must be like qmix="QMIX", got {word!r}')
        if script not in known:
            raise ValueError(unknown("script in --names", script, sorted(known)))
        given[script] = name.strip()
    titles = {}
    for label in labels:
        file, _, options = label.partition(" ")
        of_file = next((given[name] for name in of_script(label) if name in given), file)
        title = " ".join(filter(None, (of_file, options)))
        titles[label] = given.get(label, given.get(label.replace(".py", "", 1), title))
    for label, title in titles.items():
        if twice := [other for other in titles if titles[other] == title and other != label]:
            raise ValueError(f"--names would give {label} and {twice[0]} the same name, {title}")
    return titles


def renamed(groups: Groups, titles: dict[str, str]) -> Groups:
    return {
        key: {titles[label]: runs for label, runs in labels.items()}
        for key, labels in groups.items()
    }


def check_how(how: How):
    """Raise ValueError if an option cannot be used."""
    for name in ("points", "reps", "columns"):
        if getattr(how, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(how, name)}")
    if how.format not in FORMATS:
        raise ValueError(f"--format must be {', '.join(FORMATS)}, got {how.format!r}")


def plot(
    runs: Sequence[Path],
    envs: Sequence[str] = (),
    seeds: Sequence[int] = (),
    out: Path = Path("figures"),
    points: int = 20,
    reps: int = 2000,
    suite: str = "",
    families: Sequence[str] = (),
    metric: str = "",
    format: str = "svg",
    columns: int = 3,
    latex: bool = False,
    names: Sequence[str] = (),
    baseline: str = "",
) -> str:
    """Draw the runs in some folders, and write their tables; returns the tables in Markdown.

    The arguments are those of the command `plot`. Raises ValueError if there is nothing to draw.
    """
    how, left_out = How(out, format, points, reps, columns), []
    check_how(how)
    if families and not suite:
        raise ValueError("--families chooses tasks of a suite: give --suite, too")
    if baseline and suite:
        raise ValueError("--baseline compares scripts in the same environments: leave out --suite")
    with need("matplotlib").rc_context(STYLE if format == "svg" else PRINTED):
        if suite:
            tasks = choose_tasks(suite, families, envs, seeds)
            files = plot_suite(find_runs(tasks, runs, metric, left_out), names, how)
        else:
            groups = choose(runs, envs, seeds, metric, left_out)
            files = plot_scripts(groups, names, baseline, how)
    text = "\n".join(in_markdown(heads, cells) for heads, cells, _ in files.values())
    text += note_of(left_out)
    if suite:
        text += not_trained(files["results"][2])
    for name, (heads, cells, rows) in files.items():
        write_atomically(out / f"{name}.csv", in_csv(rows).encode())
        if latex:
            write_atomically(out / f"{name}.tex", in_latex(heads, cells).encode())
    write_atomically(out / "results.md", text.encode())
    return text


def plot_suite(found: list[Found], names: Sequence[str], how: How) -> dict:
    """Draw the families of a suite; returns its table: name -> columns, cells, rows."""
    labels = [label for _, groups in found for label in itertools.chain(*groups.values())]
    planned = [f"{task.script_name}.py" for task, _ in found]
    titles = read_names(names, dict.fromkeys([*labels, *planned]))
    looks = {titles[label]: look for label, look in looks_of(labels).items()}
    rows = suite_table(found, how.reps)
    for row in rows:
        row["script"] = titles[row["script"]]
    how.out.mkdir(parents=True, exist_ok=True)
    named = [Found(task, renamed(groups, titles)) for task, groups in found]
    draw_families(named, looks, how)
    return {"results": (suite_columns(rows), suite_cells(rows), rows)}


def plot_scripts(groups: Groups, names: Sequence[str], baseline: str, how: How) -> dict:
    """Draw the curves of scripts and variants; returns tables: name -> columns, cells, rows."""
    labels = list(dict.fromkeys(itertools.chain(*groups.values())))
    titles = read_names(names, labels)
    looks = {titles[label]: look for label, look in looks_of(labels).items()}
    base = titles[find_baseline(baseline, labels, titles)] if baseline else ""
    groups = renamed(groups, titles)
    rows = table(groups, how.reps)
    tables = {"results": (columns_of(rows), cells_of(rows), rows)}
    compared = comparison(groups, base, how.reps) if baseline else []
    how.out.mkdir(parents=True, exist_ok=True)
    for x in ("steps", "seconds"):
        draw_curves(groups, looks, x, f"curves_{x}", how)
    draw_aggregate(groups, looks, how)
    if compared:
        draw_comparison(groups, compared, looks, how)
        cells = [row | {"title": in_code(row["script"])} for row in compared]
        tables["comparison"] = (comparison_columns(in_code(base)), cells, compared)
    return tables
