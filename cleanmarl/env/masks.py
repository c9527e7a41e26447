"""Where an agent's mask of actions stands, and what looks like a mask but would not be read."""

import re
from collections.abc import Mapping
from functools import cache

import numpy as np
from gymnasium.spaces import Dict, Space, Tuple

from cleanmarl.errors import EnvFault

MASK = "action_mask"
CONTAINERS = (dict, list, tuple, set, Mapping)
KIND = "avail|legal|valid|allow|feasible|possible|permitted|admissible|enabled|disabled|forbidden"
THING = r"action|move|(?<![a-z])acts?(?![a-z])"
ALONE = "masks?|masking|avail|available|legal|valid"
LIKE_MASK = re.compile(
    f"({KIND}).*({THING}|mask)|({THING}).*({KIND}|mask)|mask.*({THING})|^({ALONE})$", re.IGNORECASE
)
# Methods with which other libraries ask for masks, such as get_avail_actions and action_masks
METHOD = re.compile(
    "((get|compute)_)?(masks?|((agent|valid)_)?action_masks?"
    "|(agent_)?(avail|available|unavailable|legal|valid|feasible|possible|allowed|admissible)"
    "_(agent_)?(actions?|moves)(_masks?)?)"
)


@cache
def like_mask(name) -> bool:
    """Whether a name is one that people give to masks."""
    return bool(LIKE_MASK.search(str(name)))


def refuse_elsewhere(entries: Mapping, where: str):
    """Refuse entries that may be masks, but not the `action_mask` that is read."""
    if found := elsewhere(entries):
        remedy = f"give a mask as {MASK!r}, with a 0 or a 1 for each action"
        raise EnvFault(f"{where} has {found}, which is not read: {remedy}; rename what is no mask")


def elsewhere(entries: Mapping, depth: int = 3) -> str | None:
    """Where a mask may stand under another name, or inside another entry."""
    for name, value in entries.items():
        if name == MASK or not (isinstance(value, CONTAINERS) or getattr(value, "ndim", 0)):
            continue
        if like_mask(name):
            return repr(name)
        first = value[0] if isinstance(value, list | tuple) and value else value
        if depth and isinstance(first, Mapping):
            found = repr(MASK) if MASK in first else elsewhere(first, depth - 1)
            if found:
                return f"{found} inside {name!r}"
    return None


def without_mask(space: Space, counts: set[int], agent: str) -> Space:
    """The space of what an agent sees, from a space that may also have its mask.

    EnvFault: an entry may be a mask, but is not read as one. `counts` are the agents' numbers of
    actions.
    """
    if not isinstance(space, Dict) or MASK not in space.spaces:
        refuse_hidden(space, counts, agent)
        return space
    seen = Dict([(name, part) for name, part in space.items() if name != MASK])
    refuse_hidden(seen, counts, agent)
    return next(iter(seen.values())) if len(seen) == 1 else seen


def refuse_hidden(space: Space, counts: set[int], agent: str):
    """Refuse a space with a part that may be a mask."""
    parts = ()
    if isinstance(space, Dict):
        parts = space.items()
    elif isinstance(space, Tuple):
        parts = enumerate(space)
    for name, part in parts:
        a_number_each = bool(part.shape) and part.shape[-1] in counts
        if name == MASK or (like_mask(name) and a_number_each):
            remedy = f"put a mask beside the observation as {MASK!r}"
            where = f"the observation space of {agent} has {name!r}"
            raise EnvFault(f"{where}, which would be observed: {remedy}; rename what is no mask")
        refuse_hidden(part, counts, agent)


def split(value, space: Space, agent: str) -> tuple:
    """An agent's observation without the mask, and the mask or None."""
    if isinstance(value, np.ndarray) or not isinstance(value, Mapping):
        return value, None
    seen = {name: part for name, part in value.items() if name != MASK}
    mask = value.get(MASK)
    only = next(iter(seen.values())) if len(seen) == 1 else None
    if isinstance(space, Dict):
        inside = isinstance(only, Mapping) and seen.keys() != space.spaces.keys()
        return (only if inside else seen), mask
    # The space describes the observation only
    refuse_elsewhere(seen, f"the observation of {agent}")
    if len(seen) != 1:
        wanted = f"one entry besides {MASK!r}, since its space is {space}"
        raise EnvFault(f"the observation of {agent} must have {wanted}; it has {list(seen)}")
    return only, mask
