"""Which runs are drawn, by environment and label, and their names in figures and tables."""

import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cleanmarl.benchmark.planning import OWN, SAME_CURVE, SCRIPTS
from cleanmarl.benchmark.records import METRICS, LeftOut, Record, find_all
from cleanmarl.benchmark.suite import SuiteTask, key_of, title_of_env
from cleanmarl.env.names import unknown
from cleanmarl.training.arguments import option

# (environment, metric) -> label -> a run of each seed
Groups = dict[tuple[str, str], dict[str, list[Record]]]


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


def of_script(label: str) -> tuple[str, str]:
    """The two names of a label's script: qmix.py and qmix."""
    file = label.partition(" ")[0]
    return file, file.removesuffix(".py")


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
