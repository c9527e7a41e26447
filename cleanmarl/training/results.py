"""Results of episodes: progress, means, confidence intervals, evaluation.json, GIFs."""

import io
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from cleanmarl.teams import folder_to_write, path_of
from cleanmarl.training.arguments import title_of
from cleanmarl.training.checkpoint import (
    are_metrics,
    file_of,
    is_number,
    read_json,
    write_atomically,
    write_json,
)
from cleanmarl.training.errors import Refused, say
from cleanmarl.training.run import random_stream

# 97.5% quantiles of Student's t-distribution, over 1 / degrees of freedom; linear in between
QUANTILES = (
    (0, 1 / 10, 1 / 5, 1 / 4, 1 / 3, 1 / 2, 1),
    (1.96, 2.228, 2.571, 2.776, 3.182, 4.303, 12.706),
)
ENVIRONMENT = ("env_type", "env_name", "env_family", "env_options")


def success_of(info: dict) -> dict[str, bool]:
    """Whether an episode was won or a success, if its last info says so."""
    names = {"battle_won": "battle_won", "is_success": "success"}
    return {names[key]: info[key] for key in names if key in info}


def by_name(results: list[dict[str, float]]) -> dict[str, np.ndarray]:
    """name -> the values of all episodes. A missing value, for example of success, counts as 0."""
    names = {name: None for one in results for name in one}
    return {name: np.array([one.get(name, 0) for one in results]) for name in names}


def metrics_of(prefix: str, results: list[dict[str, float]]) -> dict[str, float]:
    """Metrics of episodes: means of their results; for evaluations also the reward's spread."""
    metrics = {f"{prefix}/{name}": of.mean() for name, of in by_name(results).items()}
    if prefix == "eval":
        metrics["eval/std_ep_reward"] = np.std([one["ep_reward"] for one in results])
    return metrics


@dataclass
class Progress:
    """Progress of a training, and results that are not logged yet."""

    step: int = 0
    num_episodes: int = 0
    num_updates: int = 0
    num_evaluated: int = 0  # episodes before the last evaluation
    largest_reward: float = 0.0  # the largest absolute reward of an episode
    results: list = field(default_factory=list)  # of the latest episodes
    learning: dict = field(default_factory=dict)  # metrics of the last update

    def __post_init__(self):
        """Raise ValueError if a checkpoint holds what no training has counted."""
        for name in ("num_episodes", "num_updates", "num_evaluated"):
            count = getattr(self, name)
            if type(count) is not int or count < 0:
                raise ValueError(f"{name} is {repr(count)[:80]}")
        if not is_number(self.largest_reward) or not self.largest_reward >= 0:
            raise ValueError(f"largest_reward is {repr(self.largest_reward)[:80]}")
        if not isinstance(self.results, list) or not all(map(are_metrics, self.results)):
            raise ValueError("results are not those of episodes")
        if not are_metrics(self.learning):
            raise ValueError("learning holds no metrics")

    def state_dict(self) -> dict:
        """For checkpoints; a copy's `update` may return tensors."""
        self.learning = {name: float(value) for name, value in self.learning.items()}
        return asdict(self)

    def metrics(self, **others: float) -> dict[str, float]:
        """Metrics of the training since the last call, and other values for `rollout/`."""
        metrics = metrics_of("rollout", self.results) | self.learning
        others["num_episodes"] = self.num_episodes
        metrics |= {f"rollout/{name}": value for name, value in others.items()}
        metrics["train/num_updates"] = self.num_updates
        self.results.clear()
        return metrics

    def evaluation_is_due(self, every: int) -> bool:
        """Whether `every` episodes have ended, or more, since the last evaluation was due."""
        return self.num_episodes // every > self.num_evaluated // every

    def evaluated(self, results: list[dict[str, float]]) -> dict[str, float]:
        """Metrics of an evaluation, which is no longer due."""
        self.num_evaluated = self.num_episodes
        return metrics_of("eval", results)

    def add(self, results: dict[str, float]):
        """Count an episode, and keep its results for the next metrics."""
        self.num_episodes += 1
        self.largest_reward = max(self.largest_reward, abs(float(results["ep_reward"])))
        self.results.append(results)


def save_gif(path: Path, frames: list[np.ndarray], fps: int = 10):
    """Save pictures, uint8 [height, width, 3], as a GIF. Raises OSError, ValueError."""
    for frame in frames:
        if not isinstance(frame, np.ndarray):
            wanted = "an array [height, width, 3] if render_mode is 'rgb_array'"
            raise ValueError(f"render() must return {wanted}, got {type(frame).__name__}")
    first, *others = [Image.fromarray(frame) for frame in frames]
    content = io.BytesIO()
    options = {"save_all": True, "append_images": others, "duration": 1000 // fps, "loop": 0}
    first.save(content, "GIF", **options)
    write_atomically(path, content.getvalue())


def confidence(values: np.ndarray) -> dict[str, float]:
    """Mean and 95% interval: Student's (1908), or Wilson's (1927) if all values are 0 or 1.

    A single value is its own interval, unless it is 0 or 1.
    """
    n, z, mean = len(values), 1.96, values.mean()
    middle, half, bounds = mean, 0.0, (-np.inf, np.inf)
    if n > 1:
        half = np.interp(1 / (n - 1), *QUANTILES) * values.std(ddof=1) / n**0.5
    if np.isin(values, (0, 1)).all():
        middle = (mean + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * (mean * (1 - mean) / n + z**2 / (4 * n**2)) ** 0.5
        bounds = (0, 1)
    low, high = np.clip((middle - half, middle + half), *bounds)
    return {"mean": float(mean), "low": float(low), "high": float(high)}


def all_alike(results: list[dict[str, float]]) -> bool:
    """Whether several episodes have the same reward, length and success."""
    return len(results) > 1 and all(one == results[0] for one in results)


def means(results: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """name -> mean and 95% interval of all episodes.

    There are no intervals for one episode, nor if all are alike: then they count as one.
    """
    found = {name: confidence(values) for name, values in by_name(results).items()}
    if len(results) == 1 or all_alike(results):
        found = {name: {"mean": of["mean"]} for name, of in found.items()}
    return found


def folder_of_results(args, run: Path) -> Path:
    """The run's folder or, for another environment than the run's, a subfolder with its name.

    Networks that were kept at a step have a subfolder, too, for example at_20000. A team of the
    project's results stays as it is: its folder is in the current one. Raises Refused if the run's
    environment is unknown.
    """
    own = read_json(run / "args.json")
    folder = folder_to_write(run)
    if any(own.get(name) != getattr(args, name) for name in ENVIRONMENT):
        folder = folder / f"in_{title_of(args.env_name, args.env_options)}"
    return folder if args.which in ("best", "last") else folder / f"at_{args.which}"


def worst_median_best(results: list[dict[str, float]]) -> dict[str, int]:
    """Numbers of the episodes with the lowest, the median and the highest reward."""
    order = np.argsort([one["ep_reward"] for one in results], kind="stable")
    places = {"worst": 0, "median": len(order) // 2, "best": -1}
    return {name: int(order[place]) for name, place in places.items()}


def seed_of(args, number: int) -> int:
    """The seed of test episode `number`; `play_greedily` of the scripts draws the same."""
    return int(random_stream(args, "test", number).integers(2**31))


def evaluation_of(args, step: int, results: list[dict[str, float]]) -> dict:
    """The content of evaluation.json: means, their intervals, and the results of each episode."""
    evaluation = means(results) | {"episodes": len(results), "alike": all_alike(results)}
    names = {"best.pt": "best", "model.pt": "last"}
    which = names.get(file_of(args.evaluate, args.which), args.which)
    evaluation |= {"seed": args.seed, "which": which, "step": step}
    evaluation |= {name: getattr(args, name) for name in ENVIRONMENT}
    evaluation["per_episode"] = []
    for number, one in enumerate(results):
        # NumPy's and PyTorch's numbers become Python's, which JSON knows
        plain = {name: np.asarray(value).item() for name, value in one.items()}
        evaluation["per_episode"].append({"seed": seed_of(args, number)} | plain)
    return evaluation


def in_words(evaluation: dict) -> list[str]:
    """A line for each mean of an evaluation."""
    number, lines = evaluation["episodes"], []
    for name in list(evaluation)[: list(evaluation).index("episodes")]:
        of = evaluation[name]
        if evaluation["alike"]:
            alike = f"{number} episodes, which are alike: they count as one"
            lines.append(f"{name}: {of['mean']:.3f} in all {alike}")
        elif number == 1:
            lines.append(f"{name}: {of['mean']:.3f} in one episode")
        else:
            interval = f"95% confidence {of['low']:.3f} to {of['high']:.3f}"
            lines.append(f"{name}: mean {of['mean']:.3f}, {interval}")
    return lines


def write_evaluation(args, step: int, results: list[dict[str, float]]) -> Path:
    """Write means over episodes with their intervals to evaluation.json, and print them.

    The file is in the folder of the run, or in a folder there, see `folder_of_results`. Returns
    that folder. Raises Refused if the file cannot be written.
    """
    folder = folder_of_results(args, path_of(args.evaluate))
    evaluation = evaluation_of(args, step, results)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "evaluation.json", evaluation)
    except OSError as error:
        raise Refused(f"cannot write {folder / 'evaluation.json'}: {error}") from error
    lines = in_words(evaluation)
    where = folder / "evaluation.json"
    which = evaluation["which"] if args.which in ("best", "last") else "kept"
    lines.append(f"{which} networks, saved at step {step}: {where}")
    say("\n".join(lines))
    return folder
