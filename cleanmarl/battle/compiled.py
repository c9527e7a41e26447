"""The functions of the engine that Python calls. They are compiled once and then kept on disk.

Numba takes a function from its cache if the file that defines it is unchanged. It does not check
the files that this file imports. So the cache key includes `SOURCES`, a digest of all compiled
files: a change in any of them compiles the functions again.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

import numpy as np
from numba import njit, prange, typeof

from cleanmarl.battle import draw, engine, observe, orca
from cleanmarl.battle.cache import announced, keep
from cleanmarl.battle.jit import inlined
from cleanmarl.battle.scenario import load_map
from cleanmarl.battle.world import BATTLE, Seen, World, build, seen_of

COMPILED = ("jit", "scenario", "world", "orca", "engine", "draw", "observe", "compiled")
TEXTS = [Path(__file__).with_name(f"{name}.py").read_bytes() for name in COMPILED]
SOURCES = hashlib.sha256(b"".join(TEXTS)).hexdigest()


@njit(nogil=True, error_model="numpy")
def restart(world, start, units, battles, b):
    """Reset battle b to its start; random numbers come from the battle's own stream."""
    battle = battles[b]
    battle.steps = 0
    battle.reward = 0.0
    battle.terminated = battle.truncated = battle.won = battle.over = False
    for u in range(units.shape[1]):
        units[b, u] = start.units[u]
    if start.groups.shape[0] > 0:
        tried = np.empty(start.kinds.shape[1], np.int64)
        sizes, diagonals = np.empty((2, draw.DIAGONALS), np.int64)
        standing = np.empty((1 + units.shape[1], 3))
        search = draw.Search(world, start, np.empty(2), standing, tried, sizes, diagonals)
        draw.draw_start(units[b], battle, search)
    draw.set_attack_point(units[b])


@inlined
def find_unavailable(world, units, battles, actions):
    """The first battle and agent whose action is not available, or (-1, -1).

    Battles that are over are skipped.
    """
    n_allies = world.allies.shape[0]
    for b in range(units.shape[0]):
        for i in range(n_allies if not battles[b].over else 0):
            unit = units[b, world.allies[i]]
            if not engine.is_available(units[b], unit, actions[b, i], world):
                return b, i
    return -1, -1


@njit(error_model="numpy")
def make_scratch(n_walls, n_units):
    lines = np.empty((2, 4 * n_walls + n_units), orca.LINE)
    return orca.Scratch(np.empty((2, n_units)), np.empty(n_units, np.bool_), lines[0], lines[1])


@njit(error_model="numpy")
def step_battles(world, units, battles, actions, seen):
    """One environment step of some battles; battles that are over do not change."""
    n_units = units.shape[1]
    scratch = make_scratch(world.rules[0].n_walls, n_units)
    turns = np.empty(n_units, np.int64)
    for b in range(units.shape[0]):
        if battles[b].over:
            continue
        engine.give_orders(units[b], actions[b], world)
        reward = 0.0
        for _ in range(engine.TICKS_PER_STEP):
            count = engine.shuffle(units[b], battles[b], turns)
            reward += engine.tick(units[b], world, turns[:count], scratch)
        engine.finish_step(units[b], battles[b], world.rules[0], reward)
        one = Seen(seen.obs[b], seen.state[b], seen.avail_actions[b])
        observe.observe(units[b], battles[b].steps, world, one)


@njit(nogil=True, error_model="numpy")
def step(world, units, battles, actions, seen):
    """One environment step of all battles, on this thread.

    Returns the first battle and agent whose action is not available (nothing has changed then), or
    (-1, -1).
    """
    bad = find_unavailable(world, units, battles, actions)
    if bad[0] < 0:
        step_battles(world, units, battles, actions, seen)
    return bad


@njit(nogil=True, parallel=True, error_model="numpy")
def step_threaded(parts, world, units, battles, actions, seen):
    """Like `step`, but divide the battles into `parts` and step each part in its own thread."""
    bad = find_unavailable(world, units, battles, actions)
    if bad[0] >= 0:
        return bad
    num = units.shape[0]
    # Numba cannot pass named tuples to threads.
    rules, damages, cells, walls, allies, enemies = world
    obs, state, avail_actions = seen
    for part in prange(parts):
        first, last = part * num // parts, (part + 1) * num // parts
        step_battles(
            World(rules, damages, cells, walls, allies, enemies),
            units[first:last],
            battles[first:last],
            actions[first:last],
            Seen(obs[first:last], state[first:last], avail_actions[first:last]),
        )
    return bad


@njit(nogil=True, error_model="numpy")
def look(world, units, battles, seen):
    """Write the observations, states and masks of all battles."""
    for b in range(units.shape[0]):
        one = Seen(seen.obs[b], seen.state[b], seen.avail_actions[b])
        observe.observe(units[b], battles[b].steps, world, one)


# For replays


@njit(error_model="numpy")
def order(world, units, actions):
    """Give the agents of all battles their orders."""
    for b in range(units.shape[0]):
        engine.give_orders(units[b], actions[b], world)


@njit(error_model="numpy")
def tick(world, units, turns, rewards):
    """One tick of each battle; `turns` [B, n_units] is padded with -1."""
    scratch = make_scratch(world.rules[0].n_walls, units.shape[1])
    for b in range(units.shape[0]):
        count = (turns[b] >= 0).sum()
        rewards[b] = engine.tick(units[b], world, turns[b, :count], scratch)


@njit(error_model="numpy")
def finish(world, units, battles, rewards):
    """Finish a step of each battle: reward and end of the episode."""
    for b in range(units.shape[0]):
        engine.finish_step(units[b], battles[b], world.rules[0], rewards[b])


ENGINE = {"restart": restart, "step": step, "look": look}
ENGINE |= {"order": order, "tick": tick, "finish": finish}
THREADED = {"step_threaded": step_threaded}
for _function in (ENGINE | THREADED).values():
    keep(_function, SOURCES)


@cache
def machine_code(name: str):
    """The machine code of one of the functions above, for the arrays of any scenario.

    Numba's own call checks the types of all arguments each time, which takes as long as a tick of
    ten units. This machine code does not check them.
    """
    return load_threaded()[name] if name in THREADED else load_engine()[name]


@cache
def load_engine() -> dict:
    """Load all machine code from disk or compile it, so that each machine compiles only once."""
    types = types_of_arguments()
    with announced("the battle engine", ENGINE.values()):
        return {name: function.compile(types[name]) for name, function in ENGINE.items()}


@cache
def load_threaded() -> dict:
    """Like `load_engine`, for the threaded functions, which few programs need."""
    # A thread that has finished waits for the others by spinning. On a busy machine, it takes
    # their processor time: with the default setting, a step can become 100 times slower.
    # (The variable has no effect if OpenMP is loaded already.)
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    types = types_of_arguments()
    with announced("the battle engine for several threads", THREADED.values()):
        return {name: function.compile(types[name]) for name, function in THREADED.items()}


def types_of_arguments() -> dict[str, tuple]:
    """The argument types of each function above. They are the same for all scenarios."""
    options = {"walls": "upstream", "time_limit": 1, "agent_ids": False, "clock": False}
    world, start = build(load_map("3m"), **options)
    units = start.units[None]
    battles = np.zeros(1, BATTLE)
    seen = seen_of(world.rules[0], 1)
    numbers = np.zeros((1, 1), np.int64)
    rewards = np.zeros(1)
    arguments = {
        "restart": (world, start, units, battles, 0),
        "step": (world, units, battles, numbers, seen),
        "step_threaded": (1, world, units, battles, numbers, seen),
        "look": (world, units, battles, seen),
        "order": (world, units, numbers),
        "tick": (world, units, numbers, rewards),
        "finish": (world, units, battles, rewards),
    }
    return {name: tuple(map(typeof, values)) for name, values in arguments.items()}
