"""Check the values of a table. A wrong value raises `ScenarioError`.

`where`, the file and the field, begins every message.
"""

import difflib
from numbers import Integral, Real

LARGEST = 10_000  # upper bound of every number, unless its field has another


class ScenarioError(ValueError):
    """A scenario is wrong; the message names the field."""


def nearest(name: str, known: list[str], otherwise: str = "") -> str:
    """The known names nearest to a misspelt one; if none is near, other words or all names."""
    close = difflib.get_close_matches(str(name), known, n=3, cutoff=0.4)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return otherwise or f"known are {', '.join(known)}"


def check(ok: bool, where: str, problem: str):
    if not ok:
        raise ScenarioError(f"{where}: {problem}")


def expect(ok: bool, where: str, wanted: str, value):
    if ok:
        return
    try:
        got = " ".join(repr(value).split())
    except ValueError:  # Python does not print a number of more than 4300 digits
        got = "a huge number"
    raise ScenarioError(f"{where}: expected {wanted}, got {got}")


def check_known(value, where: str, what: str, known: list[str]):
    if value not in known:
        raise ScenarioError(f"{where}: unknown {what}; {nearest(value, known)}")


def check_keys(entry, where: str, known: list[str], required: tuple[str, ...] = ()):
    check(isinstance(entry, dict), where, f"expected a table with {', '.join(known)}")
    for key in entry:
        check_known(key, f"{where}.{key}", "field", known)
    for key in required:
        check(key in entry, f"{where}.{key}", "missing")


def read_number(
    value, where: str, low: float = 0, high: float = LARGEST, whole: bool = False
) -> float:
    """Check that a value is a number within bounds, and return it. Raises ScenarioError."""
    kind = Integral if whole else Real
    ok = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
    wanted = "a whole number" if whole else "a number"
    expect(ok, where, f"{wanted} from {low} to {high}", value)
    return value


def read_list(value, where: str, wanted: str, count: int | None = None) -> list | tuple:
    ok = isinstance(value, list | tuple) and count in (None, len(value))
    expect(ok, where, wanted, value)
    return value


def read_numbers(value, where: str, count: int, **bounds) -> tuple:
    entries = enumerate(read_list(value, where, f"{count} numbers", count))
    return tuple(read_number(entry, f"{where}[{i}]", **bounds) for i, entry in entries)


def read_choice(value, where: str, options) -> str:
    expect(value in options, where, f"one of {', '.join(options)}", value)
    return value


def read_names(value, where: str) -> tuple[str, ...]:
    names = read_list(value, where, "a list of names")
    expect(all(isinstance(name, str) for name in names), where, "a list of names", value)
    return tuple(names)
