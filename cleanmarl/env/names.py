"""Look up the names that a user gives."""

import importlib
import sys
from types import ModuleType


def find(what: str, name: str, known: dict, hint: str = ""):
    """The entry of `known` for a name.

    Raises ValueError; the message gives the nearest names or, if none is near, the hint or some
    names.
    """
    if name in known:
        return known[name]
    # Only here: `battle` registers its maps when it is imported
    from cleanmarl.battle.reading import nearest

    some = f"for example {', '.join(list(known)[:4])} (--list-envs prints all)"
    otherwise = hint or (some if len(known) > 4 else "")
    raise ValueError(f"unknown {what} {name!r}; {nearest(name, list(known), otherwise)}")


def module_here(name: str) -> ModuleType | None:
    """Import a module that is installed or in the working directory; None if there is none.

    An error inside the module is raised unchanged.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    if "" not in sys.path:
        # The path has the script's folder, but not the working directory.
        sys.path.append("")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            return None
        raise
