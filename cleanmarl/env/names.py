"""From the names that a user gives to what they name."""

import difflib
import importlib
import sys
from types import ModuleType


def find(what: str, name: str, known: dict, hint: str = ""):
    """What is known under a name.

    Raises ValueError with the nearest names or, if none is near, with the hint or some names.
    """
    if name in known:
        return known[name]
    nearest = difflib.get_close_matches(name, known, n=4)
    if nearest:
        others = f"the nearest known are {', '.join(nearest)}"
    elif hint:
        others = hint
    elif len(known) <= 4:
        others = f"known are {', '.join(known)}"
    else:
        others = f"there are {', '.join(list(known)[:4])}, ... (--list-envs prints them)"
    raise ValueError(f"unknown {what} {name!r}; {others}")


def module_here(name: str) -> ModuleType | None:
    """A module that is installed or in the working directory; None if there is none.

    An error inside the module is raised as it is.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    if "" not in sys.path:
        # A script's folder is on the path, but a module is where the user works.
        sys.path.append("")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise
