"""Measure how many environment steps a second the battles make.

    python docs/tools/battle_speed.py [MAP ...] [--seconds 2]
    python docs/tools/battle_speed.py [MAP ...] --num-envs 8 --num-threads 2
    python docs/tools/battle_speed.py [MAP ...] --against FOLDER
    python docs/tools/battle_speed.py [MAP ...] --random

The program measures `reset` and `step` of a `BattleEnv`. Every agent takes a random available
action; the time to choose it does not count. Each map is measured in several rounds, and the median
is printed. With `--num-envs`, the program measures a `BattleVectorEnv`, with one thread and with
`--num-threads`.

`--against` compares this checkout with the one whose root is FOLDER. Each runs in its own process,
and they take turns. Both play the same battles again and again, and for each step the shortest time
counts, which excludes the load of other programs. The program prints the ratio of the steps per
second, this checkout to the other, for each map, and last the median of the maps.

`--random` compares random battles (SMACv2's, or the MAPs given) with fixed battles on the same
terrain, with the average numbers of units of each kind. They take turns, and medians over the turns
are printed. The time of a step depends on the number of living units; so the last ratio is for
battles in which no unit dies.
"""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from cleanmarl import battle
from cleanmarl.battle import BattleEnv, BattleVectorEnv, ScenarioError, map_names
from cleanmarl.battle.scenario import Group, load_map

HERE = Path(__file__).resolve().parents[2]
ROUNDS = 5
STEPS = 200  # of the battles that are repeated
TURN = 0.05  # seconds
RESETS = 100


@dataclass
class Args:
    maps: tyro.conf.Positional[tuple[str, ...]] = ()
    """maps to measure; without any, all"""
    seconds: float = 2.0
    """measured time per map"""
    num_envs: int = 0
    """battles of a vector environment"""
    num_threads: int = 2
    """its threads"""
    against: Path | None = None
    """root of another checkout"""
    random: bool = False
    """compare random battles with fixed ones"""
    take_turns: bool = False
    """only for the processes of --against"""


def random_actions(avail_actions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One uniformly random available action per agent, [..., n_agents]."""
    return (rng.random(avail_actions.shape, np.float32) * avail_actions).argmax(-1)


def measure(env: BattleEnv | BattleVectorEnv, seconds: float) -> float:
    """Environment steps per second, the median of `ROUNDS` rounds.

    Only the time in `reset` and `step` counts.
    """
    rng = np.random.default_rng(0)
    vector = isinstance(env, BattleVectorEnv)
    clock = time.perf_counter
    observation, _ = env.reset(seed=0)
    rates = []
    for _ in range(ROUNDS):
        spent = 0.0
        steps = 0
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


class Rehearsal:
    """The same battles, repeated; the shortest time of each step counts."""

    def __init__(self, map_name: str):
        self.env = BattleEnv(map_name)
        self.actions: list[np.ndarray | None] = [None]  # None is a reset
        rng = np.random.default_rng(0)
        observation, _ = self.env.reset(seed=0)
        for _ in range(STEPS):
            self.actions.append(random_actions(observation["avail_actions"], rng))
            observation, _, terminated, truncated, _ = self.env.step(self.actions[-1])
            if terminated or truncated:
                observation, _ = self.env.reset(seed=len(self.actions))
                self.actions.append(None)
        self.shortest = np.full(len(self.actions), np.inf)

    def fight(self):
        for i, actions in enumerate(self.actions):
            began = time.perf_counter()
            if actions is None:
                self.env.reset(seed=i)
            else:
                self.env.step(actions)
            self.shortest[i] = min(self.shortest[i], time.perf_counter() - began)


def take_turns(map_name: str):
    """The loop of a comparison's process: for each line of input, play and print the time."""
    rehearsal = Rehearsal(map_name)
    for _ in sys.stdin:
        began = time.perf_counter()
        while time.perf_counter() < began + TURN:
            rehearsal.fight()
        print(rehearsal.shortest.sum(), flush=True)


class Checkout:
    """A process that plays the battles of a map with the package of a folder."""

    def __init__(self, folder: Path, map_name: str):
        self.process = subprocess.Popen(
            [sys.executable, __file__, map_name, "--take-turns"],
            env=os.environ | {"PYTHONPATH": str(folder.resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self) -> float:
        """Seconds of the battles, the least so far."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(1)  # the process has printed why
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def compare(map_name: str, other: Path, seconds: float) -> float:
    """Ratio of steps per second, this checkout to the other."""
    ours = Checkout(HERE, map_name)
    theirs = Checkout(other, map_name)
    for _ in range(max(2, int(seconds / TURN))):
        our_time = ours.turn()
        their_time = theirs.turn()
    ours.close()
    theirs.close()
    return their_time / our_time


def random_battles(group: Group) -> dict:
    """The package's random battles with another group."""
    both = {"side": "both", "number": group.number, "units": group.units, "places": group.places}
    return {"episode_limit": 200, "groups": [both | {"not_alone": group.not_alone}]}


def fixed_battles(group: Group) -> dict:
    """Battles without random parts, with the average armies of the random ones."""
    groups = []
    for side, at, number in zip(("ally", "enemy"), ([9, 16], [23, 16]), group.number, strict=True):
        total = sum(group.units.values())
        shares = np.cumsum([0, *group.units.values()]) / total * number
        counts = np.diff(np.ceil(shares - 1e-9)).astype(int).tolist()
        units = {kind: count for kind, count in zip(group.units, counts, strict=True) if count}
        groups.append({"side": side, "at": at, "units": units})
    return {"episode_limit": 200, "groups": groups}


def where_nobody_falls(scenario: dict, group: Group) -> dict:
    """The same battles with units that have many health points and do not explode."""
    strong = {kind: {"like": kind, "hp": 10_000} for kind in group.units}
    if "BANELING" in strong:
        strong["BANELING"]["attack"] = "standard"
    return scenario | {"units": strong}


class Stopwatch:
    """An environment, and the times of its resets and steps."""

    def __init__(self, env: BattleEnv):
        self.env = env
        self.rng = np.random.default_rng(0)
        self.observation, _ = env.reset(seed=0)

    def reset_time(self) -> float:
        """Seconds of one reset, the mean over RESETS."""
        began = time.perf_counter()
        for _ in range(RESETS):
            self.observation, _ = self.env.reset()
        return (time.perf_counter() - began) / RESETS

    def step_time(self) -> float:
        """Seconds of one step, the mean over whole battles that take at least TURN."""
        spent = 0.0
        steps = 0
        while spent < TURN:
            self.observation, _ = self.env.reset()
            over = False
            while not over:
                actions = random_actions(self.observation["avail_actions"], self.rng)
                began = time.perf_counter()
                self.observation, _, terminated, truncated, _ = self.env.step(actions)
                spent += time.perf_counter() - began
                steps += 1
                over = terminated or truncated
        return spent / steps


def print_random_speeds(names: list[str], seconds: float):
    """Print the comparison; each turn measures both, one right after the other."""
    print("                   reset, us             steps/s")
    print("battles            random fixed ratio    random   fixed ratio  nobody falls")
    for name in names:
        (group,) = load_map(name).groups
        both = [random_battles(group), fixed_battles(group)]
        watches = [Stopwatch(BattleEnv(map_file=one)) for one in both]
        strong = [where_nobody_falls(one, group) for one in both]
        strong_watches = [Stopwatch(BattleEnv(map_file=one)) for one in strong]
        turns = []
        began = time.perf_counter()
        while not turns or time.perf_counter() < began + seconds:
            turns.append([watch.reset_time() for watch in watches])
            turns[-1] += [watch.step_time() for watch in (*watches, *strong_watches)]
        times = np.array(turns)
        random_reset, fixed_reset, random_step, fixed_step, *_ = np.median(times, axis=0)
        longer = np.median(times[:, 0] / times[:, 1])
        faster, as_many = np.median(times[:, [3, 5]] / times[:, [2, 4]], axis=0)
        resets = f"{1e6 * random_reset:>6.1f} {1e6 * fixed_reset:>5.1f} {longer:>5.2f}"
        steps = f"{1 / random_step:>9,.0f} {1 / fixed_step:>7,.0f} {faster:>5.2f}"
        print(f"{name:<18} {resets} {steps} {as_many:>13.2f}", flush=True)


def print_speeds(maps: list[str], seconds: float):
    print("map                steps/s    us/step")
    for name in maps:
        rate = measure(BattleEnv(name), seconds)
        print(f"{name:<16} {rate:>9,.0f} {1e6 / rate:>10.1f}", flush=True)


def print_thread_speeds(maps: list[str], seconds: float, num_envs: int, num_threads: int):
    both = f"steps/s with 1 thread   with {num_threads}   ratio"
    print(f"map                {both}   ({num_envs} battles)")
    for name in maps:
        one = measure(BattleVectorEnv(name, num_envs), seconds)
        many = measure(BattleVectorEnv(name, num_envs, num_threads=num_threads), seconds)
        print(f"{name:<16} {one:>22,.0f} {many:>8,.0f} {many / one:>7.2f}", flush=True)


def print_ratios(maps: list[str], seconds: float, other: Path):
    print("map              ratio")
    ratios = []
    for name in maps:
        ratios.append(compare(name, other, seconds))
        print(f"{name:<16} {ratios[-1]:.3f}", flush=True)
    print(f"{'median':<16} {statistics.median(ratios):.3f}")


def check(args: Args, maps: list[str]):
    """Exit with status 2 if something cannot be measured."""
    wrong = ""
    for name in maps:
        try:
            if args.random and not load_map(name).is_random:
                wrong = f"--random: the battles of {name} are not random"
            load_map(name)
        except ScenarioError as error:
            wrong = str(error)
    if args.against and not (args.against / "cleanmarl").is_dir():
        wrong = f"--against: there is no folder cleanmarl in {args.against}"
    if wrong:
        print(f"battle_speed.py: error: {wrong}", file=sys.stderr)
        sys.exit(2)


def main(args: Args):
    if args.take_turns:  # the package may be older and have no random battles
        return take_turns(args.maps[0])
    maps = list(args.maps) or (battle.random_names() if args.random else map_names())
    check(args, maps)
    if args.against:
        print_ratios(maps, args.seconds, args.against)
    elif args.random:
        print_random_speeds(maps, args.seconds)
    elif args.num_envs:
        print_thread_speeds(maps, args.seconds, args.num_envs, args.num_threads)
    else:
        print_speeds(maps, args.seconds)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
