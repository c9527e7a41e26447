"""Whether the learned values are possible."""

from collections import deque
from itertools import islice

import numpy as np

from cleanmarl.training.errors import warn

TIMES = 10  # Q_tot may be so many times as large as what an episode earned
SMALL = 0.1  # if no episode earns as much, first values are large
SLOW = "so small rewards are learned slowly, multiply them in the environment"
NEWEST = 200  # episodes in which a team must earn a third of what it expects


class ValueCheck:
    """Warns once if Q_tot is far beyond what the stored episodes earned, or if that is little.

    Values that the rewards do not explain have been learned from other values.
    """

    def __init__(self, args, episodes: deque):
        self.episodes = episodes
        self.most = 0.0  # the largest sum of an episode's absolute rewards that was seen
        # Standardised rewards have another scale
        self.active = not getattr(args, "normalize_reward", False)

    def look(self, q_tot: float):
        """`q_tot` is the mean of a batch."""
        if not self.active:
            return
        try:
            reason = self.diverges(q_tot) or self.waits(q_tot)
            said = f"Q_tot is {q_tot:.3g}, but {reason}" if reason else self.is_slow()
        except (KeyError, TypeError):  # a copy stores its episodes in another way
            self.active = False
            return
        if said:
            self.active = False
            warn(said)

    def earned(self, number: int) -> float:
        """The largest sum of absolute rewards in the newest episodes."""
        newest = islice(reversed(self.episodes), number)
        return max((np.abs(one["reward"], dtype=float).sum() for one in newest), default=0.0)

    def diverges(self, q_tot: float) -> str:
        """Why no episode can earn as much as `q_tot`, or ""."""
        if abs(q_tot) <= TIMES * self.most:
            return ""
        self.most = self.earned(len(self.episodes))
        if not abs(q_tot) > TIMES * self.most > 0:
            return ""
        advice = "the values may diverge, see train/q_tot and the page on pitfalls"
        if self.most < SMALL:
            advice = SLOW
        return f"the rewards of an episode add up to {self.most:.3g} at most: {advice}"

    def waits(self, q_tot: float) -> str:
        """Why the team may wait for rewards that it could earn, but no longer does, or ""."""
        newest = self.earned(NEWEST)
        self.most = max(self.most, newest)
        if len(self.episodes) < NEWEST or self.most == 0:  # nobody knows what can be earned
            return ""
        if q_tot <= max(3 * newest, self.most / 4):
            return ""
        found = f"the newest {NEWEST} episodes earned {newest:.3g} at most"
        return f"{found}: agents may wait instead of acting, see the page on pitfalls"

    def is_slow(self) -> str:
        """Why the rewards are learned slowly, or ""."""
        if len(self.episodes) < NEWEST or not 0 < self.most < SMALL:
            return ""
        return f"the rewards of an episode add up to {self.most:.3g} at most: {SLOW}"
