"""Two teams in the same episodes: whether they can be compared, and which episodes tell most."""

from dataclasses import replace

import numpy as np

from cleanmarl.teams import task_of
from cleanmarl.training.errors import Refused
from cleanmarl.training.results import ENVIRONMENT
from cleanmarl.watch.episodes import Episode, alike
from cleanmarl.watch.trained import Trained

Played = tuple[list[Episode], list[dict[str, float]]]  # what `play` returns


def comparable(one: Trained, other: Trained) -> tuple[Trained, Trained]:
    """Both teams, in the episodes of the first. Raises Refused if their environments differ."""
    tasks = [{name: getattr(run.args, name) for name in ENVIRONMENT} for run in (one, other)]
    if tasks[0] != tasks[1]:
        first, second = map(task_of, tasks)
        raise Refused(f"two teams are compared in one environment, got {first} and {second}")
    return one, other._replace(args=replace(other.args, seed=one.args.seed))


def telling(one: Played, other: Played) -> dict[str, int]:
    """The numbers of up to three episodes: where the second team lags most, median, leads most.

    An episode in which both teams do the same as in one before is left out.
    """
    pairs = zip(one[1], other[1], strict=True)
    order = np.argsort([yours["ep_reward"] - mine["ep_reward"] for mine, yours in pairs])
    found = []
    for number in (int(order[place]) for place in (0, (len(order) - 1) // 2, -1)):
        if not any(both_alike(one[0], other[0], number, known) for known in found):
            found.append(number)
    return {str(number): number for number in found}


def both_alike(one: list[Episode], other: list[Episode], number: int, known: int) -> bool:
    """Whether two episodes are alike for the first team, and for the second."""
    return all(alike(episodes[number], episodes[known]) for episodes in (one, other))


def check_starts(runs: tuple[Trained, Trained], one: Episode, other: Episode):
    """Raise Refused if the teams differ in size, or if an episode does not begin alike for both."""
    starts = [episode.observations[0] for episode in (one, other)]
    sizes = [start["avail_actions"].shape for start in starts]
    if sizes[0] != sizes[1]:
        first, second = (f"{agents} agents with {actions} actions" for agents, actions in sizes)
        raise Refused(f"only teams of the same size can be compared, got {first} and {second}")
    own = min(map(size_without_extras, runs, starts))  # entries of the environment itself
    same = np.array_equal(*(start["obs"][:, :own] for start in starts))
    if one.seed != other.seed or not same:
        raise Refused("the teams cannot be compared: their episodes do not begin alike")


def size_without_extras(run: Trained, start: dict) -> int:
    """The size of an observation, without the agent's id and the clock."""
    n_agents, obs_size = start["obs"].shape
    return obs_size - n_agents * getattr(run.args, "agent_ids", True) - 1
