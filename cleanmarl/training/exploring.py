"""Whether exploration has found anything to learn."""

from cleanmarl.training.errors import warn

EARLY = 0.2  # in this share of exploration, agents are nearly random
ENOUGH = 3  # evaluations to judge a team by
MANY = 20  # evaluations in which a team should have won a battle, or had a success
RATES = ("eval/battle_won", "eval/success")
ADVICE = "explore longer (--exploration-fraction), or see the page on pitfalls"


class ExplorationCheck:
    """Warns once, after exploration, if evaluations earn no more than the first episodes did.

    At the end, it warns if no evaluation after exploration was won.
    """

    def __init__(self, args):
        fraction = getattr(args, "exploration_fraction", 0.0)  # a copy may explore in another way
        # The first episodes of a resumed run are not known
        self.end = 0.0 if args.resume else fraction * args.total_timesteps
        self.first: list[float] = []  # rewards of the first episodes, at least one point
        self.after: list[float] = []  # rewards of evaluations after exploration
        self.rates: list[float] = []  # their win or success rates

    def look(self, scalars: dict[str, float], step: int, learned: bool = True):
        """`scalars` are metrics logged at environment step `step`, perhaps after updates."""
        early = step <= EARLY * self.end or (step <= self.end and not self.first)
        if early and "rollout/ep_reward" in scalars:
            self.first.append(scalars["rollout/ep_reward"])
        if learned and step > self.end and "eval/ep_reward" in scalars:
            self.after.append(scalars["eval/ep_reward"])
            self.rates += [scalars[name] for name in RATES if name in scalars]
            if self.first and len(self.after) == ENOUGH:
                self.compare()

    def warn_at_end(self):
        """Warn if many evaluations had a win or success rate, and it was always 0."""
        if len(self.rates) >= MANY and not any(self.rates):
            found = f"none of {len(self.rates)} evaluations was won or a success"
            warn(f"{found}: train longer, {ADVICE}")

    def compare(self):
        first, after = sum(self.first) / len(self.first), sum(self.after) / ENOUGH
        if after <= first:
            found = f"evaluations after exploration earn {after:.3g}"
            warn(f"{found}, the first episodes earned {first:.3g}: {ADVICE}")
