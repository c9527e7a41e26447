"""Replay recorded battles of the original SMAClite in the engine and report how well they agree.

    python -m cleanmarl.battle.parity TRACE.npz [...]

Each episode is replayed twice, always with the recorded actions and order of turns: once with every tick started from
the recorded row, and once running free from the reset. The exit status is 1 where the engine does not agree:

- from the recorded rows, positions must agree within 1e-4 in all but one of 10,000 unit-ticks and always within 1e-2;
  all else must agree, within 1e-4 where the recording is in single precision;
- free runs must agree in hp to the end on the maps in `FREE_TO_THE_END`, and for as many ticks as `FREE_TICKS` says.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from cleanmarl.battle import compiled
from cleanmarl.battle.engine import TICKS_PER_STEP
from cleanmarl.battle.scenario import load_map
from cleanmarl.battle.world import BATTLE, build

CLOSE, FAR, ONE_IN = 1e-4, 1e-2, 10_000
FREE_TO_THE_END = ("3m", "2s3z", "3s5z", "MMM", "corridor")
FREE_TICKS = {"bane_vs_bane": 20, "2c_vs_64zg": 50}
FLOATS = {"hp": "hp", "shield": "shield", "energy": "energy", "cooldown": "cooldown", "wait": "shield_wait"}
FLOATS |= {"pool": "heal_pool"}
RECORDED = {"wait": "shield_cooldown", "pool": "heal_pool"}


class Replay:
    """One recorded episode and the world that it was recorded in."""

    def __init__(self, trace, prefix: str):
        self.trace = {key.removeprefix(prefix): trace[key] for key in trace.files if key.startswith(prefix)}
        scenario = load_map(str(trace["map"]))
        self.world, self.start = build(
            scenario, walls=str(self.trace["walls"]), time_limit=scenario.episode_limit, agent_ids=False
        )
        self.rules = self.world.rules[0]

    def observe(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        count, n_allies = len(units), int(self.rules["n_allies"])
        obs = np.empty((count, n_allies, self.rules["obs_size"]), np.float32)
        state = np.empty((count, self.rules["state_size"]), np.float32)
        avail = np.empty((count, n_allies, self.rules["n_actions"]), np.int8)
        compiled.look(self.world.rules, self.world.blocked, units, obs, state, avail)
        return obs, state, avail

    def tick(self, units: np.ndarray, turns: np.ndarray) -> np.ndarray:
        rewards = np.empty(len(units))
        world = self.world
        compiled.tick(
            world.rules,
            world.damages,
            world.walls,
            world.near,
            world.near_walls,
            units,
            turns.astype(np.int64),
            rewards,
        )
        return rewards

    def order(self, units: np.ndarray, actions: np.ndarray):
        compiled.order(self.world.rules, self.world.blocked, units, actions.astype(np.int64))

    def rows(self, ticks: np.ndarray) -> np.ndarray:
        """The units as recorded before each of these ticks, one battle per tick."""
        units = np.repeat(self.start[None], len(ticks), axis=0)
        trace = self.trace
        units["x"], units["y"] = trace["pos"][ticks, :, 0], trace["pos"][ticks, :, 1]
        units["vel_x"], units["vel_y"] = trace["vel"][ticks, :, 0], trace["vel"][ticks, :, 1]
        for name, field in FLOATS.items():
            units[field] = trace[RECORDED.get(name, name)][ticks]
        for name in ("target", "attacking", "alive"):
            units[name] = trace[name][ticks]
        return units

    def error(self, units: np.ndarray, ticks: np.ndarray) -> dict[str, np.ndarray]:
        """Absolute differences from the recorded rows, per unit; of flags and targets, whether they differ."""
        trace, alive = self.trace, self.trace["alive"][ticks]
        position = np.maximum(*(abs(units[axis] - trace["pos"][ticks, :, i]) for i, axis in enumerate("xy")))
        errors = {"position": np.where(alive, position, 0)}
        for name, field in FLOATS.items():
            errors[name] = abs(units[field] - trace[RECORDED.get(name, name)][ticks])
        errors["deaths"] = units["alive"] != alive
        for name in ("target", "attacking"):
            errors[name] = (units[name] != trace[name][ticks]) & alive
        return errors

    def from_rows(self) -> dict[str, np.ndarray]:
        """Differences after one tick from each recorded row, and of what is observed at each step's row."""
        trace = self.trace
        actions, n_ticks = trace["actions"], len(trace["order"])
        steps = np.arange(len(actions) + 1)
        ticks = np.arange(n_ticks)
        units = self.rows(ticks - ticks % TICKS_PER_STEP)
        self.order(units, actions[ticks // TICKS_PER_STEP])
        now = self.rows(ticks)
        for field in ("order", "order_target", "order_x", "order_y"):
            now[field] = units[field]
        rewards = self.tick(now, trace["order"])
        errors = self.error(now, ticks + 1) | {"reward": abs(rewards - trace["tick_reward"])}

        seen = self.rows(steps * TICKS_PER_STEP)
        is_ally = self.start["is_ally"]
        seen["last_action"][1:, is_ally] = actions[:, self.start["index"][is_ally]]
        obs, state, avail = self.observe(seen)
        return errors | self.seen_error(obs, state, avail, steps)

    def seen_error(self, obs, state, avail, steps) -> dict[str, np.ndarray]:
        trace = self.trace
        return {
            "observation": abs(obs - trace["obs"][steps]),
            "state": abs(state - trace["state"][steps]),
            "avail": avail != trace["avail"][steps],
        }

    def free(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Differences along a free run: per tick, and per step."""
        trace = self.trace
        units = self.start[None].copy()
        per_tick, per_step = [self.error(units, np.array([0]))], []
        battle = np.zeros(1, BATTLE)
        for step, actions in enumerate(trace["actions"]):
            self.order(units, actions[None])
            reward = 0.0
            for tick in range(step * TICKS_PER_STEP, (step + 1) * TICKS_PER_STEP):
                reward += self.tick(units, trace["order"][tick][None])[0]
                per_tick.append(self.error(units, np.array([tick + 1])))
            compiled.finish(self.world.rules, units, battle, np.array([reward]))
            obs, state, avail = self.observe(units)
            per_step.append(
                self.seen_error(obs, state, avail, np.array([step + 1]))
                | {
                    "step reward": abs(battle["reward"] - trace["reward"][step]),
                    "end": (battle["terminated"] != trace["terminated"][step]) | (battle["won"] != trace["won"][step]),
                }
            )
        return tuple(
            {name: np.concatenate([row[name] for row in rows]) for name in rows[0]} for rows in (per_tick, per_step)
        )


def first(differs: np.ndarray) -> int | None:
    """The first tick after which anything differs; row 0 is the reset, row t + 1 follows tick t."""
    rows = np.flatnonzero(differs.reshape(len(differs), -1).any(axis=1))
    return int(rows[0]) - 1 if len(rows) else None


def check(replay: Replay, map_name: str) -> tuple[list[str], list[str]]:
    """The lines to print about one episode, and what is wrong with it."""
    wrong = []
    rows = replay.from_rows()
    position = rows.pop("position")
    unit_ticks = int(replay.trace["alive"][1:].sum())
    off = int((position > CLOSE).sum())
    if position.max() > FAR or off > max(1, unit_ticks / ONE_IN):
        wrong.append(f"positions: {off} of {unit_ticks} unit-ticks off, by up to {position.max():.1e}")
    floats = {name: error.max() for name, error in rows.items() if error.dtype != bool}
    flags = {name: int(error.sum()) for name, error in rows.items() if error.dtype == bool}
    wrong += [f"{name}: off by {error:.1e} from recorded rows" for name, error in floats.items() if not error <= CLOSE]
    wrong += [f"{name}: {count} differ from recorded rows" for name, count in flags.items() if count]
    lines = [
        f"  from rows  {len(position)} ticks; position {position.max():.1e} ({off} of {unit_ticks} beyond {CLOSE:g}), "
        + ", ".join(
            f"{name} {error:.1e}" for name, error in floats.items() if error > 0 or name not in ("wait", "pool")
        ),
        "             "
        + ", ".join(f"{name} {'agree' if not count else f'{count} differ'}" for name, count in flags.items()),
    ]

    ticks, steps = replay.free()
    parts = {name: first(ticks[name] > tolerance) for name, tolerance in (("position", 1e-3), ("hp", CLOSE))}
    n_ticks = len(ticks["hp"]) - 1
    needed = n_ticks if map_name in FREE_TO_THE_END else min(n_ticks, FREE_TICKS.get(map_name, 0))
    if parts["hp"] is not None and parts["hp"] < needed:
        wrong.append(f"free run: hp parts at tick {parts['hp']}")
    if map_name in FREE_TO_THE_END:
        wrong += ["free run: the end differs"] if steps["end"].any() else []
    lines.append(
        "  free run   "
        + ", ".join(
            f"{name} parts at tick {at}" if at is not None else f"{name} to the end" for name, at in parts.items()
        )
        + "; "
        + ", ".join(
            f"{name} {error.max():.1e}" if error.dtype != bool else f"{name} {'agree' if not error.any() else 'differ'}"
            for name, error in steps.items()
        )
    )
    return lines, wrong


def main(paths: list[Path]) -> int:
    failed = 0
    for path in paths:
        with np.load(path) as trace:
            map_name = str(trace["map"])
            for e in range(int(trace["episodes"])):
                replay = Replay(trace, f"ep{e}_")
                lines, wrong = check(replay, map_name)
                failed += bool(wrong)
                about = replay.trace
                print(f"{map_name}, {about['policy']} actions, seed {about['seed']}, walls {about['walls']}")
                print("\n".join(lines + [f"  WRONG      {line}" for line in wrong]), flush=True)
    print(f"{failed} episodes do not agree" if failed else "all episodes agree")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE.npz", help="recordings of the original")
    sys.exit(compiled.announced(lambda: main(parser.parse_args().traces)))
