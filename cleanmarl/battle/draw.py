"""Draw the armies and their places at the start of a random battle, compiled by Numba.

The distributions are those of SMACv2 (Ellis et al., 2023). Random numbers come from the battle's
own stream.
"""

import math
from typing import NamedTuple

import numpy as np

from cleanmarl.battle.engine import next_random, random_below
from cleanmarl.battle.jit import inlined
from cleanmarl.battle.orca import cell_of
from cleanmarl.battle.world import FINEST, Start, World

ALLY, ENEMY = 0, 1  # as columns
DIAGONALS = 4
FROM_CENTRE = 2.0  # cells on each axis: the least distance of surrounding enemies from the centre


class Search(NamedTuple):
    """Everything that the search for a unit's place needs."""

    world: World
    start: Start
    turn: np.ndarray
    """[2] cosine and sine of the angle by which all spots of this battle are rotated"""
    standing: np.ndarray
    """[1 + n_units, 3] x, y and radius of the units placed so far; row 0 has their number"""
    tried: np.ndarray
    """[n_kinds] how many spots around the current place have no room for a unit of the kind"""
    sizes: np.ndarray
    """[DIAGONALS] number of enemies in each group that surrounds the allies"""
    diagonals: np.ndarray
    """[DIAGONALS] the diagonal of each of these groups"""


@inlined
def uniform(battle, low, high):
    return low + (high - low) * (next_random(battle) * 2.0**-32)


@inlined
def draw_start(units, battle, search):
    """Draw the armies and the places of all random groups."""
    turn = random_below(battle, 4)
    search.turn[0] = 1 - turn if turn % 2 == 0 else 0
    search.turn[1] = 2 - turn if turn % 2 == 1 else 0
    search.standing[0, 0] = 0
    for u in range(units.shape[0]):
        if units[u].alive:
            take_place(units[u], search.standing)
    groups = search.start.groups
    for g in range(groups.shape[0]):
        group = groups[g]
        if group.first_lot < group.end_lot:
            draw_armies(units, battle, group, search.start)
        how = uniform(battle, 0.0, 1.0)
        if how < group.reflected:
            reflect(units, battle, group, search)
        elif how < group.surrounded:
            surround(units, battle, group, search)
        else:
            for side in (ALLY, ENEMY):
                x, y = group.place[side, 0], group.place[side, 1]
                gather(units, group.first[side], group.count[side], x, y, search)


# Armies


@inlined
def become(units, u, kinds, kind):
    """Turn a unit into a kind of its side."""
    index = units[u].index
    units[u] = kinds[ALLY if units[u].is_ally else ENEMY, kind]
    units[u].index = index


@inlined
def draw_kinds(units, battle, first, end, group, start):
    """Draw the kinds of some units; draw again if all are of kinds that may not be alone.

    The kinds are drawn independently, so their order needs no shuffle.
    """
    again = first < end
    while again:
        for u in range(first, end):
            number = uniform(battle, 0.0, 1.0)
            n = group.first_lot
            while n < group.end_lot - 1 and number >= start.lots[n].below:
                n += 1
            become(units, u, start.kinds, start.lots[n].kind)
            again &= start.lots[n].not_alone


@inlined
def draw_armies(units, battle, group, start):
    """Draw the allies, and give the enemies the same army; draw the kinds of further enemies."""
    ally, enemy = group.first[ALLY], group.first[ENEMY]
    n_allies, n_enemies = group.count[ALLY], group.count[ENEMY]
    draw_kinds(units, battle, ally, ally + n_allies, group, start)
    same = min(n_allies, n_enemies)
    for i in range(same):
        become(units, enemy + i, start.kinds, units[ally + i].kind)
    draw_kinds(units, battle, enemy + same, enemy + n_enemies, group, start)


# Places


@inlined
def take_place(unit, standing):
    standing[0, 0] += 1
    n = int(standing[0, 0])
    standing[n, 0], standing[n, 1], standing[n, 2] = unit.x, unit.y, unit.radius


@inlined
def is_ground(unit, x, y, east, world):
    """Whether a place is on the map, west of `east`, and not in a wall (for ground units)."""
    rules = world.rules[0]
    if not (0 < x < east and 0 < y < rules.height):
        return False
    walks = rules.n_walls > 0 and unit.plane == 0
    return not (walks and world.cells[cell_of(x, y, rules)].blocked)


@inlined
def overlaps(unit, x, y, standing, n):
    dx, dy, apart = x - standing[n, 0], y - standing[n, 1], unit.radius + standing[n, 2]
    return dx * dx + dy * dy < apart * apart


@inlined
def in_the_way(unit, x, y, standing, guess):
    """The row of a placed unit that a unit at (x, y) would overlap; 0 if there is none."""
    if guess > 0 and overlaps(unit, x, y, standing, guess):
        return guess
    for n in range(int(standing[0, 0]), 0, -1):  # units placed last are the nearest
        if overlaps(unit, x, y, standing, n):
            return n
    return 0


@inlined
def stand(units, u, x, y, east, search):
    """Place a unit at (x, y) or, if there is no room, at the nearest free spot around it.

    If no spot is free, the unit is placed at (x, y).
    """
    unit, spots, cos, sin = units[u], search.start.spots, search.turn[0], search.turn[1]
    x, y = math.floor(x / FINEST) * FINEST, math.floor(y / FINEST) * FINEST
    n, found, other, at_x, at_y = search.tried[unit.kind], False, 0, x, y
    while n < spots.shape[0] and not found:
        at_x = x + cos * spots[n, 0] - sin * spots[n, 1]
        at_y = y + sin * spots[n, 0] + cos * spots[n, 1]
        if is_ground(unit, at_x, at_y, east, search.world):
            # Most often, the unit in the way is the same as at the previous spot.
            other = in_the_way(unit, at_x, at_y, search.standing, other)
            found = other == 0
        n += 1
    if not found:
        at_x, at_y = x, y
    unit.x = unit.start_x = at_x
    unit.y = unit.start_y = at_y
    unit.alive = True
    take_place(unit, search.standing)
    # A spot without room for this unit has no room for a larger one.
    kinds = search.start.kinds
    for kind in range(kinds.shape[1]):
        other = kinds[ALLY, kind]
        if other.radius >= unit.radius and other.plane <= unit.plane:
            search.tried[kind] = max(search.tried[kind], n)


@inlined
def stand_alone(units, u, x, y, east, search):
    """Like `stand`, for a unit with its own place."""
    search.tried[:] = 0
    stand(units, u, x, y, east, search)


@inlined
def gather(units, first, count, x, y, search):
    """Place units around one point."""
    search.tried[:] = 0
    for u in range(first, first + count):
        stand(units, u, x, y, search.world.rules[0].width, search)


@inlined
def reflect(units, battle, group, search):
    """Place allies at random in the west, enemies at their mirror images, the rest in the east."""
    rules = search.world.rules[0]
    width, half = float(rules.width), rules.width / 2
    n_allies = group.count[ALLY]
    for i in range(n_allies):
        u = group.first[ALLY] + i
        x, y = uniform(battle, 0.0, half - 1), uniform(battle, 0.0, rules.height)
        stand_alone(units, u, x, y, half - max(1.0, units[u].radius), search)
    for i in range(group.count[ENEMY]):
        u = group.first[ENEMY] + i
        if i < n_allies:
            ally = units[group.first[ALLY] + i]
            x, y = width - ally.x, float(ally.y)
        else:
            x, y = uniform(battle, half, width), uniform(battle, 0.0, rules.height)
        stand_alone(units, u, x, y, width, search)


@inlined
def surround(units, battle, group, search):
    """Place allies at the centre, enemies in one to four groups between centre and corners."""
    rules = search.world.rules[0]
    x, y = rules.width / 2, rules.height / 2
    gather(units, group.first[ALLY], group.count[ALLY], x, y, search)
    n_groups = 1 + random_below(battle, DIAGONALS)
    sizes, diagonals = search.sizes, search.diagonals
    sizes[:] = 0
    for _ in range(group.count[ENEMY]):
        sizes[random_below(battle, n_groups)] += 1
    for i in range(DIAGONALS):
        diagonals[i] = i
    first = group.first[ENEMY]
    for i in range(n_groups):
        other = i + random_below(battle, DIAGONALS - i)
        diagonal = diagonals[other]
        diagonals[other] = diagonals[i]
        east = 1 if diagonal % 2 == 1 else -1
        north = 1 if diagonal >= 2 else -1
        t = uniform(battle, 0.0, 1.0)
        at_x = t * (x + FROM_CENTRE * east) + (1 - t) * (x + x * east)
        at_y = t * (y + FROM_CENTRE * north) + (1 - t) * (y + y * north)
        gather(units, first, sizes[i], at_x, at_y, search)
        first += sizes[i]


@inlined
def set_attack_point(units):
    """Let enemies without an attack point march to the middle of the allies' places."""
    x = y = 0.0
    count = 0
    for u in range(units.shape[0]):
        if units[u].is_ally:
            x += units[u].x
            y += units[u].y
            count += 1
    for u in range(units.shape[0]):
        unit = units[u]
        if not unit.is_ally and math.isnan(unit.order_x):
            unit.order_x, unit.order_y = x / count, y / count
