"""Fixtures for all tests."""

import gc
import importlib
import os
import signal
import sys

import pytest
from filelock import FileLock
from tensorboard.summary.writer import event_file_writer

from cleanmarl.battle import BattleEnv

# TensorBoard reads its files in the order of their names, which end with the time in seconds and a
# counter. Tests make several files within a second, so the counter must not grow from 9 to 10.
event_file_writer._global_uid = event_file_writer.AtomicCounter(10**6)


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are CPUs, because many tests wait for programs; at most 4."""
    return min(4, (os.cpu_count() or 1) + 1)


@pytest.fixture(autouse=True, scope="session")
def engine(tmp_path_factory):
    """Compile the battle engine before the tests, which look at what is printed.

    One process of the tests compiles it, and the others read what it kept.
    """
    with FileLock(tmp_path_factory.getbasetemp().parent / "engine.lock"):
        env = BattleEnv("3m")
        env.reset(seed=0)
        env.step([1, 1, 1])


@pytest.fixture(autouse=True)
def process():
    """Undo after each test what a training changes in the process."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    thresholds = gc.get_threshold()
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`command(script, *arguments)`: exit status, output and errors of a script.

    The script runs in this process, in an empty folder.
    """

    def call(script: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        capsys.readouterr()
        try:
            status = importlib.import_module(f"cleanmarl.{script}").main()
        except SystemExit as end:
            status = end.code
        return status or 0, *capsys.readouterr()

    return call
