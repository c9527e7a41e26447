"""Whether the learned values are possible."""

from collections import deque

import numpy as np

from cleanmarl.training.errors import warn

TIMES = 10  # Q_tot may be so many times as large as what an episode earned
SMALL = 0.1  # what an episode earns, beside which the networks' first values are large


class ValueCheck:
    """Warns once if Q_tot is far beyond anything that the stored episodes earned.

    Values that the rewards do not explain have been learned from other values.
    """

    def __init__(self, args, episodes: deque):
        self.episodes = episodes
        self.most = 0.0  # the largest sum of an episode's absolute rewards, when last computed
        # Standardised rewards have another scale
        self.active = not args.normalize_reward

    def look(self, q_tot: float):
        """`q_tot` is the mean of a batch."""
        if not self.active or abs(q_tot) <= TIMES * self.most:
            return
        try:
            earned = [np.abs(one["reward"], dtype=float).sum() for one in self.episodes]
        except (KeyError, TypeError):  # a copy stores its episodes in another way
            self.active = False
            return
        self.most = max(earned, default=0.0)
        if abs(q_tot) > TIMES * self.most > 0:
            self.active = False
            most = f"the rewards of an episode add up to {self.most:.3g} at most"
            advice = "the values may diverge, see train/q_tot and the page on pitfalls"
            if self.most < SMALL:
                advice = "so small rewards are learned slowly, multiply them in the environment"
            warn(f"Q_tot is {q_tot:.3g}, but {most}: {advice}")
