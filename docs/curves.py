"""Learning curves of the four scripts, from the run folders of their trainings.

    python docs/curves.py runs docs/images/curves.svg

draws a panel for each environment: the evaluations of each script, as a mean over the seeds and the range from the
lowest to the highest; for battles the part that was won, else the reward. It prints the means as tables.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import tyro
from matplotlib.ticker import EngFormatter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

LOOK = {  # colour, and dashes for those who cannot tell it
    "qmix": ("#0072b2", "-"),
    "qmix_memefficient": ("#e69f00", (0, (1, 1.5))),
    "qmix_multienvs": ("#009e73", (0, (5, 2))),
    "qmix_lstm": ("#cc79a7", (0, (6, 2, 1, 2))),
}
GREY = "#808080"  # legible on white and on black


@dataclass
class Args:
    runs: tyro.conf.Positional[Path]
    """folder in which, at any depth, the run folders are"""
    picture: tyro.conf.Positional[Path]
    """file to draw to, as curves.svg or curves.png"""
    points: int = 10
    """parts of a training, over each of which the evaluations are averaged"""


def read(folder: Path, points: int) -> tuple[tuple[str, str], str, np.ndarray, np.ndarray]:
    """Environment and metric, script, steps [points] and mean evaluation up to each of them [points] of a run."""
    args = json.loads((folder / "args.json").read_text())
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    tag = "eval/battle_won" if "eval/battle_won" in events.Tags()["scalars"] else "eval/ep_reward"
    steps, values = np.array([(scalar.step, scalar.value) for scalar in events.Scalars(tag)]).T
    ends = np.linspace(0, args["total_timesteps"], points + 1)[1:]
    part = np.minimum(np.searchsorted(ends, steps), points - 1)
    means = [values[part == i].mean() if (part == i).any() else np.nan for i in range(points)]
    metric = {"eval/battle_won": "battles won", "eval/ep_reward": "reward"}[tag]
    return (args["env_name"], metric), folder.name.split("__")[2], ends, np.array(means)


def main(args: Args):
    curves = defaultdict(lambda: defaultdict(list))
    for path in sorted(args.runs.rglob("args.json")):
        task, script, steps, values = read(path.parent, args.points)
        curves[task][script].append((steps, values))
    plt.rcParams |= {"text.color": GREY, "axes.labelcolor": GREY, "axes.edgecolor": GREY, "font.size": 9}
    plt.rcParams |= {"xtick.color": GREY, "ytick.color": GREY, "svg.fonttype": "none", "legend.labelcolor": GREY}
    figure, axes = plt.subplots(1, len(curves), figsize=(3.4 * len(curves), 3), layout="constrained", squeeze=False)
    for axis, ((name, metric), scripts) in zip(axes[0], curves.items(), strict=True):
        (steps, _), *_ = next(iter(scripts.values()))
        print(f"\n| {name}, {metric} | seeds |", " | ".join(f"{step / 1000:.0f}k" for step in steps), "|")
        print("| --- | --- |", " | ".join("---:" for _ in range(args.points)), "|")
        for script in (script for script in LOOK if script in scripts):
            values = np.array([values for _, values in scripts[script]])  # [seeds, points]
            colour, dashes = LOOK[script]
            axis.plot(steps, values.mean(0), color=colour, linestyle=dashes, linewidth=1.8, label=f"{script}.py")
            axis.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
            print(f"| `{script}.py` | {len(values)} |", " | ".join(f"{value:.2f}" for value in values.mean(0)), "|")
        axis.set(title=name, xlabel="environment steps", ylabel=metric)
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].legend(frameon=False)
    figure.savefig(args.picture, transparent=True)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
