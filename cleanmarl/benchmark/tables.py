"""Tables of runs, in Markdown, LaTeX and CSV."""

import csv
import io
import itertools
import re
from collections import Counter, defaultdict
from dataclasses import asdict

import numpy as np

from cleanmarl.benchmark.estimates import estimate, final_scores, improvement, interval, iqm, scores
from cleanmarl.benchmark.groups import Found, Groups
from cleanmarl.benchmark.planning import OWN, load_scripts, words_of
from cleanmarl.benchmark.records import LeftOut
from cleanmarl.benchmark.suite import MEASURED
from cleanmarl.training.arguments import FREE

ENOUGH = 5  # seeds: with fewer, a bootstrap interval is their range
INTERVAL = "95% interval"  # head of a column


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


# Comparison with a baseline


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
