"""Collision avoidance (ORCA) for one unit and one tick (section 10 of the rules).

ORCA is optimal reciprocal collision avoidance (van den Berg, Guy, Lin and Manocha: Reciprocal
n-body collision avoidance, 2011). It turns each wall edge and each neighbour into a half-plane of
allowed velocities, and takes the allowed velocity that is nearest to the preferred one. A
half-plane is a line: it allows the velocities w with `det(direction, point - w) <= 0`. All of it is
in double precision.
"""

import math
from typing import NamedTuple

import numpy as np

from cleanmarl.battle.jit import inlined

# A point, and a direction of length 1.
LINE = np.dtype([("px", "f8"), ("py", "f8"), ("dx", "f8"), ("dy", "f8")])

EPSILON = 1e-5
OVERLAP = 16.0  # overlapping units are to be apart after one tick


class Scratch(NamedTuple):
    """Working memory: `places` is filled once per tick, the rest for one unit after the other."""

    places: np.ndarray
    """[2, n_units] the units' x and y, in double precision"""
    far: np.ndarray
    """[n_units] bool: which units are out of this one's reach"""
    lines: np.ndarray
    """[4 * n_walls + n_units] LINE: this one's half-planes, for walls first, then for units"""
    projected: np.ndarray
    """the same space again, for `least_violation`"""


@inlined
def det(ax, ay, bx, by):
    return ax * by - ay * bx


@inlined
def take_places(units, scratch):
    """Note where the units are, in rows: so `unit_lines` can measure several distances at once."""
    for u in range(units.shape[0]):
        scratch.places[0, u], scratch.places[1, u] = units[u].x, units[u].y


@inlined
def new_velocity(units, u, rules, walls, near, near_walls, scratch):
    """The velocity of moving unit `u` for this tick."""
    lines = scratch.lines
    n_walls = wall_lines(units[u], rules, walls, near, near_walls, lines)
    n_lines = unit_lines(units, u, rules, scratch, n_walls)
    unit = units[u]
    speed = unit.speed
    stopped, x, y = closest_velocity(
        lines, n_lines, speed, unit.pref_x, unit.pref_y, unit.pref_single
    )
    if stopped < n_lines:
        x, y = least_violation(lines, n_walls, n_lines, stopped, speed, x, y, scratch.projected)
    return x, y


@inlined
def unit_lines(units, u, rules, scratch, count):
    """Half-planes for the units that (nearly) touch unit `u` (10.2), from number `count`.

    Returns the new count.
    """
    unit = units[u]
    x, y, plane = np.float64(unit.x), np.float64(unit.y), unit.plane
    reach = (rules.max_radius + unit.radius) ** 2
    xs, ys, far, lines = scratch.places[0], scratch.places[1], scratch.far, scratch.lines
    for o in range(units.shape[0]):  # no branch, so the compiler makes vector instructions of it
        far[o] = (xs[o] - x) ** 2 + (ys[o] - y) ** 2 > reach
    for o in range(units.shape[0]):
        other = units[o]
        if far[o] or o == u or other.plane != plane or not other.alive:
            continue
        zx, zy = xs[o] - x, ys[o] - y
        d2 = zx * zx + zy * zy
        yx, yy = unit.vel_x - other.vel_x, unit.vel_y - other.vel_y
        combined = unit.radius + other.radius
        touching = d2 <= combined * combined
        factor = OVERLAP if touching else 1.0
        wx, wy = yx - factor * zx, yy - factor * zy
        w2 = wx * wx + wy * wy
        ahead = wx * zx + wy * zy
        if touching or (ahead < 0 and ahead * ahead > combined * combined * w2):
            # project on the cut-off circle of the velocity obstacle
            norm = math.sqrt(w2)
            nx, ny = (wx / norm, wy / norm) if norm > 0 else (1.0, 0.0)
            dx, dy = ny, -nx
            k = factor * combined - norm
            kx, ky = k * nx, k * ny
        else:
            # project on a leg
            leg = math.sqrt(d2 - combined * combined)
            if det(zx, zy, wx, wy) > 0:
                dx, dy = (zx * leg - zy * combined) / d2, (zx * combined + zy * leg) / d2
            else:
                dx, dy = (-zx * leg - zy * combined) / d2, (zx * combined - zy * leg) / d2
            along = yx * dx + yy * dy
            kx, ky = along * dx - yx, along * dy - yy
        share = 0.5 if other.pref_x != 0 or other.pref_y != 0 else 1.0
        line = lines[count]
        line.px, line.py = unit.vel_x + share * kx, unit.vel_y + share * ky
        line.dx, line.dy = dx, dy
        count += 1
    return count


@inlined
def wall_lines(unit, rules, walls, near, near_walls, lines):
    """Half-planes for the wall edges within a second's reach of a ground unit (10.1).

    Returns their number.
    """
    if unit.plane != 0:
        return 0
    x, y = np.float64(unit.x), np.float64(unit.y)
    cell = rules.width * rules.height
    if 0 <= x < rules.width and 0 <= y < rules.height:
        cell = int(y) * rules.width + int(x)
    reach = (unit.radius + unit.speed) ** 2
    count = 0
    for n in range(near[cell, 0], near[cell, 1]):
        wall = walls[near_walls[n]]
        ex = max(0.0, abs(x - (wall.x0 + wall.x1) / 2) - (wall.x1 - wall.x0) / 2)
        ey = max(0.0, abs(y - (wall.y0 + wall.y1) / 2) - (wall.y1 - wall.y0) / 2)
        if ex * ex + ey * ey > reach:
            continue
        # Edges counter-clockwise from the south; a unit to the right of an edge is outside of it.
        if y < wall.y0:
            count = edge_line(
                unit, wall.x0, wall.y0, wall.x1, wall.y0, 1.0, 0.0, rules, lines, count
            )
        if x > wall.x1:
            count = edge_line(
                unit, wall.x1, wall.y0, wall.x1, wall.y1, 0.0, 1.0, rules, lines, count
            )
        if y > wall.y1:
            count = edge_line(
                unit, wall.x1, wall.y1, wall.x0, wall.y1, -1.0, 0.0, rules, lines, count
            )
        if x < wall.x0:
            count = edge_line(
                unit, wall.x0, wall.y1, wall.x0, wall.y0, 0.0, -1.0, rules, lines, count
            )
    return count


@inlined
def edge_line(unit, from_x, from_y, to_x, to_y, dir_x, dir_y, rules, lines, count):
    """Half-plane for one edge, if it makes one; returns the new number of lines."""
    r = unit.radius
    ax, ay = from_x - unit.x, from_y - unit.y
    bx, by = to_x - unit.x, to_y - unit.y
    for i in range(count):
        line = lines[i]
        if (
            det(ax - line.px, ay - line.py, line.dx, line.dy) - r >= -EPSILON
            and det(bx - line.px, by - line.py, line.dx, line.dy) - r >= -EPSILON
        ):
            return count  # an earlier line keeps the unit from this edge

    new = lines[count]
    # the next edge's direction (a quarter turn to the left), and the previous one's (to the right)
    next_x, next_y = -dir_y, dir_x
    before_x, before_y = dir_y, -dir_x
    length_x, length_y = to_x - from_x, to_y - from_y
    q = -(ax * length_x + ay * length_y) / (length_x * length_x + length_y * length_y)
    a2, b2 = ax * ax + ay * ay, bx * bx + by * by
    off_x, off_y = -ax - q * length_x, -ay - q * length_y
    line2 = off_x * off_x + off_y * off_y
    r2 = r * r

    # touching the edge already
    if q < 0 and a2 <= r2:
        norm = math.sqrt(a2)
        new.px, new.py, new.dx, new.dy = 0.0, 0.0, -ay / norm, ax / norm
        return count + 1
    if q > 1 and b2 <= r2:
        if det(bx, by, next_x, next_y) < 0:
            return count
        norm = math.sqrt(b2)
        new.px, new.py, new.dx, new.dy = 0.0, 0.0, -by / norm, bx / norm
        return count + 1
    if 0 <= q <= 1 and line2 <= r2:
        new.px, new.py, new.dx, new.dy = 0.0, 0.0, -dir_x, -dir_y
        return count + 1

    # the legs of the velocity obstacle; seen along the edge only its nearer end matters
    pointlike = line2 <= r2
    if pointlike and q < 0:
        bx, by, b2 = ax, ay, a2
        next_x, next_y = dir_x, dir_y
    elif pointlike:
        ax, ay, a2 = bx, by, b2
        dir_x, dir_y = next_x, next_y
    leg = math.sqrt(a2 - r2)
    left_x, left_y = (ax * leg - ay * r) / a2, (ax * r + ay * leg) / a2
    leg = math.sqrt(b2 - r2)
    right_x, right_y = (bx * leg + by * r) / b2, (-bx * r + by * leg) / b2
    # a neighbouring edge replaces a leg that points into it; that leg makes no line of its own
    left_foreign = det(left_x, left_y, -before_x, -before_y) >= 0
    if left_foreign:
        left_x, left_y = -before_x, -before_y
    right_foreign = det(right_x, right_y, next_x, next_y) <= 0
    if right_foreign:
        right_x, right_y = next_x, next_y

    # project the current velocity on the velocity obstacle: on one of its round ends ...
    vx, vy = unit.vel_x, unit.vel_y
    kx, ky = bx - ax, by - ay
    t = 0.5 if pointlike else ((vx - ax) * kx + (vy - ay) * ky) / (kx * kx + ky * ky)
    t_left = (vx - ax) * left_x + (vy - ay) * left_y
    t_right = (vx - bx) * right_x + (vy - by) * right_y
    at_a = (t < 0 and t_left < 0) or (pointlike and t_left < 0 and t_right < 0)
    if at_a or (t > 1 and t_right < 0):
        end_x, end_y = (ax, ay) if at_a else (bx, by)
        norm = math.sqrt((vx - end_x) ** 2 + (vy - end_y) ** 2)
        nx, ny = (vx - end_x) / norm, (vy - end_y) / norm
        new.px, new.py, new.dx, new.dy = end_x + r * nx, end_y + r * ny, ny, -nx
        return count + 1
    # ... or on the edge or a leg, whichever is nearest
    to_edge = to_left = to_right = math.inf
    if 0 <= t <= 1 and not pointlike:
        to_edge = (vx - (ax + t * kx)) ** 2 + (vy - (ay + t * ky)) ** 2
    if t_left >= 0:
        to_left = (vx - (ax + t_left * left_x)) ** 2 + (vy - (ay + t_left * left_y)) ** 2
    if t_right >= 0:
        to_right = (vx - (bx + t_right * right_x)) ** 2 + (vy - (by + t_right * right_y)) ** 2
    base_x, base_y = ax, ay
    if to_edge <= to_left and to_edge <= to_right:
        dx, dy = -dir_x, -dir_y
    elif to_left <= to_right:
        if left_foreign:
            return count
        dx, dy = left_x, left_y
    else:
        if right_foreign:
            return count
        dx, dy = -right_x, -right_y
        base_x, base_y = bx, by
    # The published algorithm offsets the line by the radius along its normal;
    # SMAClite uses -dy for both coordinates.
    new.px = base_x - r * dy
    new.py = base_y + r * (dx if rules.published_walls else -dy)
    new.dx, new.dy = dx, dy
    return count + 1


@inlined
def best_on_line(lines, i, speed, goal_x, goal_y, towards):
    """Best velocity on line `i` under the lines before it and the speed limit (LP1).

    Returns (found, x, y).
    """
    line = lines[i]
    s = line.px * line.dx + line.py * line.dy
    disc = s * s + speed * speed - (line.px * line.px + line.py * line.py)
    if disc < 0:
        return False, 0.0, 0.0
    root = math.sqrt(disc)
    t_low, t_high = -s - root, -s + root
    for k in range(i):
        other = lines[k]
        den = det(line.dx, line.dy, other.dx, other.dy)
        num = det(other.dx, other.dy, line.px - other.px, line.py - other.py)
        if abs(den) < EPSILON:
            if num < 0:
                return False, 0.0, 0.0
            continue
        t = num / den
        if den >= 0:
            t_high = min(t_high, t)
        else:
            t_low = max(t_low, t)
        if t_low > t_high:
            return False, 0.0, 0.0
    if towards:
        t = t_high if goal_x * line.dx + goal_y * line.dy > 0 else t_low
    else:
        t = line.dx * (goal_x - line.px) + line.dy * (goal_y - line.py)
        t = min(max(t, t_low), t_high)
    return True, line.px + t * line.dx, line.py + t * line.dy


@inlined
def add_lines(lines, count, speed, goal_x, goal_y, towards, x, y):
    """Mend velocity (x, y) line by line (LP2).

    Returns (number of the line that cannot be met or `count`, x, y).
    """
    for i in range(count):
        line = lines[i]
        if det(line.dx, line.dy, line.px - x, line.py - y) > 0:
            found, new_x, new_y = best_on_line(lines, i, speed, goal_x, goal_y, towards)
            if not found:
                return i, x, y
            x, y = new_x, new_y
    return count, x, y


@inlined
def closest_velocity(lines, count, speed, goal_x, goal_y, single):
    """The allowed velocity nearest to the goal.

    Returns (number of the line that cannot be met or `count`, x, y).
    """
    x, y = goal_x, goal_y
    if single:
        single_x, single_y = np.float32(goal_x), np.float32(goal_y)
        square = single_x * single_x + single_y * single_y
        if square > np.float32(speed * speed):
            norm = np.sqrt(square)
            x, y = (
                np.float64(single_x / norm * np.float32(speed)),
                np.float64(single_y / norm * np.float32(speed)),
            )
    elif x * x + y * y > speed * speed:
        norm = math.sqrt(x * x + y * y)
        x, y = x / norm * speed, y / norm * speed
    return add_lines(lines, count, speed, goal_x, goal_y, False, x, y)


@inlined
def least_violation(lines, n_walls, count, first, speed, x, y, projected):
    """Where no velocity meets all lines: the one that violates the unit lines least (LP3).

    It does not violate the lines of walls.
    """
    distance = 0.0
    for i in range(first, count):
        line = lines[i]
        if det(line.dx, line.dy, line.px - x, line.py - y) <= distance:
            continue
        for k in range(n_walls):
            projected[k] = lines[k]
        m = n_walls
        for k in range(n_walls, i):
            other = lines[k]
            delta = det(line.dx, line.dy, other.dx, other.dy)
            new = projected[m]
            if abs(delta) <= EPSILON:
                if line.dx * other.dx + line.dy * other.dy > 0:
                    continue
                new.px, new.py = (line.px + other.px) / 2, (line.py + other.py) / 2
            else:
                t = det(other.dx, other.dy, line.px - other.px, line.py - other.py) / delta
                new.px, new.py = line.px + t * line.dx, line.py + t * line.dy
            dx, dy = other.dx - line.dx, other.dy - line.dy
            norm = math.sqrt(dx * dx + dy * dy)
            new.dx, new.dy = dx / norm, dy / norm
            m += 1
        goal_x, goal_y = -line.dy, line.dx
        met, new_x, new_y = add_lines(
            projected, m, speed, goal_x, goal_y, True, speed * goal_x, speed * goal_y
        )
        if met == m:
            x, y = new_x, new_y
        distance = det(line.dx, line.dy, line.px - x, line.py - y)
    return x, y
