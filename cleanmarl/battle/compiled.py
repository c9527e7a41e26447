"""The functions of the engine that Python calls. They are compiled once and then kept on disk.

Numba takes a function from its cache if the file that defines it is unchanged, without looking at
the files that it imports. So the functions here carry a digest of all compiled code, `SOURCES`, as
a free variable, which Numba makes part of the key of its cache. Whatever changes in these files,
they are compiled again.
"""

import hashlib
import sys
import time
from pathlib import Path

import numpy as np
from numba import njit, prange, typeof
from numba.core import event

from cleanmarl.battle import engine, observe, orca
from cleanmarl.battle.jit import inlined

COMPILED = ("jit.py", "world.py", "orca.py", "engine.py", "observe.py", "compiled.py")
TEXTS = [(Path(__file__).parent / name).read_bytes() for name in COMPILED]
SOURCES = hashlib.sha256(b"".join(TEXTS)).hexdigest()


class _Announcer(event.Listener):
    """Says on standard error that something is compiled, as soon as it begins."""

    began = None

    def on_start(self, happened):
        if self.began is None:
            self.began = time.perf_counter()
            say("compiling the battle engine (once on this machine, about 10 s) ...")

    def on_end(self, happened):
        pass


def announced(call):
    """`call()`, announcing any compilation that it causes and how long it took."""
    announcer = _Announcer()
    with event.install_listener("numba:compile", announcer):
        result = call()
    if announcer.began is not None:
        say(f"compiled the battle engine in {time.perf_counter() - announcer.began:.0f} s")
    return result


def say(text: str):
    print(text, file=sys.stderr, flush=True)


def code_of(function, *args):
    """Call the function, and return its machine code for arguments of these types, and only these.

    Numba's own call finds out the types of all arguments each time, which takes as long as a tick
    of ten units.
    """
    function(*args)
    return function.get_overload(tuple(typeof(arg) for arg in args))


@inlined
def find_unavailable(rules, blocked, units, battles, actions):
    """The first battle and agent whose action is not available, or (-1, -1).

    Battles that are over do not count.
    """
    for b in range(units.shape[0]):
        for u in range(units.shape[1] if not battles[b].over else 0):
            unit = units[b, u]
            if unit.is_ally and not engine.is_available(
                units[b], unit, actions[b, unit.index], rules, blocked
            ):
                return b, np.int64(unit.index)
    return -1, -1


@njit(error_model="numpy")
def make_scratch(n_walls, n_units):
    lines = np.empty((2, 4 * n_walls + n_units), orca.LINE)
    return orca.Scratch(np.empty((2, n_units)), np.empty(n_units, np.bool_), lines[0], lines[1])


@njit(error_model="numpy")
def step_battles(
    first, last, rules, damages, blocked, walls, near, near_walls,
    units, battles, actions, obs, state, avail,
):  # fmt: skip
    """One environment step of battles `first` to `last`; those that are over stay as they are."""
    rules, n_units = rules[0], units.shape[1]
    scratch = make_scratch(walls.shape[0], n_units)
    turns = np.empty(n_units, np.int64)
    allies = np.empty(rules.n_allies, np.int64)
    for b in range(first, last):
        if battles[b].over:
            continue
        engine.give_orders(units[b], actions[b], rules, blocked)
        reward = 0.0
        for _ in range(engine.TICKS_PER_STEP):
            count = engine.shuffle(units[b], battles[b], turns)
            reward += engine.tick(
                units[b], rules, damages, walls, near, near_walls, turns[:count], scratch
            )
        engine.finish_step(units[b], battles[b], rules, reward)
        observe.observe(units[b], rules, blocked, allies, obs[b], state[b], avail[b])


def _entry_points(sources):
    @njit(cache=True, nogil=True, error_model="numpy")
    def step(
        rules, damages, blocked, walls, near, near_walls,
        units, battles, actions, obs, state, avail,
    ):  # fmt: skip
        """One environment step of all battles, on this thread.

        Returns the first battle and agent whose action is not available (nothing has changed then),
        or (-1, -1).
        """
        sources  # noqa: B018
        bad = find_unavailable(rules[0], blocked, units, battles, actions)
        if bad[0] < 0:
            step_battles(
                0, units.shape[0], rules, damages, blocked, walls, near, near_walls,
                units, battles, actions, obs, state, avail,
            )  # fmt: skip
        return bad

    @njit(cache=True, nogil=True, parallel=True, error_model="numpy")
    def step_threaded(
        parts, rules, damages, blocked, walls, near, near_walls,
        units, battles, actions, obs, state, avail,
    ):  # fmt: skip
        """The same, with the battles divided into parts for as many threads."""
        sources  # noqa: B018
        bad = find_unavailable(rules[0], blocked, units, battles, actions)
        if bad[0] >= 0:
            return bad
        num = units.shape[0]
        for part in prange(parts):
            step_battles(
                part * num // parts, (part + 1) * num // parts, rules, damages, blocked,
                walls, near, near_walls, units, battles, actions, obs, state, avail,
            )  # fmt: skip
        return bad

    @njit(cache=True, nogil=True, error_model="numpy")
    def look(rules, blocked, units, obs, state, avail):
        """Observations, states and masks of all battles as they stand."""
        sources  # noqa: B018
        allies = np.empty(rules[0].n_allies, np.int64)
        for b in range(units.shape[0]):
            observe.observe(units[b], rules[0], blocked, allies, obs[b], state[b], avail[b])

    @njit(cache=True, error_model="numpy")
    def order(rules, blocked, units, actions):
        """Give the agents of all battles their orders, for replays."""
        sources  # noqa: B018
        for b in range(units.shape[0]):
            engine.give_orders(units[b], actions[b], rules[0], blocked)

    @njit(cache=True, error_model="numpy")
    def tick(rules, damages, walls, near, near_walls, units, turns, rewards):
        """One tick of each battle, for replays: `turns` [B, n_units] is padded with -1."""
        sources  # noqa: B018
        scratch = make_scratch(walls.shape[0], units.shape[1])
        for b in range(units.shape[0]):
            count = (turns[b] >= 0).sum()
            rewards[b] = engine.tick(
                units[b], rules[0], damages, walls, near, near_walls, turns[b, :count], scratch
            )

    @njit(cache=True, error_model="numpy")
    def finish(rules, units, battles, rewards):
        """Reward and end of a step of each battle, for replays."""
        sources  # noqa: B018
        for b in range(units.shape[0]):
            engine.finish_step(units[b], battles[b], rules[0], rewards[b])

    return step, step_threaded, look, order, tick, finish


step, step_threaded, look, order, tick, finish = _entry_points(SOURCES)
