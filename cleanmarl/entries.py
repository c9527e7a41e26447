"""Entries of observations and states from which networks can hardly learn."""

import numpy as np

TINY = 0.01  # entries that stay below it would hardly be learned
NARROW = 0.1  # of an entry's size; smaller differences are hardly learned
RARE = 0.01  # of an entry's size; if other values are below it, they are hardly learned
ENOUGH = 10_000  # rows to look at, drawn at random: a batch of pictures is large


def hard_to_learn(seen: np.ndarray) -> str:
    """The first entry of [N, entries] that differs by little beside its size, and the remedy.

    Networks divide entries by their largest size. Empty if they then see all differences.
    """
    if len(seen) > ENOUGH:
        seen = np.random.default_rng(0).choice(seen, ENOUGH)
    size = np.abs(seen).max(axis=0)
    # Agents that have ended see zeros, beside their id and the clock
    seen = seen[seen[:, size > 1].any(axis=1)]
    if len(seen) == 0:
        return ""
    lowest, highest = seen.min(axis=0), seen.max(axis=0)
    sizes, spread = np.abs(seen), highest - lowest
    for i in np.flatnonzero((size > 1) & (spread > 0) & (spread < NARROW * size)):
        lies = f"entry {i} lies between {lowest[i]:.6g} and {highest[i]:.6g}"
        middle = (lowest[i] + highest[i]) / 2
        return f"{lies}: subtract {middle:.6g}, or the difference is hardly learned"
    small = (sizes > 0) & (sizes < RARE * size)
    between = (sizes >= RARE * size) & (sizes < 0.9 * size)
    for i in np.flatnonzero((size > 1) & small.any(axis=0) & ~between.any(axis=0)):
        largest = seen[sizes[:, i].argmax(), i]
        others = f"its other values are within {RARE * size[i]:.3g} of 0"
        remedy = "replace the large value, or the others are hardly learned"
        return f"entry {i} reaches {largest:.6g}, and {others}: {remedy}"
    return ""
