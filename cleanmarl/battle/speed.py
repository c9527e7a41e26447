"""Measure how many environment steps a second one `BattleEnv` makes.

    python -m cleanmarl.battle.speed [MAP ...] [--seconds 2] [--num-envs 8 --num-threads 2]

Its public `reset` and `step` are measured. Every agent takes a random available action; choosing
them is not counted. Each map is measured in several rounds, and the median is printed. With
`--num-envs`, a `BattleVectorEnv` is measured instead, with one thread and with `--num-threads`.
"""

import argparse
import statistics
import time

import numpy as np

from cleanmarl.battle import BattleEnv, BattleVectorEnv, map_names

ROUNDS = 5


def random_actions(avail_actions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One uniformly random available action per agent, [..., n_agents]."""
    return (rng.random(avail_actions.shape, np.float32) * avail_actions).argmax(-1)


def measure(env: BattleEnv | BattleVectorEnv, seconds: float) -> float:
    """Environment steps a second, the median of `ROUNDS` rounds.

    Only the time in `reset` and `step` counts.
    """
    rng = np.random.default_rng(0)
    vector = isinstance(env, BattleVectorEnv)
    clock = time.perf_counter
    observation, _ = env.reset(seed=0)
    rates = []
    for _ in range(ROUNDS):
        spent, steps = 0.0, 0
        while spent < seconds / ROUNDS:
            actions = random_actions(observation["avail_actions"], rng)
            began = clock()
            observation, _, terminated, truncated, _ = env.step(actions)
            if not vector and (terminated or truncated):
                observation, _ = env.reset()
            spent += clock() - began
            steps += env.num_envs if vector else 1
        rates.append(steps / spent)
    return statistics.median(rates)


def main():
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=shape)
    parser.add_argument("maps", nargs="*", metavar="MAP", help="default: all")
    parser.add_argument("--seconds", type=float, default=2.0, help="measured time per map")
    parser.add_argument("--num-envs", type=int, default=0, help="battles of a vector environment")
    parser.add_argument("--num-threads", type=int, default=2, help="its threads")
    args = parser.parse_args()
    if not args.num_envs:
        print("map                steps/s    us/step")
    else:
        both = f"steps/s with 1 thread   with {args.num_threads}   ratio"
        print(f"map                {both}   ({args.num_envs} battles)")
    for name in args.maps or map_names():
        if not args.num_envs:
            rate = measure(BattleEnv(name), args.seconds)
            print(f"{name:<16} {rate:>9,.0f} {1e6 / rate:>10.1f}", flush=True)
        else:
            one, many = (
                measure(BattleVectorEnv(name, args.num_envs, num_threads=n), args.seconds)
                for n in (1, args.num_threads)
            )
            print(f"{name:<16} {one:>22,.0f} {many:>8,.0f} {many / one:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
