"""Checks of what an environment answers: one small function per kind of value.

Each returns the value as plain numbers, or raises `EnvFault` with what was given and what was
declared. `what` names the value, for example "red's observation".
"""

from collections.abc import Mapping

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple, flatten

from cleanmarl.errors import EnvFault

READABLE = (Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple)


def shown(value) -> str:
    """A value in a message: its first characters, or a container's type and size."""
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of shape {value.shape}"
    if isinstance(value, list | tuple | Mapping) and len(str(value)) > 60:
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)[:60]


def array_of(value, what: str) -> np.ndarray:
    """A number, or numbers in equal rows."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        raise EnvFault(f"{what} has rows of different lengths") from None
    if array.dtype.kind not in "biuf":
        raise EnvFault(f"{what} must consist of numbers, got {shown(value)}")
    return array


def check_space(space, what: str) -> Space:
    """A space that observations can be read with."""
    package = type(space).__module__.partition(".")[0]
    if package == "gym":
        raise EnvFault(f"{what} is of the old package gym: import the spaces from gymnasium")
    if not isinstance(space, Space):
        raise EnvFault(f"{what} must be a space of gymnasium, got {shown(space)}")
    parts = space.spaces if isinstance(space, Dict | Tuple) else ()
    for part in parts.values() if isinstance(space, Dict) else parts:
        check_space(part, what)
    if not isinstance(space, READABLE):
        raise EnvFault(f"{what} cannot be flattened to numbers: {space}")
    return space


def vector_of(space: Space, value, what: str) -> np.ndarray:
    """A value of a space, as Gymnasium's `flatten` orders it: [flatdim(space)]."""
    if isinstance(space, Box | MultiBinary):
        return box_of(space, value, what).ravel()
    if isinstance(space, Discrete | MultiDiscrete):
        return flatten(space, choice_of(space, value, what))
    if isinstance(space, Dict):
        if not isinstance(value, Mapping) or value.keys() != space.spaces.keys():
            given = sorted(map(str, value)) if isinstance(value, Mapping) else shown(value)
            raise EnvFault(f"{what} must have the entries {sorted(space)}, got {given}")
        parts = [vector_of(of, value[name], f"{what}[{name!r}]") for name, of in space.items()]
    else:
        if not isinstance(value, list | tuple) or len(value) != len(space):
            raise EnvFault(f"{what} must be a tuple of {len(space)}, got {shown(value)}")
        numbered = enumerate(zip(space, value, strict=True))
        parts = [vector_of(of, part, f"{what}[{i}]") for i, (of, part) in numbered]
    return np.concatenate([*parts, np.zeros(0)])


def box_of(space: Box | MultiBinary, value, what: str) -> np.ndarray:
    """An array of the declared shape, whose numbers fit the declared type."""
    array = value if type(value) is np.ndarray else array_of(value, what)
    if array.shape != space.shape and not array.size == np.prod(space.shape) == 1:
        raise EnvFault(f"{what} has shape {array.shape}, but its space is {space}")
    if array.dtype == space.dtype:
        return array
    array = array_of(array, what)
    if space.dtype.kind == "f":
        return array
    with np.errstate(invalid="ignore"):  # NaN has no whole number
        converted = array.astype(space.dtype)
    if (wrong := array[converted != array]).size:
        raise EnvFault(f"{what} contains {wrong[0]}, but its space is {space}")
    return converted


def choice_of(space: Discrete | MultiDiscrete, value, what: str):
    """A whole number, or an array of them, within the declared range."""
    array = array_of(value, what)
    whole = array.astype(np.int64)
    if array.size == 1 and isinstance(space, Discrete):
        whole = whole.reshape(())
    if (whole != array).any() or not space.contains(whole.astype(space.dtype)):
        raise EnvFault(f"{what} is {shown(value)}, but its space is {space}")
    return whole


def mask_of(mask, n_actions: int, what: str) -> np.ndarray:
    """Which actions are available, [n_actions] of bool."""
    array = array_of(mask, what)
    if array.shape != (n_actions,):
        wanted = f"must have {n_actions} numbers, one per action"
        raise EnvFault(f"{what} {wanted}, got shape {array.shape}")
    if not ((array == 0) | (array == 1)).all():
        raise EnvFault(f"{what} must consist of 0 and 1, got {shown(mask)}")
    if not array.any():
        raise EnvFault(f"{what} allows no action")
    return array != 0


def number_of(value, what: str) -> float:
    """A finite number; an array of one is a number, too."""
    if type(value) is not float:
        array = array_of(value, what)
        if array.size != 1:
            raise EnvFault(f"{what} must be one number, got {shown(value)}")
        value = array.item()
    if not np.isfinite(value):
        raise EnvFault(f"{what} is {value}")
    return float(value)


def flag_of(value, what: str) -> bool:
    """A bool; 0 and 1, and an array of one, are bools, too."""
    if isinstance(value, bool):
        return value
    array = np.asarray(value)
    if array.size != 1 or array.dtype.kind not in "biuf" or array.item() not in (0, 1):
        raise EnvFault(f"{what} must be True or False, got {shown(value)}")
    return bool(array.item())


def dict_of(value, what: str) -> Mapping:
    if not isinstance(value, Mapping):
        raise EnvFault(f"{what} must be a dict, got {shown(value)}")
    return value
