"""Curves and other figures of runs: interquartile means and their intervals."""

import io
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cleanmarl.benchmark.estimates import (
    estimate,
    final_scores,
    interval,
    iqm,
    mean,
    median,
    profile,
    scores,
)
from cleanmarl.benchmark.extras import need
from cleanmarl.benchmark.groups import Found, Groups
from cleanmarl.benchmark.planning import SCRIPTS
from cleanmarl.benchmark.records import RATES, TAGS, Record
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


class How(NamedTuple):
    """Where and how figures are drawn."""

    out: Path
    format: str
    points: int
    reps: int
    columns: int
    """panels in a row"""


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


def draw_families(found: list[Found], looks: dict, how: How):
    """Draw a figure for each family that has runs."""
    families = defaultdict(lambda: defaultdict(dict))
    for task, groups in found:
        for panel, labels in groups.items():
            families[task.family][panel] |= labels
    for family, groups in families.items():
        draw_curves(groups, looks, "steps", family, how)


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


def comparable(groups: Groups) -> list[dict[str, list[Record]]]:
    """Environments that all labels have and whose scores mean the same: rates, or a single one."""
    names = dict.fromkeys(itertools.chain(*groups.values()))
    shared = {key: labels for key, labels in groups.items() if labels.keys() == names.keys()}
    rates = [labels for (_, metric), labels in shared.items() if TAGS.get(metric) in RATES]
    return rates or ([*shared.values()] if len(shared) == 1 else [])
