"""The program that tries odd command lines and damaged folders: its cases, and its faults."""

import importlib
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.helpers import ROOT, TWO_STEPS, trained


@pytest.fixture
def tools(monkeypatch):
    """`tools(name)`: a program of docs/tools that imports others from there."""
    monkeypatch.syspath_prepend(str(ROOT / "docs/tools"))
    return importlib.import_module


def test_the_same_seed_gives_the_same_command_lines(tools):
    words = tools("odd_words")
    lines = [[words.odd_line(random.Random(f"{i}")) for i in range(300)] for _ in range(2)]
    assert lines[0] == lines[1]
    assert {line.program for line in lines[0]} == set(words.PROGRAMS)
    assert len({str(line) for line in lines[0]}) > 250
    assert not any("\0" in word for line in lines[0] for word in line.words)


def test_the_same_seed_gives_the_same_damage(tools, tmp_path):
    damage, break_it = tools("damage"), tools("break_it")
    whole = trained("qmix", tmp_path / "run", **TWO_STEPS)
    before = break_it.contents(whole)
    told = set()
    for seed in range(40):
        found = []
        for name in ("one", "other"):
            folder = tmp_path / name / "run"
            shutil.copytree(whole, folder)
            about = damage.damage(random.Random(seed), folder, [whole])
            found.append((about, break_it.contents(tmp_path / name)))
            shutil.rmtree(tmp_path / name)
        assert found[0][0] == found[1][0]
        assert found[0][1].keys() == found[1][1].keys()
        told.add(found[0][0])
    assert len(told) > 30
    assert break_it.contents(whole) == before


@pytest.fixture
def judged(tools, tmp_path):
    """`judged(status, errors, ...)`: the faults of a case that ended like this."""
    break_it = tools("break_it")

    def judge(status: int, errors: str, program: str = "qmix", change=None, **options) -> list[str]:
        folder = tmp_path / "work"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "run").mkdir(parents=True)
        (folder / "run/args.json").write_text("{}")
        os.mkfifo(folder / "pipe")
        before = break_it.contents(folder)
        if change:
            change(folder)
        case = break_it.Case(program, ["--seed", "x"], folder)
        outcome = break_it.Outcome(status, "", errors, 1.0, **options)
        return break_it.faults_of(case, outcome, before, break_it.contents(folder))

    return judge


def edit(folder: Path):
    (folder / "run/args.json").write_text(json.dumps({"seed": 1}))


def replace_pipe(folder: Path):
    (folder / "pipe").unlink()
    (folder / "pipe").touch()


ERROR = "qmix.py: error: --seed must be a whole number, got x"


def test_what_is_documented_is_no_fault(judged):
    assert judged(2, ERROR) == []
    assert judged(0, "", change=edit) == []
    assert judged(1, ERROR) == []
    assert judged(143, "", stopped=True) == []


@pytest.mark.parametrize(
    ("ending", "fault"),
    [
        ({"status": 1, "errors": "Traceback (most recent call last):\nE"}, "a traceback"),
        ({"status": 1, "errors": ERROR, "program": "watch"}, "exit status 1"),
        ({"status": -11, "errors": ERROR}, "exit status -11"),
        ({"status": 2, "errors": ""}, "no message"),
        ({"status": 2, "errors": "one\ntwo\nthree\nfour\nfive"}, "5 lines of message"),
        ({"status": 2, "errors": "x" * 2000}, "a line of more than 1000 characters"),
        ({"status": 0, "errors": "a/b.py:3: UserWarning: x"}, "a warning of Python"),
        ({"status": -9, "errors": ERROR, "stopped": True}, "does not end after SIGTERM"),
        ({"status": -15, "errors": ERROR, "stopped": True, "idle": True}, "waits for ever"),
        ({"status": 2, "errors": ERROR, "change": edit}, "refused, but changed: run/args.json"),
        ({"status": 0, "errors": "", "change": replace_pipe}, "lost: pipe"),
        (
            {"status": 0, "errors": "", "change": lambda folder: (folder / "a.tmp").touch()},
            "half-written: a.tmp",
        ),
    ],
)
def test_faults_are_found(judged, ending, fault):
    assert any(fault in found for found in judged(**ending))
