"""The engine agrees with recordings of the original SMAClite, and the comparison can fail."""

import contextlib
import io
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from docs.tools import parity

TRACES = Path(__file__).parent / "traces"


def replay(*paths) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = parity.main(list(paths))
    return status, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("path", sorted(TRACES.glob("*.npz")), ids=lambda path: path.stem)
def test_the_engine_agrees_with_the_recorded_battles(path):
    status, out, err = replay(path)
    assert (status, err) == (0, ""), out
    assert "WRONG" not in out and out.endswith("all episodes agree\n")


def test_there_are_recordings_with_both_offsets_of_wall_lines():
    walls = {path.stem: str(np.load(path)["ep0_walls"]) for path in TRACES.glob("*.npz")}
    assert sorted(name for name, offset in walls.items() if offset == "published") == [
        "published-2s_vs_1sc",
        "published-3m",
    ]
    assert sum(offset == "upstream" for offset in walls.values()) == 8


def test_the_report_has_the_largest_errors_and_the_flags_that_agree():
    _, out, _ = replay(TRACES / "3m.npz")
    lines = out.splitlines()
    assert lines[0] == "3m, random actions, seed 1, walls upstream"
    assert lines[3] == "3m, scripted actions, seed 2, walls upstream"
    rows = lines[1]
    assert rows.startswith("  from rows  320 ticks, 0 of 1459 positions beyond 0.0001; ")
    numbers = ("position", "hp", "shield", "energy", "cooldown", "reward", "observation", "state")
    for quantity in numbers:
        assert re.search(rf"[;,] {quantity} \d\.\de[+-]\d\d", rows), quantity
    for flag in ("target", "deaths", "avail", "end"):
        assert f" {flag} agree" in rows
    assert lines[2].startswith("  free run   position to the end, hp to the end; ")


def test_the_report_has_the_tick_at_which_a_free_run_parts():
    # it does so in the rules' own comparison too (section 18)
    _, out, _ = replay(TRACES / "1c3s5z.npz")
    assert "  free run   position parts at tick 187, hp parts at tick 250; " in out


def tampered(tmp_path, change, name: str = "3m") -> Path:
    """A copy of a recording in which `change` has been made to its arrays."""
    with np.load(TRACES / f"{name}.npz") as trace:
        arrays = {key: trace[key].copy() for key in trace.files}
    change(arrays)
    path = tmp_path / f"{name}.npz"
    np.savez(path, **arrays)
    return path


def add(key: str, at: tuple, amount: float):
    def change(arrays):
        arrays[key][at] += amount

    return change


def flip(key: str, at: tuple):
    def change(arrays):
        arrays[key][at] = not arrays[key][at]

    return change


def another_target(arrays):
    targets = arrays["ep0_target"]
    row, unit = np.argwhere((targets >= 0) & arrays["ep0_alive"])[-1]
    targets[row, unit] = -1


def nan_in(change):
    """The same change, but to NaN, for floats."""

    def to_nan(arrays):
        before = {key: array.copy() for key, array in arrays.items()}
        change(arrays)
        for key, array in arrays.items():
            if array.dtype.kind == "f":
                array[array != before[key]] = np.nan

    return to_nan


WRONG = {
    "position": add("ep0_pos", (100, 0, 1), 0.02),
    "hp": add("ep0_hp", (100, 0), -1),
    "shield": add("ep0_shield", (100, 0), 0.125),
    "energy": add("ep0_energy", (100, 0), 0.01),
    "cooldown": add("ep0_cooldown", (100, 0), 0.01),
    "shield_wait": add("ep0_shield_cooldown", (100, 0), 1 / 16),
    "target": another_target,
    "attacking": flip("ep0_attacking", (100, 0)),
    "deaths": flip("ep0_alive", (100, 0)),
    "reward": add("ep0_tick_reward", (100,), 1),
    "step reward": add("ep0_reward", (12,), 0.01),
    "end": flip("ep0_terminated", (12,)),
    "avail": flip("ep0_avail", (12, 0, 1)),
    "observation": add("ep0_obs", (12, 0, 5), 0.01),
    "state": add("ep0_state", (12, 0), 0.01),
}


@pytest.mark.parametrize("quantity", WRONG)
def test_a_recording_that_differs_in_one_place_fails_and_the_quantity_is_named(tmp_path, quantity):
    status, out, _ = replay(tampered(tmp_path, WRONG[quantity]))
    assert status == 1
    assert f"  WRONG      {quantity}: " in out
    assert out.endswith("1 episodes do not agree\n")  # the other one does


@pytest.mark.parametrize(
    "quantity", ["position", "hp", "reward", "step reward", "observation", "state"]
)
def test_nan_does_not_agree(tmp_path, quantity):
    status, out, _ = replay(tampered(tmp_path, nan_in(WRONG[quantity])))
    assert status == 1 and f"  WRONG      {quantity}: " in out


@pytest.mark.parametrize(
    ("errors", "agrees"), [([0.009], True), ([0.009, 0.009], False), ([0.011], False)]
)
def test_one_position_in_ten_thousand_may_be_off_by_less_than_a_hundredth(errors, agrees):
    episode = parity.load(TRACES / "2s3z.npz")[0]
    differences = episode.from_rows()
    differences["position"][100, : len(errors)] = errors
    episode.from_rows = lambda: differences
    text, wrong = parity.check_rows(episode)
    assert f"{len(errors)} of 2582 positions beyond 0.0001" in text
    assert (wrong == []) == agrees


def test_a_free_run_must_agree_in_hp_to_the_end(tmp_path):
    _, out, _ = replay(tampered(tmp_path, WRONG["hp"]))
    # row 100 follows tick 99
    assert "  free run   position to the end, hp parts at tick 99; " in out
    assert "  WRONG      free run: hp parts at tick 99\n" in out


def test_a_free_run_must_end_as_recorded(tmp_path):
    _, out, _ = replay(tampered(tmp_path, WRONG["end"]))
    assert "  WRONG      free run: the end differs\n" in out


def test_the_wrong_offset_of_wall_lines_is_noticed(tmp_path):
    def claim_published(arrays):
        for e in range(2):
            arrays[f"ep{e}_walls"] = np.array("published")

    status, out, _ = replay(tampered(tmp_path, claim_published, "2s_vs_1sc"))
    assert status == 1 and "WRONG      position: " in out


def without(*keys: str):
    return lambda arrays: [arrays.pop(key) for key in keys]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("map"), "is not a recorded battle: map is not"),
        (without("episodes"), "is not a recorded battle: episodes is not"),
        (without("ep1_order", "ep1_hp"), "is not a recorded battle: there is no ep1_order, ep1_hp"),
        (
            lambda arrays: arrays.update(map=np.array("4m")),
            "is not a recorded battle: unknown map '4m'; did you mean",
        ),
        (
            lambda arrays: arrays.update(map=np.array("8m")),
            "its units are not those of the map 8m",
        ),
    ],
)
def test_an_archive_that_is_not_a_recording_gives_one_line_and_status_2(tmp_path, change, message):
    status, out, err = replay(tampered(tmp_path, change))
    assert (status, out) == (2, "")
    assert message in err and err.count("\n") == 1 and "3m.npz" in err


@pytest.mark.parametrize("content", [b"", b"not a recording\n", b"PK\x03\x04 and nothing more"])
def test_a_file_of_another_kind_gives_one_line_and_status_2(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    assert replay(path) == (2, "", f"{path} is not a recorded battle, or is damaged\n")


def test_a_single_array_and_a_damaged_archive_give_one_line_and_status_2(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    whole = (TRACES / "3m.npz").read_bytes()
    (tmp_path / "damaged.npz").write_bytes(whole[:20000] + bytes(100) + whole[20100:])
    for name in ("array.npy", "damaged.npz"):
        message = f"{tmp_path / name} is not a recorded battle, or is damaged\n"
        assert replay(tmp_path / name) == (2, "", message)


def test_a_missing_file_or_a_folder_gives_one_line_and_status_2(tmp_path):
    missing = tmp_path / "none.npz"
    assert replay(missing) == (2, "", f"cannot read {missing}: No such file or directory\n")
    assert replay(tmp_path) == (2, "", f"cannot read {tmp_path}: Is a directory\n")


def test_the_command_exits_with_the_status(monkeypatch, capsys):
    parity.compiled.machine_code("tick")  # compile first: it prints a line
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["parity", "none.npz"])
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(parity.__file__, run_name="__main__")
    assert exit.value.code == 2
    assert capsys.readouterr().err == "cannot read none.npz: No such file or directory\n"
