"""Fixtures for tests of sweeps and plots."""

import sys

import pytest

from cleanmarl.benchmark import __main__ as benchmark
from cleanmarl.benchmark.planning import plan
from cleanmarl.benchmark.records import read_all
from tests.benchmark.runs import write_run
from tests.helpers import ROOT


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """`call(*words)` runs `python -m cleanmarl.benchmark`, in this process and in an empty folder.

    It returns the exit status, the output and the errors.
    """

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["benchmark", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            benchmark.main()
        return end.value.code or 0, *capsys.readouterr()

    return call


@pytest.fixture
def copied(tmp_path):
    """A copy of a script outside the package, with its own default and mixer."""
    path = tmp_path / "my_qmix.py"
    text = (ROOT / "cleanmarl/qmix.py").read_text()
    path.write_text(text.replace("gamma: Fraction = 0.99", "gamma: Fraction = 0.9"))
    return path


@pytest.fixture
def record(tmp_path):
    """The record of a finished run."""
    write_run(tmp_path / "elsewhere", "qmix", "3m", 1, [0.5, 1.0])
    (record,) = read_all(tmp_path / "elsewhere")
    return record


@pytest.fixture
def begun(tmp_path):
    """A run of a sweep, and the args.json of a training that was started for it."""
    (task,) = plan(["qmix"], ["3m"], [1], tmp_path / "sweep")
    path = task.folder / "runs/run/args.json"
    path.parent.mkdir(parents=True)
    return task, path
