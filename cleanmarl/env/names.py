"""Look up the names that a user gives, and name the user's code where it fails."""

import importlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from cleanmarl.errors import EnvFault

SCRIPTS = Path(__file__).resolve().parents[1]
LISTED = "(python -m cleanmarl.env list prints all)"


def find(what: str, name: str, known: dict, hint: str = ""):
    """The entry of `known` for a name.

    Raises ValueError; the message gives the nearest names or, if none is near, the hint or some
    names.
    """
    if name in known:
        return known[name]
    some = f"for example {', '.join(list(known)[:4])} {LISTED}"
    raise ValueError(unknown(what, name, list(known), hint or (some if len(known) > 4 else "")))


def unknown(what: str, name: str, known: Sequence[str], hint: str = "") -> str:
    """What to say about a name that is not among the known ones."""
    # Only here: `battle` registers its maps when it is imported
    from cleanmarl.battle.reading import nearest

    return f"unknown {what} {name!r}; {nearest(name, known, hint)}"


def unexpected(error: TypeError, given: Iterable[str] = ()) -> str | None:
    """The name of an argument that a function does not take; it was given these."""
    if re.search(r"takes no (keyword )?arguments", str(error)):
        return next(iter(given), None)
    found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    return found and found[1]


def called(function: Callable, form: str, *arguments, **options):
    """Call a function of the user's; EnvFault if it takes other arguments than its `form`."""
    try:
        return function(*arguments, **options)
    except TypeError as error:
        callers = ("cleanmarl", "pettingzoo", "gymnasium")
        if "argument" in str(error) and any(raised_in(error, caller) for caller in callers):
            raise EnvFault(f"{error}; it must be like {form}") from None
        raise
    except AssertionError as error:
        if raised_in(error, "pettingzoo.utils.conversions"):  # agents do not act in a cycle
            raise EnvFault(f"the agents cannot act at the same time: {error}") from None
        raise


@contextmanager
def calling(doing: str, title: str):
    """Add to errors what was done with which environment when they came."""
    try:
        yield
    except ModuleNotFoundError:
        raise
    except EnvFault as fault:
        fault.args = (f"{title}: {fault}",)
        raise
    except SystemExit as end:
        remedy = "what reads the command line belongs below if __name__ == '__main__'"
        raise EnvFault(f"{doing} {title} has called sys.exit({end.code!r}): {remedy}") from None
    except Exception as error:
        if not is_ours(error):
            error.add_note(f"{doing} {title} failed")
        raise


def is_ours(error: Exception) -> bool:
    """Whether this project raised an error, and not a package or the user's code."""
    return raised_in(error, "cleanmarl")


def raised_in(error: Exception, package: str) -> bool:
    last = error.__traceback__
    while last.tb_next:
        last = last.tb_next
    return f"{last.tb_frame.f_globals.get('__name__')}.".startswith(f"{package}.")


def module_here(name: str) -> ModuleType | None:
    """Import a module that is installed or in the working directory; None if there is none.

    An error inside the module is raised unchanged.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    # The path begins with the script's folder, in which a user's `env` would be the project's, and
    # lacks the working directory
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != SCRIPTS]
    if "" not in sys.path:
        sys.path.append("")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise
