"""Replay recorded battles of the original SMAClite in the engine, and report how well they agree.

    python docs/tools/parity.py TRACE.npz [...]

Each episode is replayed twice with the recorded actions and order of turns: once, every tick starts
from the recorded row; once, the battle runs freely from the reset. The exit status is 1 if the
engine does not agree:

- from the recorded rows, positions must agree within 1e-4 in all but one of 10,000 unit-ticks and
  always within 1e-2; all other values must agree, within 1e-4 if recorded in single precision;
- in free runs, hp must agree to the end on the maps in `FREE_TO_THE_END`, and for some ticks on the
  maps in `FREE_TICKS`.

The exit status is 2 if a file cannot be read or is not a recording.
"""

import sys
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from cleanmarl.battle import compiled
from cleanmarl.battle.engine import TICKS_PER_STEP
from cleanmarl.battle.scenario import ScenarioError, load_map
from cleanmarl.battle.world import BATTLE, Seen, build, seen_of

CLOSE, FAR, ONE_IN = 1e-4, 1e-2, 10_000
FREE_POSITION = 1e-3  # a free run parts from the recording if a position differs by more
FREE_TO_THE_END = ("3m", "2s3z", "3s5z", "MMM", "corridor")
FREE_TICKS = {"bane_vs_bane": 20, "2c_vs_64zg": 50}

FLOATS = {"hp": "hp", "shield": "shield", "energy": "energy", "cooldown": "cooldown"}
FLOATS |= {"shield_wait": "shield_cooldown", "heal_pool": "heal_pool"}
"""names of the engine's fields in a recording"""
PER_TICK = ("pos", "vel", "target", "attacking", "alive", "order", "tick_reward", *FLOATS.values())
PER_STEP = ("actions", "reward", "terminated", "won", "avail", "obs", "state")

NOT_NUMPYS = (ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)
"""errors that NumPy raises for a file that it has not written"""


@dataclass
class Args:
    traces: tyro.conf.Positional[tuple[Path, ...]]
    """recordings of the original, TRACE.npz"""


class TraceError(ValueError):
    """A file is not a recording."""


class Replay:
    """One recorded episode, and the world of its map."""

    def __init__(self, trace, prefix: str):
        own = [key for key in trace.files if key.startswith(prefix)]
        self.trace = {key.removeprefix(prefix): trace[key] for key in own}
        needed = (*PER_TICK, *PER_STEP, "walls", "policy", "seed")
        missing = [prefix + name for name in needed if name not in self.trace]
        if missing:
            raise TraceError(f"there is no {', '.join(missing)}")
        for name in ("actions", "order"):
            self.trace[name] = self.trace[name].astype(np.int64)
        self.map_name = str(trace["map"])
        scenario = load_map(self.map_name)
        walls, limit = str(self.trace["walls"]), scenario.episode_limit
        self.world, start = build(scenario, walls=walls, time_limit=limit, agent_ids=False)
        self.start = start.units
        kinds = np.array(list(scenario.kinds))[self.start["kind"]]
        if kinds.tolist() != trace["unit_kind"].tolist():
            raise TraceError(f"its units are not those of the map {self.map_name}")

    def observe(self, units: np.ndarray) -> Seen:
        seen = seen_of(self.world.rules[0], len(units))
        compiled.look(self.world, units, np.zeros(len(units), BATTLE), seen)
        return seen

    def tick(self, units: np.ndarray, turns: np.ndarray) -> np.ndarray:
        rewards = np.empty(len(units))
        compiled.tick(self.world, units, turns, rewards)
        return rewards

    def rows(self, ticks: np.ndarray) -> np.ndarray:
        """The recorded units before each of these ticks, one battle per tick."""
        units = np.repeat(self.start[None], len(ticks), axis=0)
        trace = self.trace
        units["x"], units["y"] = trace["pos"][ticks, :, 0], trace["pos"][ticks, :, 1]
        units["vel_x"], units["vel_y"] = trace["vel"][ticks, :, 0], trace["vel"][ticks, :, 1]
        for field, recorded in FLOATS.items():
            units[field] = trace[recorded][ticks]
        for field in ("target", "attacking", "alive"):
            units[field] = trace[field][ticks]
        return units

    def unit_errors(self, units: np.ndarray, ticks: np.ndarray) -> dict[str, np.ndarray]:
        """Absolute differences from the recorded rows, per unit.

        For flags and targets: whether they differ.
        """
        trace, alive = self.trace, self.trace["alive"][ticks]
        x, y = trace["pos"][ticks].transpose(2, 0, 1)
        position = np.maximum(abs(units["x"] - x), abs(units["y"] - y))
        errors = {"position": np.where(alive, position, 0)}
        for field, recorded in FLOATS.items():
            errors[field] = abs(units[field] - trace[recorded][ticks])
        errors["deaths"] = units["alive"] != alive
        for flag in ("target", "attacking"):
            errors[flag] = (units[flag] != trace[flag][ticks]) & alive
        return errors

    def seen_errors(self, units: np.ndarray, steps: np.ndarray) -> dict[str, np.ndarray]:
        """The same for the observations before each of these steps."""
        obs, state, avail = self.observe(units)
        return {
            "observation": abs(obs - self.trace["obs"][steps]),
            "state": abs(state - self.trace["state"][steps]),
            "avail": avail != self.trace["avail"][steps],
        }

    def end_errors(
        self, units: np.ndarray, rewards: np.ndarray, steps: np.ndarray
    ) -> dict[str, np.ndarray]:
        """The same for the reward and the end of each of these steps.

        `units` are the units after the step, `rewards` the raw rewards of the step.
        """
        battles = np.zeros(len(steps), BATTLE)
        compiled.finish(self.world, units, battles, rewards)
        terminated, won = self.trace["terminated"][steps], self.trace["won"][steps]
        return {
            "step reward": abs(battles["reward"] - self.trace["reward"][steps]),
            "end": (battles["terminated"] != terminated) | (battles["won"] != won),
        }

    def from_rows(self) -> dict[str, np.ndarray]:
        """Differences one tick after each recorded row, and those of the observations."""
        actions = self.trace["actions"]
        ticks, steps = np.arange(len(self.trace["order"])), np.arange(len(actions))
        ordered = self.rows(ticks - ticks % TICKS_PER_STEP)
        compiled.order(self.world, ordered, actions[ticks // TICKS_PER_STEP])
        units = self.rows(ticks)
        for field in ("order", "order_target", "order_x", "order_y"):
            units[field] = ordered[field]
        rewards = self.tick(units, self.trace["order"])
        errors = self.unit_errors(units, ticks + 1)
        errors["reward"] = abs(rewards - self.trace["tick_reward"])
        after_steps = np.ascontiguousarray(units[TICKS_PER_STEP - 1 :: TICKS_PER_STEP])
        of_steps = rewards.reshape(-1, TICKS_PER_STEP).sum(axis=1)
        errors |= self.end_errors(after_steps, of_steps, steps)

        seen = self.rows(np.arange(len(actions) + 1) * TICKS_PER_STEP)
        is_ally = self.start["is_ally"]
        seen["last_action"][1:, is_ally] = actions[:, self.start["index"][is_ally]]
        return errors | self.seen_errors(seen, np.arange(len(actions) + 1))

    def free(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Differences in a free run: per row of the recording, and per step."""
        units = self.start[None].copy()
        per_row, per_step = [self.unit_errors(units, np.array([0]))], []
        for step, actions in enumerate(self.trace["actions"]):
            compiled.order(self.world, units, actions[None])
            reward = np.zeros(1)
            for tick in range(step * TICKS_PER_STEP, (step + 1) * TICKS_PER_STEP):
                reward += self.tick(units, self.trace["order"][tick][None])
                per_row.append(self.unit_errors(units, np.array([tick + 1])))
            seen = self.seen_errors(units, np.array([step + 1]))
            per_step.append(seen | self.end_errors(units, reward, np.array([step])))
        return tuple(
            {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
            for rows in (per_row, per_step)
        )


def exceeds(error: np.ndarray, limit: float) -> np.ndarray:
    """Where a difference exceeds the limit or is not a number; for flags, where they differ."""
    return error if error.dtype == bool else ~(error <= limit)


def parts_at(error: np.ndarray, limit: float) -> int | None:
    """The first tick after which a difference exceeds the limit.

    Row 0 is the reset, row t + 1 follows tick t.
    """
    rows = np.flatnonzero(exceeds(error, limit).reshape(len(error), -1).any(axis=1))
    return int(rows[0]) - 1 if len(rows) else None


def largest(errors: dict[str, np.ndarray]) -> str:
    """The largest difference of each quantity; for flags, the number of differences."""
    floats = [f"{name} {error.max():.1e}" for name, error in errors.items() if error.dtype != bool]
    flags = [
        f"{name} {f'{error.sum()} differ' if error.any() else 'agree'}"
        for name, error in errors.items()
        if error.dtype == bool
    ]
    return f"{', '.join(floats)}; {', '.join(flags)}"


def check_rows(replay: Replay) -> tuple[str, list[str]]:
    """The report on the replay from recorded rows, and its errors."""
    errors = replay.from_rows()
    text = largest(errors)
    position = errors.pop("position")
    unit_ticks = int(replay.trace["alive"][1:].sum())
    off = int(exceeds(position, CLOSE).sum())
    wrong = []
    if off > max(1, unit_ticks / ONE_IN) or exceeds(position, FAR).any():
        by = f"by up to {position.max():.1e}"
        wrong.append(f"position: {off} of {unit_ticks} unit-ticks off, {by}")
    for name, error in errors.items():
        if exceeds(error, CLOSE).any():
            by = f", by up to {error.max():.1e}" if error.dtype != bool else ""
            wrong.append(f"{name}: {exceeds(error, CLOSE).sum()} differ from recorded rows{by}")
    return f"{len(position)} ticks, {off} of {unit_ticks} positions beyond {CLOSE:g}; {text}", wrong


def check_free(replay: Replay) -> tuple[str, list[str]]:
    """The report on the free run, and its errors."""
    rows, steps = replay.free()
    n_ticks = len(rows["hp"]) - 1
    limits = {"position": FREE_POSITION, "hp": CLOSE}
    parts = {name: parts_at(rows[name], limit) for name, limit in limits.items()}
    to_the_end = replay.map_name in FREE_TO_THE_END
    needed = n_ticks if to_the_end else min(n_ticks, FREE_TICKS.get(replay.map_name, 0))
    wrong = []
    if parts["hp"] is not None and parts["hp"] < needed:
        wrong.append(f"free run: hp parts at tick {parts['hp']}")
    if to_the_end and steps["end"].any():
        wrong.append("free run: the end differs")
    agree = []
    for name, at in parts.items():
        agree.append(f"{name} to the end" if at is None else f"{name} parts at tick {at}")
    return f"{', '.join(agree)}; {largest(steps)}", wrong


def load(path: Path) -> list[Replay]:
    """The episodes of a recording. Raises TraceError if the file is not a recording."""
    try:
        with np.load(path) as trace:
            return [Replay(trace, f"ep{e}_") for e in range(int(trace["episodes"]))]
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror or error}") from None
    except (TraceError, ScenarioError, KeyError) as error:
        raise TraceError(f"{path} is not a recorded battle: {error.args[0]}") from None
    except NOT_NUMPYS:
        raise TraceError(f"{path} is not a recorded battle, or is damaged") from None


def main(paths: Sequence[str | Path]) -> int:
    """Print how well the engine agrees with the recordings; returns the exit status."""
    if not paths:
        print("give at least one recording", file=sys.stderr)
        return 2
    failed = 0
    for path in paths:
        try:
            replays = load(path)
        except TraceError as error:
            print(error, file=sys.stderr)
            return 2
        for replay in replays:
            about = replay.trace
            policy, seed, walls = (about[name] for name in ("policy", "seed", "walls"))
            print(f"{replay.map_name}, {policy} actions, seed {seed}, walls {walls}")
            (rows, wrong_rows), (free, wrong_free) = check_rows(replay), check_free(replay)
            print(f"  from rows  {rows}\n  free run   {free}")
            wrong = wrong_rows + wrong_free
            print("".join(f"  WRONG      {line}\n" for line in wrong), end="", flush=True)
            failed += bool(wrong)
    print(f"{failed} episodes do not agree" if failed else "all episodes agree")
    return 1 if failed else 0


if __name__ == "__main__":
    args = tyro.cli(Args, description=__doc__)
    compiled.machine_code("tick")  # compile first: it prints a line
    sys.exit(main(args.traces))
