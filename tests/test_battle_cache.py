"""The cache of compiled code: its key, and its failures, which never stop a program."""

import errno
import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import pytest
from numba import int64, njit, typeof

import cleanmarl.battle
from cleanmarl.battle import BattleEnv, cache, compiled, map_names, random_names
from cleanmarl.battle.cache import DiskCache, announced, keep
from cleanmarl.battle.world import seen_of

TINY = """
def twice(x):
    return 2 * x
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """`run(sources)` calls a small function as a program would; returns its output and its cache.

    The function is in its own folder, and its code is kept in `tmp_path / "kept"`.
    """
    file = tmp_path / "package" / "tiny.py"
    file.parent.mkdir()
    file.write_text(TINY)
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))

    def call(sources: str = "1") -> tuple[str, DiskCache]:
        sys.modules.pop("tiny", None)
        function = njit(importlib.import_module("tiny").twice)
        keep(function, sources)
        capfd.readouterr()
        with announced("a small function", [function]):
            code = function.compile((int64,))
        assert code(21) == 42
        return capfd.readouterr().err, function._cache

    return call


def kept_files(tmp_path, ending: str) -> list[Path]:
    return sorted((tmp_path / "kept").rglob(f"*.{ending}"))


def test_compiling_is_announced_and_the_code_is_kept(run):
    first, _ = run()
    begin, end = first.splitlines()
    assert begin == "compiling a small function (once on this machine, 10 to 60 s) ..."
    assert re.fullmatch(r"compiled a small function in \d+ s", end)
    assert run()[0] == ""


def test_other_sources_are_compiled_again(run):
    run("1")
    assert "once on this machine" in run("2")[0]
    assert run("1")[0] == run("2")[0] == ""


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "garbage": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "overwritten": lambda content: content[:-400] + bytes(50) + content[-350:],
}
CASES = [(ending, how) for ending in ("nbi", "nbc") for how in ("truncated", "garbage", "empty")]


@pytest.mark.parametrize(("ending", "how"), [*CASES, ("nbc", "overwritten")])
def test_damaged_files_are_compiled_again_once(run, tmp_path, ending, how):
    run()
    for file in kept_files(tmp_path, ending):
        file.write_bytes(DAMAGE[how](file.read_bytes()))
    again, kept = run()
    first, last = again.splitlines()
    assert first.startswith("compiling a small function (once more, 10 to 60 s: ")
    assert f"its files in {kept.cache_path} are damaged" in first
    assert re.fullmatch(r"compiled a small function in \d+ s", last)
    assert run()[0] == ""


def test_a_file_that_cannot_be_read_is_named(run, tmp_path):
    run()
    (file,) = kept_files(tmp_path, "nbi")
    file.unlink()
    file.mkdir()
    said, kept = run()
    assert f"{kept.cache_path} cannot be read (Is a directory)" in said
    assert "Every program will compile it again" in said


def test_a_full_disk_is_reported_with_advice(run, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", no_space)
    for _ in range(2):
        said, kept = run()
        first, last = said.splitlines()
        assert first.startswith("compiling a small function")
        reason = f"{kept.cache_path} cannot keep it (No space left on device)"
        assert last == (
            f"compiled a small function in 0 s. Every program will compile it again: {reason}; "
            "set NUMBA_CACHE_DIR to a writable folder"
        )


def test_without_a_writable_folder_one_line_says_so_with_advice(run, tmp_path, monkeypatch):
    file = tmp_path / "a file in the place of a folder"
    file.touch()
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(file))
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    (tmp_path / "package" / "__pycache__").touch()
    for _ in range(2):
        first, last = run()[0].splitlines()
        assert first == (
            f"compiling a small function (in each program, 10 to 60 s: neither "
            f"{tmp_path / 'package'} nor the user's cache folder can be written; "
            "set NUMBA_CACHE_DIR to a writable folder) ..."
        )
        assert re.fullmatch(r"compiled a small function in \d+ s", last)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no such modes")
@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_code_is_not_loaded_from_a_folder_that_others_can_write(run, tmp_path, mode):
    run()
    (folder,) = {path.parent for path in kept_files(tmp_path, "nbi")}
    before = {path: path.read_bytes() for path in folder.iterdir()}
    folder.chmod(mode)
    for _ in range(2):
        first, last = run()[0].splitlines()
        assert f"in each program, 10 to 60 s: others can write in {folder}" in first
        assert last.startswith("compiled a small function in")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    folder.chmod(0o755)
    assert run()[0] == ""


@pytest.mark.parametrize(
    ("owner", "group", "mode", "is_open"),
    [
        (7, 7, 0o755, False),
        (0, 0, 0o755, False),
        (8, 8, 0o755, True),
        (7, 7, 0o775, False),  # the user's own group
        (7, 8, 0o775, True),
        (7, 7, 0o777, True),
    ],
)
def test_a_folder_is_safe_if_only_the_user_and_the_system_can_write(
    monkeypatch, owner, group, mode, is_open
):
    monkeypatch.setattr(os, "getuid", lambda: 7, raising=False)
    monkeypatch.setattr(os, "getgid", lambda: 7, raising=False)
    about = os.stat_result((mode, 0, 0, 1, owner, group, 0, 0, 0, 0))
    monkeypatch.setattr(Path, "stat", lambda path: about)
    assert cache.is_open_to_others(Path("folder")) == is_open


# The engine

FIRST_STEP = """
from cleanmarl.battle import BattleEnv
env = BattleEnv("3m")
env.reset(seed=0)
env.step([1, 1, 1])
"""
REPLAY = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "docs" / "tools")!r})
import parity
from cleanmarl.battle import compiled
compiled.machine_code("tick")
for replay in parity.load({str(Path(__file__).parent / "traces" / "3m.npz")!r}):
    replay.from_rows()
"""


def said_by(program: str, cache: Path) -> str:
    """What a new process prints on standard error."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_the_engine_is_compiled_once_for_steps_and_replays(tmp_path):
    first = said_by(FIRST_STEP, tmp_path).splitlines()
    assert len(first) == 2
    assert first[0].startswith("compiling the battle engine (once on this machine")
    assert first[1].startswith("compiled the battle engine in ")
    assert said_by(FIRST_STEP, tmp_path) == ""
    files = sorted(tmp_path.rglob("*"))
    assert said_by(REPLAY, tmp_path) == ""
    assert sorted(tmp_path.rglob("*")) == files


def test_the_code_fits_every_scenario():
    """The machine code does not check the types of its arguments."""
    scenario = {
        "size": [4, 4],
        "attack_point": [1, 1],
        "groups": [
            {"side": side, "at": [2, 2], "units": {"MARINE": 1}} for side in ("ally", "enemy")
        ],
    }
    types = set()
    for which in [{"map_name": name} for name in map_names() + random_names()] + [
        {"map_file": scenario}
    ]:
        env = BattleEnv(**which)
        seen = seen_of(env.world.rules[0], 1)
        types.add(tuple(map(typeof, (env.world, env.start, env.units, env.battles, seen))))
    assert len(types) == 1


def test_the_engine_is_kept_under_a_digest_of_its_sources():
    for function in (compiled.ENGINE | compiled.THREADED).values():
        assert function._cache.sources == compiled.SOURCES


@pytest.mark.parametrize("name", ["draw", "orca", "world", "scenario"])
def test_the_digest_changes_with_any_source_of_the_engine(tmp_path, name):
    package = Path(cleanmarl.battle.__file__).parent
    compiled_files = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, tmp_path / "cleanmarl" / "battle", ignore=compiled_files)
    (tmp_path / "cleanmarl" / "__init__.py").touch()
    with (tmp_path / "cleanmarl" / "battle" / f"{name}.py").open("a") as file:
        file.write("# a change\n")
    code = "from cleanmarl.battle import compiled; print(compiled.__file__, compiled.SOURCES)"
    path, digest = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.split()
    assert Path(path).is_relative_to(tmp_path)
    assert digest != compiled.SOURCES
