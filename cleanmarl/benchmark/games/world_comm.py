"""MPE's simple_world_comm for the predators alone: the prey follows the fixed rule of `tag`.

Four predators hunt two prey. Forests hide who is inside, but not from the leader, who says one of
four words at each step. Each predator earns 5 for every touch by anyone, less a tenth of its
distance to the nearest prey. The prey does not care for food.
"""

from mpe2 import simple_world_comm_v3

from cleanmarl.benchmark.games.tag import STEPS, Predators, check_counts


def parallel_env(
    num_good: int = 2,
    num_adversaries: int = 4,
    num_obstacles: int = 1,
    num_food: int = 2,
    num_forests: int = 2,
    errs: float = 0.1,
    max_cycles: int = STEPS,
    render_mode: str | None = None,
) -> Predators:
    check_counts(num_good=num_good, num_adversaries=num_adversaries)
    mpe = simple_world_comm_v3.raw_env(
        num_good=num_good,
        num_adversaries=num_adversaries,
        num_obstacles=num_obstacles,
        num_food=num_food,
        num_forests=num_forests,
        max_cycles=max_cycles,
        render_mode=render_mode,
    )
    return Predators(mpe, errs)
