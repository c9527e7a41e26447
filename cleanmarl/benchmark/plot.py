"""Curves and tables of finished runs: interquartile means and their 95% bootstrap intervals.

`plot` compares scripts and variants; for a suite, it makes one table of all tasks.
"""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from cleanmarl.benchmark.extras import need
from cleanmarl.benchmark.figures import (
    FORMATS,
    PRINTED,
    STYLE,
    How,
    draw_aggregate,
    draw_comparison,
    draw_curves,
    draw_families,
    looks_of,
)
from cleanmarl.benchmark.groups import (
    Found,
    Groups,
    choose,
    find_runs,
    of_script,
    read_names,
    renamed,
)
from cleanmarl.benchmark.suite import choose_tasks
from cleanmarl.benchmark.tables import (
    cells_of,
    columns_of,
    comparison,
    comparison_columns,
    in_code,
    in_csv,
    in_latex,
    in_markdown,
    not_trained,
    note_of,
    suite_cells,
    suite_columns,
    suite_table,
    table,
)
from cleanmarl.env.names import unknown
from cleanmarl.training.checkpoint import write_atomically


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
