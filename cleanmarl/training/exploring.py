"""Whether exploration has found anything to learn."""

from cleanmarl.training.errors import warn

EARLY = 0.1  # this share of exploration is nearly random
ENOUGH = 3  # evaluations to judge a team by
ADVICE = "explore longer (--exploration-fraction), or see the page on pitfalls"


class ExplorationCheck:
    """Warns once, after exploration, if evaluations earn no more than the first episodes did."""

    def __init__(self, args):
        fraction = getattr(args, "exploration_fraction", 0.0)  # a copy may explore in another way
        self.end = fraction * args.total_timesteps
        self.first: list[float] = []  # rewards while agents were nearly random
        self.after: list[float] = []  # rewards of evaluations after exploration

    def look(self, scalars: dict[str, float], step: int):
        """`scalars` are metrics logged at environment step `step`."""
        if step <= EARLY * self.end and "rollout/ep_reward" in scalars:
            self.first.append(scalars["rollout/ep_reward"])
        if step <= self.end or "eval/ep_reward" not in scalars or len(self.after) == ENOUGH:
            return
        self.after.append(scalars["eval/ep_reward"])
        if len(self.after) < ENOUGH or len(self.first) < 2:
            return
        first, after = sum(self.first) / len(self.first), sum(self.after) / ENOUGH
        if after <= first:
            found = (
                f"evaluations after exploration earn {after:.3g}, the first episodes {first:.3g}"
            )
            warn(f"{found}: {ADVICE}")
