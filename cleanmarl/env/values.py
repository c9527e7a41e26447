"""Checks of what an environment answers: one small function per kind of value.

Each returns the value as plain numbers, or raises `EnvFault` with what was given and what was
declared. `what` names the value, for example "red's observation".
"""

from collections.abc import Mapping

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple, flatten

from cleanmarl.errors import EnvFault

DICT = (dict, Mapping)  # in this order, `isinstance` is fast
MOST = 1e15  # the square of a larger reward is beyond single precision, or nearly
READABLE = (Box, Dict, Discrete, MultiBinary, MultiDiscrete, Tuple)


def shown(value) -> str:
    """A value in a message, in one line: its first characters, or a container's type and size."""
    if isinstance(value, np.ndarray) and value.size > 4:
        return f"an array of shape {value.shape}"
    text = " ".join(repr(value).split())
    if len(text) > 60 and isinstance(value, list | tuple | dict):
        return f"a {type(value).__name__} of {len(value)}"
    longest = 150 if isinstance(value, Space) else 60
    return text if len(text) <= longest else f"{text[:longest]}..."


def misfit(what: str, given: str, space: Space) -> EnvFault:
    """The error of a value that its space does not contain."""
    return EnvFault(f"{what} {given}, but its space is {shown(space)}: correct one of them")


def array_of(value, what: str, wanted: str = "numbers") -> np.ndarray:
    """A number, or numbers in equal rows."""
    try:
        array = np.asarray(value)
    except ValueError:
        raise EnvFault(f"{what} must be {wanted}, but has rows of different lengths") from None
    except (TypeError, RuntimeError) as error:  # for example, a tensor on a GPU
        raise EnvFault(f"{what} must be {wanted}: {error}") from None
    if array.dtype.kind not in "biuf":
        raise EnvFault(f"{what} must be {wanted}, got {shown(value)}")
    return array


def check_space(space, what: str) -> Space:
    """A space that observations can be read with."""
    if any(kind.__module__.partition(".")[0] == "gym" for kind in type(space).__mro__):
        raise EnvFault(f"{what} is of the old package gym: import the spaces from gymnasium")
    if not isinstance(space, Space):
        raise EnvFault(f"{what} must be a space of gymnasium, got {shown(space)}")
    if not isinstance(space, READABLE):
        raise EnvFault(f"{what} cannot be flattened to numbers: {shown(space)}")
    if isinstance(space, Dict | Tuple):
        parts = space.values() if isinstance(space, Dict) else space
        for part in parts:
            check_space(part, what)
    return space


def vector_of(space: Space, value, what: str) -> np.ndarray:
    """A value of a space, as Gymnasium's `flatten` orders it: [flatdim(space)]."""
    if isinstance(space, Box):
        return box_of(space, value, what).ravel()
    if isinstance(space, Discrete | MultiDiscrete | MultiBinary):
        return flatten(space, choice_of(space, value, what))
    if isinstance(space, Dict):
        if not isinstance(value, Mapping) or value.keys() != space.spaces.keys():
            given = list(value) if isinstance(value, Mapping) else shown(value)
            raise EnvFault(f"{what} must have the entries {list(space)}, got {given}")
        parts = [vector_of(of, value[name], f"{what}[{name!r}]") for name, of in space.items()]
    else:
        if not isinstance(value, list | tuple) or len(value) != len(space):
            raise EnvFault(f"{what} must be a tuple of {len(space)}, got {shown(value)}")
        numbered = enumerate(zip(space, value, strict=True))
        parts = [vector_of(of, part, f"{what}[{i}]") for i, (of, part) in numbered]
    return np.concatenate([*parts, np.zeros(0)])


def box_of(space: Box, value, what: str) -> np.ndarray:
    """An array of the declared shape, whose numbers fit the declared type."""
    array = value if type(value) is np.ndarray else array_of(value, what)
    if array.shape != space.shape and not array.size == np.prod(space.shape) == 1:
        raise misfit(what, f"has shape {array.shape}", space)
    if array.dtype == space.dtype:
        return array
    array = array_of(array, what)
    if space.dtype.kind == "f":
        return array
    with np.errstate(invalid="ignore"):  # NaN has no whole number
        converted = array.astype(space.dtype)
    if (wrong := array[converted != array]).size:
        raise misfit(what, f"contains {wrong[0]}", space)
    return converted


def choice_of(space: Discrete | MultiDiscrete | MultiBinary, value, what: str) -> np.ndarray:
    """A whole number, or an array of them, within the declared range."""
    array = array_of(value, what)
    if array.size == 1 == np.prod(space.shape):
        array = array.reshape(space.shape)
    if array.shape != space.shape:
        raise misfit(what, f"has shape {array.shape}", space)
    with np.errstate(invalid="ignore"):
        whole = array.astype(np.int64)
    start, count = 0, 2
    if not isinstance(space, MultiBinary):
        start = space.start
        count = space.n if isinstance(space, Discrete) else space.nvec
    place = whole - start
    if ((whole != array) | (place < 0) | (place >= count)).any():
        raise misfit(what, f"is {shown(value)}", space)
    return whole


def mask_of(mask, n_actions: int, what: str) -> np.ndarray:
    """Which actions are available, [n_actions] of 0 and 1."""
    wanted = f"a 0 or a 1 for each of {n_actions} actions"
    array = array_of(mask, what, wanted)
    if array.shape != (n_actions,):
        raise EnvFault(f"{what} must be {wanted}, got shape {array.shape}")
    numbers = set(array.tolist())
    if not numbers <= {0, 1}:
        raise EnvFault(f"{what} must be {wanted}, got {shown(mask)}")
    if 1 not in numbers:
        raise EnvFault(f"{what} allows no action: leave at least one, for example to do nothing")
    return array


def number_of(value, what: str) -> float:
    """A finite number; an array of one is a number, too."""
    if type(value) is not float:
        array = array_of(value, what, "a number")
        if array.size != 1:
            raise EnvFault(f"{what} must be a number, got {shown(value)}")
        value = array.item()
    if not abs(value) < MOST:
        raise EnvFault(f"{what} is {value}: it must be finite and below {MOST:.0e}")
    return float(value)


def flag_of(value, what: str) -> bool:
    """A bool; 0 and 1, and an array of one, are bools, too."""
    if isinstance(value, bool):
        return value
    try:
        number = np.asarray(value).item()
    except ValueError:  # not one entry
        number = None
    if not isinstance(number, bool | int | float) or number not in (0, 1):
        raise EnvFault(f"{what} must be True or False, got {shown(value)}")
    return bool(number)


def dict_of(value, what: str, remedy: str = "{} is enough") -> Mapping:
    if not isinstance(value, DICT):
        raise EnvFault(f"{what} must be a dict, got {shown(value)}; {remedy}")
    return value
