"""Is a script better than another one? Definitions of Agarwal et al. (2021), as in `plot.py`.

Scores are [tasks][..., seeds]: for each task, an array whose last axis has the seeds. Tasks may
have different numbers of seeds.
"""

from collections.abc import Callable, Sequence

import numpy as np


def improvement(better: Sequence[np.ndarray], baseline: Sequence[np.ndarray]) -> np.ndarray:
    """Probability of improvement: [...], mean over the tasks of P(X > Y).

    P(X > Y) is the part of all pairs of a run X and a run Y of the baseline in which X has the
    higher score. Equal scores count as half.
    """
    found = []
    for x, y in zip(better, baseline, strict=True):
        x, y = x[..., :, None], y[..., None, :]
        found.append(((x > y) + 0.5 * (x == y)).mean((-2, -1)))
    return np.mean(found, 0)


def profile(tasks: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Performance profile [..., thresholds]: share of runs above each, a mean over the tasks."""
    above = [(task[..., None, :] > thresholds[:, None]).mean(-1) for task in tasks]
    return np.mean(above, 0)


def interval(statistic: Callable, groups: Sequence[Sequence[np.ndarray]], reps: int) -> tuple:
    """A statistic of groups of scores [tasks][seeds], and its 95% interval: value, low, high.

    Stratified bootstrap: the seeds of each task of each group are resampled separately.
    """
    rng = np.random.default_rng(0)
    resampled = []
    for tasks in groups:
        drawn = [rng.integers(len(task), size=(reps, len(task))) for task in tasks]
        resampled.append([task[of] for task, of in zip(tasks, drawn, strict=True)])
    low, high = np.percentile(statistic(*resampled), [2.5, 97.5], axis=0)
    return statistic(*groups), low, high
