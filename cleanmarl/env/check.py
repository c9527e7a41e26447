"""Check an environment before training in it: play random legal episodes, and report.

Problems are what training would trip over; each comes with its remedy.
"""

import time
import warnings
from collections.abc import Callable
from contextlib import closing

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from cleanmarl.entries import TINY, hard_to_learn
from cleanmarl.errors import EnvFault

MOST_STEPS = 10_000  # of an episode without a known time limit
SECONDS = 10.0  # for the episodes after the first ones
PATIENCE = 30.0  # seconds for an episode without a known time limit


class Report:
    """Lines about an environment, and its problems."""

    def __init__(self):
        self.lines: list[tuple[str, str]] = []
        self.problems: list[str] = []

    def say(self, what: str, text: str):
        self.lines.append((what, text))

    def __str__(self) -> str:
        told = [f"{what:<13} {text}" for what, text in self.lines]
        return "\n".join([*told, *(f"problem: {problem}" for problem in self.problems)])


class Episode:
    """An episode with random legal actions; the seed determines it. Too long a one is cut off."""

    def __init__(self, env: gymnasium.Env, seed: int, most_steps: int, seconds: float = np.inf):
        deadline = time.perf_counter() + seconds
        rng = np.random.default_rng((seed, 1))  # the environment may use default_rng(seed)
        observation, _ = env.reset(seed=seed)
        self.observations = [observation]
        self.rewards: list[float] = []
        self.agent_rewards: list[list[float]] = []
        self.info: dict = {}
        self.terminated = self.truncated = False
        while not (self.terminated or self.truncated or len(self.rewards) == most_steps):
            if time.perf_counter() > deadline:
                return
            legal = [np.flatnonzero(row) for row in observation["avail_actions"]]
            # Where no action is available, `step` says so
            actions = np.array([rng.choice(some) if len(some) else 0 for some in legal])
            observation, reward, self.terminated, self.truncated, self.info = env.step(actions)
            self.observations.append(observation)
            self.rewards.append(reward)
            self.agent_rewards.append(list(getattr(env.unwrapped, "agent_rewards", [])))

    @property
    def is_over(self) -> bool:
        return self.terminated or self.truncated

    def difference(self, other: "Episode") -> str:
        """Where two episodes differ first; "" if they are equal."""
        pairs = zip(self.observations, other.observations, strict=False)
        for step, (one, another) in enumerate(pairs):
            for name in one:
                if not np.array_equal(one[name], another[name]):
                    return f"{name} after step {step}"
        if self.rewards != other.rewards:
            return "rewards"
        ends = (self.terminated, self.truncated) == (other.terminated, other.truncated)
        return "" if ends else "the end"


class Legal(gymnasium.Wrapper):
    """An environment in which an unavailable action becomes an available one.

    Gymnasium's checker draws actions before it resets.
    """

    def reset(self, *, seed=None, options=None):
        observation, info = self.env.reset(seed=seed, options=options)
        self.available = observation["avail_actions"]
        return observation, info

    def step(self, actions):
        lawful = np.take_along_axis(self.available, np.asarray(actions)[:, None], axis=1)[:, 0]
        answer = self.env.step(np.where(lawful, actions, self.available.argmax(axis=1)))
        self.available = answer[0]["avail_actions"]
        return answer


def check(make: Callable[[], gymnasium.Env], num_episodes: int = 5) -> tuple[Report, gymnasium.Env]:
    """Play in an environment that `make` opens.

    Wrong answers of the environment are problems; errors of its own code are raised.
    """
    report = Report()
    env = make()
    describe(env.unwrapped, report)
    try:
        play(make, env, num_episodes, report)
    except EnvFault as error:
        report.problems.append(str(error))
    return report, env


def describe(env, report: Report):
    """Sizes and names."""
    report.say("agents", f"{env.n_agents}: {', '.join(agent_names(env))}")
    report.say("actions", f"{env.n_actions}{named_actions(env)}")
    space = env.observation_space
    names = getattr(env, "observation_names", None)
    some = f", the first are {', '.join(names[0][:4])}" if names else ""
    report.say("observation", f"{env.obs_size} numbers, {space['obs'].dtype}{some}")
    own = getattr(env, "_has_state", True)
    source = "the task's own" if own else "the observations of all agents"
    report.say("state", f"{env.state_size} numbers, {space['state'].dtype}: {source}")
    limit = "unknown" if env.time_limit is None else f"{env.time_limit} steps"
    clock = "; observations and state end with the share of time left" if env.clock else ""
    report.say("time limit", limit + clock)


def agent_names(env) -> list[str]:
    return getattr(env, "agent_names", [f"agent {i}" for i in range(env.n_agents)])


def named_actions(env) -> str:
    """The actions' names: once if all agents share them."""
    names = getattr(env, "action_names", None)
    if names is None:
        return ""
    if all(of == names[0] for of in names):
        return f": {', '.join(names[0])}"
    each = zip(agent_names(env), names, strict=True)
    return "; ".join(["", *(f"{agent}: {', '.join(of)}" for agent, of in each)])


def play(make: Callable, env: gymnasium.Env, num_episodes: int, report: Report):
    """Random episodes, the same seed again, the speed, and Gymnasium's checker."""
    most, patience = MOST_STEPS, PATIENCE
    if env.unwrapped.time_limit is not None:
        most, patience = env.unwrapped.time_limit + 1, np.inf
    began = time.perf_counter()
    episodes = []
    for seed in range(1, max(2, num_episodes) + 1):
        episodes.append(Episode(env, seed, most, patience))
        took_long = time.perf_counter() - began > SECONDS
        if not episodes[-1].is_over or (took_long and len(episodes) >= 2):
            break
    seconds = time.perf_counter() - began
    tell_entries(episodes, env.unwrapped.clock, report)
    tell_masks(episodes, report)
    tell_episodes(episodes, env.unwrapped.time_limit, report)
    tell_opponents(episodes, agent_names(env.unwrapped), report)
    if not episodes[-1].is_over:
        length = len(episodes[-1].rewards)
        found = f"{length} steps" if length == most else f"{length} steps, in {PATIENCE:.0f} s"
        report.problems.append(f"an episode has not ended after {found}: add --time-limit")
        return
    with closing(make()) as anew:
        for other in (env, anew):  # after other episodes, and in a new environment
            different = episodes[0].difference(Episode(other, 1, most))
            if different:
                break
    report.say("same seed", f"differs: {different}" if different else "gives the same episode")
    if different:
        remedy = "draw all random numbers from a generator that reset(seed=...) makes"
        report.problems.append(f"the same seed gives another episode ({different}): {remedy}")
    num_steps = sum(len(episode.rewards) for episode in episodes)
    report.say("speed", f"{num_steps / seconds:,.0f} steps a second on one core")
    if not different:
        report.say("check_env", gymnasium_says(make(), report))


def tell_entries(episodes: list[Episode], clock: bool, report: Report):
    """The range of what agents observe, and how many entries are always the same."""
    seen = np.concatenate([[step["obs"] for step in one.observations] for one in episodes])
    seen = seen.reshape(-1, seen.shape[-1])
    lowest, highest = seen.min(axis=0), seen.max(axis=0)
    words = [f"{lowest.min():.4g} to {highest.max():.4g}"]
    if same := int((lowest == highest).sum()):
        words.append(f"{same} of {len(lowest)} never change")
    size = np.maximum(-lowest, highest)
    if ((size > 1) | ((size > 0) & (size < TINY))).any():
        words.append(f"networks divide those above 1 or below {TINY} by their largest size")
    report.say("entries", "; ".join(words))
    if reason := hard_to_learn(seen):
        report.say("note", reason)
    if all(is_blind(one, clock) for one in episodes):
        report.say("note", "the task's observations never change during an episode")


def is_blind(episode: Episode, clock: bool) -> bool:
    """Whether all observations of several steps are the same, except for the clock at their end."""
    obs = np.array([step["obs"] for step in episode.observations[:-1]])  # the last may be zeros
    obs = obs[..., :-1] if clock else obs
    return len(obs) > 1 and bool((obs == obs[0]).all())


def tell_masks(episodes: list[Episode], report: Report):
    counts = np.concatenate(
        [[seen["avail_actions"].sum(axis=1) for seen in one.observations] for one in episodes]
    )
    n_actions = episodes[0].observations[0]["avail_actions"].shape[1]
    fewest, most = int(counts.min()), int(counts.max())
    if fewest == n_actions:
        report.say("masks", "none: all actions are always available")
    else:
        report.say("masks", f"{fewest} to {most} of {n_actions} actions are available")


def tell_opponents(episodes: list[Episode], names: list[str], report: Report):
    """The two agents whose rewards oppose each other most, if they do."""
    rewards = [earned for one in episodes for earned in one.agent_rewards]
    if len(names) < 2 or not all(len(earned) == len(names) for earned in rewards):
        return
    with np.errstate(all="ignore"):  # rewards may be constant
        correlation = np.nan_to_num(np.corrcoef(np.array(rewards, float).T))
    one, other = np.unravel_index(correlation.argmin(), correlation.shape)
    if correlation[one, other] < -0.5:
        opposed = f"{names[one]} and {names[other]} earn at each other's expense"
        remedy = "QMIX trains one team, so let a fixed rule play the other side"
        report.say("note", f"{opposed}: {remedy}")


def tell_episodes(episodes: list[Episode], limit: int | None, report: Report):
    lengths = [len(one.rewards) for one in episodes]
    returns = [sum(one.rewards) for one in episodes]
    steps = f"{min(lengths)} to {max(lengths)} steps"
    reward = f"reward {min(returns):.4g} to {max(returns):.4g}"
    report.say("episodes", f"{len(episodes)} random ones: {steps}, {reward}")
    terminated = sum(one.terminated for one in episodes)
    truncated = sum(one.truncated for one in episodes)
    report.say("ends", f"{terminated} by the task, {truncated} by the time limit")
    cut_off = {len(one.rewards) for one in episodes if one.truncated}
    length = min(cut_off, default=0)
    if len(cut_off) == 1 and length != limit and truncated > 1:
        before = f", before the time limit of {limit}" if limit else ""
        early = f"episodes are cut off after {length} steps{before}"
        report.say("note", f"{early}: add --time-limit {length}, so that the clock is right")
    told = [name for name in ("is_success", "battle_won") if name in episodes[-1].info]
    report.say("success", " ".join(told) or "not reported: evaluations show rewards only")
    largest = max(abs(reward) for one in episodes for reward in one.rewards)
    if largest == 0:
        report.say("note", "no random episode earned anything: exploration must find the rewards")
    elif largest < 0.02:
        report.say("note", f"no reward above {largest:.2g}: multiply them, they are learned slowly")


def gymnasium_says(env: gymnasium.Env, report: Report) -> str:
    """The verdict of Gymnasium's own checker."""
    try:
        with closing(env), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about infinite bounds and the wrapper
            check_env(Legal(env), skip_render_check=True)
        return "passed"
    except (AssertionError, gymnasium.error.Error) as error:
        report.problems.append(f"Gymnasium's check_env: {' '.join(str(error).split())[:300]}")
        return "failed"
