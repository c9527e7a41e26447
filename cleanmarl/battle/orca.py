"""Collision avoidance (ORCA) for one unit and one tick (section 10 of the rules).

ORCA is optimal reciprocal collision avoidance (van den Berg, Guy, Lin and Manocha: Reciprocal
n-body collision avoidance, 2011). It turns each wall edge and each neighbour into a half-plane of
allowed velocities, and takes the allowed velocity that is nearest to the preferred one. A
half-plane is stored as a line: it allows the velocities w with `det(direction, point - w) <= 0`.
Everything is in double precision.
"""

import math
from typing import NamedTuple

import numpy as np

from cleanmarl.battle.jit import inlined

# A point and a unit direction
LINE = np.dtype([("px", "f8"), ("py", "f8"), ("dx", "f8"), ("dy", "f8")], align=True)

EPSILON = 1e-5
OVERLAP = 16.0  # overlapping units must be apart after one tick


class Scratch(NamedTuple):
    """Working memory: `places` is filled once per tick, the rest once for each unit."""

    places: np.ndarray
    """[2, n_units] the units' x and y, in double precision"""
    far: np.ndarray
    """[n_units] bool: whether a unit is too far from the current one to matter"""
    lines: np.ndarray
    """[4 * n_walls + n_units] LINE: half-planes of the current unit, first walls, then units"""
    projected: np.ndarray
    """a second array of the same size, for `least_violation`"""


class Edge(NamedTuple):
    """An edge of a wall, relative to a unit that stands on its right side."""

    ax: float
    """its start, relative to the unit"""
    ay: float
    bx: float
    """its end"""
    by: float
    dx: float
    """its direction; the next edge has direction (-dy, dx), the previous one (dy, -dx)"""
    dy: float
    length: float


class Obstacle(NamedTuple):
    """The velocities that lead a unit into an edge: between two legs, beyond both ends."""

    ax: float
    """the left end"""
    ay: float
    bx: float
    """the right end; equal to the left end if the edge points at the unit"""
    by: float
    pointlike: bool
    """whether the edge points at the unit, so that only its nearer end matters"""
    left_x: float
    """direction of the leg at the left end"""
    left_y: float
    right_x: float
    right_y: float
    left_foreign: bool
    """whether this leg belongs to the neighbouring edge, which makes its line"""
    right_foreign: bool


class Goal(NamedTuple):
    """The velocity to aim for."""

    x: float
    y: float
    far: bool
    """go as far as possible in the direction (x, y), not as near as possible to the point (x, y)"""
    speed: float
    """maximum speed"""


@inlined
def det(ax, ay, bx, by):
    return ax * by - ay * bx


@inlined
def take_places(units, scratch):
    """Copy the units' positions into rows, so that `unit_lines` can measure distances in bulk."""
    for u in range(units.shape[0]):
        scratch.places[0, u], scratch.places[1, u] = units[u].x, units[u].y


@inlined
def new_velocity(units, u, world, scratch):
    """The velocity of moving unit `u` for this tick."""
    unit = units[u]
    n_walls = wall_lines(unit, world, scratch.lines)
    n_lines = unit_lines(units, u, world.rules[0], scratch, n_walls)
    goal = Goal(unit.pref_x, unit.pref_y, False, unit.speed)
    stopped, x, y = closest_velocity(scratch.lines, n_lines, goal, unit.pref_single)
    if stopped < n_lines:
        x, y = least_violation(scratch, n_walls, n_lines, stopped, unit.speed, (x, y))
    return x, y


# Lines of walls (10.1)


@inlined
def cell_of(x, y, rules):
    """The number of the cell at a place; the last number stands for all places off the map."""
    if 0 <= x < rules.width and 0 <= y < rules.height:
        return int(y) * rules.width + int(x)
    return rules.width * rules.height


@inlined
def wall_lines(unit, world, lines):
    """Half-planes for the wall edges that a ground unit can reach within a second.

    Returns the number of half-planes.
    """
    if unit.plane != 0:
        return 0
    rules = world.rules[0]
    x, y = np.float64(unit.x), np.float64(unit.y)
    cell = world.cells[cell_of(x, y, rules)]
    reach = (unit.radius + unit.speed) ** 2
    count = 0
    for n in range(cell.begin, cell.end):
        wall = world.walls[n]
        width, height = wall.x1 - wall.x0, wall.y1 - wall.y0
        ex = max(0.0, abs(x - (wall.x0 + wall.x1) / 2) - width / 2)
        ey = max(0.0, abs(y - (wall.y0 + wall.y1) / 2) - height / 2)
        if ex * ex + ey * ey > reach:
            continue
        west, south, east, north = wall.x0 - x, wall.y0 - y, wall.x1 - x, wall.y1 - y
        # Edges counter-clockwise from the south; a unit to the right of an edge is outside.
        if y < wall.y0:
            edge = Edge(west, south, east, south, 1.0, 0.0, width)
            count = edge_line(unit, edge, rules, lines, count)
        if x > wall.x1:
            edge = Edge(east, south, east, north, 0.0, 1.0, height)
            count = edge_line(unit, edge, rules, lines, count)
        if y > wall.y1:
            edge = Edge(east, north, west, north, -1.0, 0.0, width)
            count = edge_line(unit, edge, rules, lines, count)
        if x < wall.x0:
            edge = Edge(west, north, west, south, 0.0, -1.0, height)
            count = edge_line(unit, edge, rules, lines, count)
    return count


@inlined
def edge_line(unit, edge, rules, lines, count):
    """Add the half-plane of an edge, if it has one; returns the new number of lines."""
    if is_kept_away(edge, unit.radius, lines, count):
        return count
    line = lines[count]
    touches, made = touching_line(edge, unit.radius, line)
    if not touches:
        obstacle = velocity_obstacle(edge, unit.radius)
        made = end_line(unit, obstacle, line)
        if not made:
            made = side_line(unit, edge, obstacle, rules.published_walls, line)
    return count + 1 if made else count


@inlined
def is_kept_away(edge, r, lines, count):
    """Whether an earlier line already keeps the unit away from this edge (step 2)."""
    for i in range(count):
        line = lines[i]
        if (
            det(edge.ax - line.px, edge.ay - line.py, line.dx, line.dy) - r >= -EPSILON
            and det(edge.bx - line.px, edge.by - line.py, line.dx, line.dy) - r >= -EPSILON
        ):
            return True
    return False


@inlined
def foot(edge):
    """The point of the edge's line that is nearest to the unit (step 3).

    Returns its position, from 0 at the start to 1 at the end, and its squared distance.
    """
    x, y = edge.length * edge.dx, edge.length * edge.dy
    q = -(edge.ax * x + edge.ay * y) / (x * x + y * y)
    off_x, off_y = -edge.ax - q * x, -edge.ay - q * y
    return q, off_x * off_x + off_y * off_y


@inlined
def touching_line(edge, r, line):
    """The line of a unit that already touches the edge (step 4).

    Returns whether it touches the edge, and whether there is a line.
    """
    q, distance2 = foot(edge)
    a2, b2 = edge.ax * edge.ax + edge.ay * edge.ay, edge.bx * edge.bx + edge.by * edge.by
    if q < 0 and a2 <= r * r:
        norm = math.sqrt(a2)
        line.dx, line.dy = -edge.ay / norm, edge.ax / norm
    elif q > 1 and b2 <= r * r:
        if det(edge.bx, edge.by, -edge.dy, edge.dx) < 0:
            return True, False
        norm = math.sqrt(b2)
        line.dx, line.dy = -edge.by / norm, edge.bx / norm
    elif 0 <= q <= 1 and distance2 <= r * r:
        line.dx, line.dy = -edge.dx, -edge.dy
    else:
        return False, False
    line.px = line.py = 0.0
    return True, True


@inlined
def velocity_obstacle(edge, r):
    """The ends and legs of the velocities that lead into an edge (steps 5 and 6)."""
    q, distance2 = foot(edge)
    ax, ay, bx, by = edge.ax, edge.ay, edge.bx, edge.by
    next_x, next_y = -edge.dy, edge.dx
    # If the edge points at the unit, only its nearer end matters.
    pointlike = distance2 <= r * r
    if pointlike and q < 0:
        bx, by = ax, ay
        next_x, next_y = edge.dx, edge.dy
    elif pointlike:
        ax, ay = bx, by
    a2, b2 = ax * ax + ay * ay, bx * bx + by * by
    # (Here a corner can be nearer than the radius only by rounding.)
    leg = math.sqrt(max(0.0, a2 - r * r))
    left_x, left_y = (ax * leg - ay * r) / a2, (ax * r + ay * leg) / a2
    leg = math.sqrt(max(0.0, b2 - r * r))
    right_x, right_y = (bx * leg + by * r) / b2, (-bx * r + by * leg) / b2
    # A neighbouring edge replaces a leg that points into it.
    left_foreign = det(left_x, left_y, -edge.dy, edge.dx) >= 0
    if left_foreign:
        left_x, left_y = -edge.dy, edge.dx
    right_foreign = det(right_x, right_y, next_x, next_y) <= 0
    if right_foreign:
        right_x, right_y = next_x, next_y
    return Obstacle(
        ax, ay, bx, by, pointlike, left_x, left_y, right_x, right_y, left_foreign, right_foreign
    )


@inlined
def velocity_along(unit, obstacle):
    """The unit's velocity along the edge (from 0 at its left end to 1) and along both legs."""
    ax, ay, bx, by = obstacle.ax, obstacle.ay, obstacle.bx, obstacle.by
    vx, vy = unit.vel_x, unit.vel_y
    t = 0.5
    if not obstacle.pointlike:
        kx, ky = bx - ax, by - ay
        t = ((vx - ax) * kx + (vy - ay) * ky) / (kx * kx + ky * ky)
    t_left = (vx - ax) * obstacle.left_x + (vy - ay) * obstacle.left_y
    t_right = (vx - bx) * obstacle.right_x + (vy - by) * obstacle.right_y
    return t, t_left, t_right


@inlined
def end_line(unit, obstacle, line):
    """The line of a velocity nearest to a round end (step 7); returns whether it is."""
    t, t_left, t_right = velocity_along(unit, obstacle)
    at_a = t < 0 and t_left < 0
    if obstacle.pointlike:
        at_a = t_left < 0 and t_right < 0
    if not at_a and not (t > 1 and t_right < 0):
        return False
    x, y = (obstacle.ax, obstacle.ay) if at_a else (obstacle.bx, obstacle.by)
    away_x, away_y = unit.vel_x - x, unit.vel_y - y
    norm = math.sqrt(away_x**2 + away_y**2)
    nx, ny = away_x / norm, away_y / norm
    line.px, line.py = x + unit.radius * nx, y + unit.radius * ny
    line.dx, line.dy = ny, -nx
    return True


@inlined
def side_line(unit, edge, obstacle, published, line):
    """The line of the edge or leg that is nearest to the velocity (step 8).

    Returns whether there is a line: a leg of a neighbouring edge makes none.
    """
    t, t_left, t_right = velocity_along(unit, obstacle)
    ax, ay, bx, by = obstacle.ax, obstacle.ay, obstacle.bx, obstacle.by
    vx, vy = unit.vel_x, unit.vel_y
    to_edge = to_left = to_right = math.inf
    if 0 <= t <= 1 and not obstacle.pointlike:
        to_edge = (vx - (ax + t * (bx - ax))) ** 2 + (vy - (ay + t * (by - ay))) ** 2
    if t_left >= 0:
        left_x, left_y = ax + t_left * obstacle.left_x, ay + t_left * obstacle.left_y
        to_left = (vx - left_x) ** 2 + (vy - left_y) ** 2
    if t_right >= 0:
        right_x, right_y = bx + t_right * obstacle.right_x, by + t_right * obstacle.right_y
        to_right = (vx - right_x) ** 2 + (vy - right_y) ** 2
    x, y, foreign = ax, ay, False
    if to_edge <= to_left and to_edge <= to_right:
        dx, dy = -edge.dx, -edge.dy
    elif to_left <= to_right:
        dx, dy, foreign = obstacle.left_x, obstacle.left_y, obstacle.left_foreign
    else:
        dx, dy, foreign = -obstacle.right_x, -obstacle.right_y, obstacle.right_foreign
        x, y = bx, by
    # The published algorithm offsets the line by the radius along its normal (-dy, dx);
    # SMAClite uses -dy for both coordinates.
    line.px = x - unit.radius * dy
    line.py = y + unit.radius * (dx if published else -dy)
    line.dx, line.dy = dx, dy
    return not foreign


# Lines of units (10.2)


@inlined
def unit_lines(units, u, rules, scratch, count):
    """Half-planes for the units that (nearly) touch unit `u`, stored from number `count` on.

    Returns the new count.
    """
    unit = units[u]
    x, y, plane = np.float64(unit.x), np.float64(unit.y), unit.plane
    reach = (rules.max_radius + unit.radius) ** 2
    xs, ys, far = scratch.places[0], scratch.places[1], scratch.far
    for o in range(units.shape[0]):  # no branch, so the compiler can vectorise it
        far[o] = (xs[o] - x) ** 2 + (ys[o] - y) ** 2 > reach
    for o in range(units.shape[0]):
        other = units[o]
        if far[o] or o == u or other.plane != plane or not other.alive:
            continue
        unit_line(unit, other, xs[o] - x, ys[o] - y, scratch.lines[count])
        count += 1
    return count


@inlined
def unit_line(unit, other, zx, zy, line):
    """Half-plane for a neighbour at (zx, zy) relative to the unit."""
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
        line.dx, line.dy = ny, -nx
        k = factor * combined - norm
        kx, ky = k * nx, k * ny
    else:
        # project on a leg
        leg = math.sqrt(d2 - combined * combined)
        if det(zx, zy, wx, wy) > 0:
            dx, dy = (zx * leg - zy * combined) / d2, (zx * combined + zy * leg) / d2
        else:
            dx, dy = (-zx * leg - zy * combined) / d2, (zx * combined - zy * leg) / d2
        line.dx, line.dy = dx, dy
        along = yx * dx + yy * dy
        kx, ky = along * dx - yx, along * dy - yy
    share = 0.5 if other.pref_x != 0 or other.pref_y != 0 else 1.0
    line.px, line.py = unit.vel_x + share * kx, unit.vel_y + share * ky


# The velocity (10.3)


@inlined
def best_on_line(lines, i, goal):
    """Best velocity on line `i` that satisfies the earlier lines and the speed limit (LP1).

    Returns (found, x, y).
    """
    line = lines[i]
    s = line.px * line.dx + line.py * line.dy
    disc = s * s + goal.speed * goal.speed - (line.px * line.px + line.py * line.py)
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
    if goal.far:
        t = t_high if goal.x * line.dx + goal.y * line.dy > 0 else t_low
    else:
        t = line.dx * (goal.x - line.px) + line.dy * (goal.y - line.py)
        t = min(max(t, t_low), t_high)
    return True, line.px + t * line.dx, line.py + t * line.dy


@inlined
def add_lines(lines, count, goal, x, y):
    """Correct velocity (x, y) line by line (LP2).

    Returns (number of the line that cannot be satisfied or `count`, x, y).
    """
    for i in range(count):
        line = lines[i]
        if det(line.dx, line.dy, line.px - x, line.py - y) > 0:
            found, new_x, new_y = best_on_line(lines, i, goal)
            if not found:
                return i, x, y
            x, y = new_x, new_y
    return count, x, y


@inlined
def closest_velocity(lines, count, goal, single):
    """The allowed velocity nearest to the goal, which may be in single precision.

    Returns (number of the line that cannot be satisfied or `count`, x, y).
    """
    x, y, speed = goal.x, goal.y, goal.speed
    if single:
        single_x, single_y = np.float32(x), np.float32(y)
        square = single_x * single_x + single_y * single_y
        if square > np.float32(speed * speed):
            norm = np.sqrt(square)
            x = np.float64(single_x / norm * np.float32(speed))
            y = np.float64(single_y / norm * np.float32(speed))
    elif x * x + y * y > speed * speed:
        norm = math.sqrt(x * x + y * y)
        x, y = x / norm * speed, y / norm * speed
    return add_lines(lines, count, goal, x, y)


@inlined
def least_violation(scratch, n_walls, count, first, speed, velocity):
    """If no velocity satisfies all lines: the one that violates the unit lines least (LP3).

    It satisfies the lines of walls.
    """
    lines, projected = scratch.lines, scratch.projected
    x, y = velocity
    distance = 0.0
    for i in range(first, count):
        line = lines[i]
        if det(line.dx, line.dy, line.px - x, line.py - y) <= distance:
            continue
        for k in range(n_walls):
            projected[k] = lines[k]
        m = n_walls
        for k in range(n_walls, i):
            if bisect(line, lines[k], projected[m]):
                m += 1
        goal = Goal(-line.dy, line.dx, True, speed)
        met, new_x, new_y = add_lines(projected, m, goal, speed * goal.x, speed * goal.y)
        if met == m:
            x, y = new_x, new_y
        distance = det(line.dx, line.dy, line.px - x, line.py - y)
    return x, y


@inlined
def bisect(line, other, new):
    """The line that bounds the velocities that violate `line` more than `other`.

    Returns whether there is one: two parallel lines of the same direction have none.
    """
    delta = det(line.dx, line.dy, other.dx, other.dy)
    if abs(delta) <= EPSILON:
        if line.dx * other.dx + line.dy * other.dy > 0:
            return False
        new.px, new.py = (line.px + other.px) / 2, (line.py + other.py) / 2
    else:
        t = det(other.dx, other.dy, line.px - other.px, line.py - other.py) / delta
        new.px, new.py = line.px + t * line.dx, line.py + t * line.dy
    dx, dy = other.dx - line.dx, other.dy - line.dy
    norm = math.sqrt(dx * dx + dy * dy)
    new.dx, new.dy = dx / norm, dy / norm
    return True
