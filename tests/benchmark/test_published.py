"""The published commands, records, figures and tables agree."""

import re
import shlex
from pathlib import Path

import pytest

from cleanmarl.benchmark import __main__ as benchmark
from cleanmarl.benchmark import groups, tables
from cleanmarl.benchmark.planning import plan
from cleanmarl.benchmark.suite import choose_tasks
from tests.helpers import ROOT, blocks

pytest.importorskip("ray", reason='sweeps need Ray: pip install -e ".[benchmark]"')

RESULTS = ROOT / "docs/results.md"
TRIALS = ROOT / "docs/trials.md"
RANDOM_BATTLES = ROOT / "docs/random_battles.md"
PAGES = (RESULTS, TRIALS, RANDOM_BATTLES)


def shown(kind: str, page: Path) -> list[str]:
    """The words after `run` or `plot` in commands of a page that take too long to run."""
    text = "".join(blocks(page, "text"))
    command = rf"^python -m cleanmarl.benchmark {kind} (.*)$"
    return re.findall(command, text.replace("\\\n", " "), re.MULTILINE)


def parsed(kind: str, words: str) -> dict:
    """The arguments of `plan` or `plot` from the words after the command."""
    own, _, passed = words.partition(" -- ")
    args = vars(benchmark.read([kind, *shlex.split(own)]))
    if kind == "run":
        args["passed"] = passed.split()
        args["try_envs"] = not args["suite"]  # the packages of a suite may be missing
    return {name: args[name] for name in args if name not in ("address", "cpus")}


@pytest.mark.parametrize("words", shown("run", ROOT / "docs/benchmark.md"))
def test_the_sweeps_that_are_only_shown_can_be_planned(tmp_path, monkeypatch, words):
    (scenario,) = blocks(ROOT / "docs/battles.md", "toml")
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text(scenario)
    assert plan(**parsed("run", words))


def test_the_published_records_are_of_the_published_sweeps(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("docs").symlink_to(ROOT / "docs")
    commands = [words for page in PAGES for words in shown("run", page)]
    sweeps = [plan(**parsed("run", words)) for words in commands]  # or an error
    of_sweeps = {task.record for tasks in sweeps for task in tasks}
    folders = {record.parent for record in of_sweeps}
    assert folders
    assert {record for folder in folders for record in folder.glob("*.json")} <= of_sweeps


def dense(line: str) -> str:
    """A row of a table without space around its cells."""
    return re.sub(r" *\| *", "|", line)


PLOTTED = [(page, words) for page in PAGES for words in shown("plot", page)]


@pytest.mark.parametrize(("page", "words"), PLOTTED)
def test_the_published_tables_are_those_of_the_published_records(monkeypatch, page, words):
    monkeypatch.chdir(ROOT)
    args = parsed("plot", words)
    if args["suite"]:
        tasks = choose_tasks(*(args[name] for name in ("suite", "families", "envs", "seeds")))
        found = groups.find_runs(tasks, args["runs"])
        text = tables.suite_markdown(tables.suite_table(found, args["reps"]))
    else:
        chosen = groups.choose(args["runs"], args["envs"], args["seeds"])
        text = tables.markdown(tables.table(chosen, args["reps"]))
    on_page = page.read_text().splitlines()
    assert [line for line in text.splitlines() if dense(line) not in on_page] == []
