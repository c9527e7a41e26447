"""Statistics of scores, and their 95% bootstrap intervals.

The statistics are those of Agarwal et al. (2021), "Deep RL at the edge of the statistical
precipice". Scores are [tasks][seeds, points]: a number for each task, seed and part of a training.
"""

from collections.abc import Callable, Sequence

import numpy as np

from cleanmarl.benchmark.extras import need
from cleanmarl.benchmark.records import Record


def scores(runs: list[Record], x: str, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide a training into parts: their ends [points], and mean evaluations [seeds, points].

    `x` is "steps" or "seconds"; seconds end with the fastest run. A part without evaluations is
    interpolated.
    """
    last = {"steps": max, "seconds": min}[x](getattr(run, x)[-1] for run in runs)
    ends = np.linspace(0, last, points + 1)[1:]
    rows = []
    for run in runs:
        part = np.searchsorted(ends, getattr(run, x))
        part[0] = min(part[0], points - 1)  # at least one counts
        there = np.intersect1d(part, range(points))
        means = [run.values[part == i].mean() for i in there]
        rows.append(np.interp(range(points), there, means))
    return ends, np.array(rows)


def final_scores(runs: list[Record]) -> np.ndarray:
    """The mean of each run's last tenth: [seeds]."""
    return scores(runs, "steps", 10)[1][:, -1]


def iqm(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Interquartile mean of the scores of all tasks and seeds; `axis` is that of the seeds."""
    return need("scipy.stats").trim_mean(np.concatenate(tasks, axis), 0.25, axis=axis)


def mean(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean over the tasks of their means over the seeds."""
    return np.mean([task.mean(axis) for task in tasks], 0)


def median(*tasks: np.ndarray, axis: int = 0) -> np.ndarray:
    """Median over the tasks of their means over the seeds."""
    return np.median([task.mean(axis) for task in tasks], 0)


def estimate(tasks: list[np.ndarray], statistic, reps: int) -> tuple[np.ndarray, ...]:
    """A statistic of scores [tasks][seeds, points], and the bounds of its 95% interval: [points].

    The interval comes from a stratified bootstrap: the seeds of each task are resampled separately.
    With one seed, the interval is the value itself.
    """
    middle = statistic(*tasks)
    if len(tasks[0]) == 1:
        return middle, middle, middle
    found = need("scipy.stats").bootstrap(
        tasks,
        statistic,
        n_resamples=reps,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return middle, found.confidence_interval.low, found.confidence_interval.high


# Is a script better than another one? Here, scores are [tasks][..., seeds]: for each task, an array
# whose last axis has the seeds. Tasks may have different numbers of seeds.


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
