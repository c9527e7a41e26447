"""Pictures of a battle: the terrain from above, and a disc for each unit.

Arcs around a disc show the unit's health and shield. Everything is drawn at `SUPER` times its size
and scaled down, which smooths all edges. Terrain and discs are cached.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from cleanmarl.battle.scenario import Scenario
from cleanmarl.battle.world import HEAL, LASER, NOBODY

MAX_WIDTH, MAX_HEIGHT, MAX_CELL, CAPTION = 640, 560, 48, 28  # pixels
SUPER, FINER = 3, 2  # enlargement of the whole picture, and further enlargement of discs
RIM = 1  # cells around the ground that can be reached
ARC = 32  # steps of a full arc: few, so that discs can be reused

# Blue and vermilion of Okabe and Ito, which people with any colour vision can tell apart.
ALLY, ENEMY = (0, 114, 178), (213, 94, 0)
FLOOR, GRID, OUTSIDE = (247, 244, 237), (238, 234, 224), (235, 230, 220)
WALL, HATCH, EDGE = (217, 211, 199), (208, 201, 187), (158, 149, 132)
INK, FAINT, WHITE = (64, 60, 54), (168, 160, 146), (255, 255, 255)
SHIELD, HEALING, SHADOW = (142, 92, 200), (0, 148, 105), (60, 52, 40, 14)
# Every other kind's glyph is the initials of its words.
GLYPHS = {"MARAUDER": "Ma", "MEDIVAC": "+", "ZERGLING": "z", "BANELING": "b"}


class Stage(NamedTuple):
    """The terrain of a scenario, pixels per cell, and the place of its upper left corner."""

    background: Image.Image
    cell: float
    left: float
    top: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """The pixel of a place; y grows to the north."""
        return (float(x) - self.left) * self.cell, (self.top - float(y)) * self.cell


def draw(scenario: Scenario, units: np.ndarray, steps: int) -> np.ndarray:
    """The battle as a picture, [height, width, 3] uint8. A scenario's pictures have one size.

    Args:
        units: [n_units] UNIT
        steps: environment steps since the start of the battle, for the caption
    """
    given = [group for group in scenario.groups if group.at]
    starts = tuple(group.place_of(side) for group in given for side in group.sides())
    stage = _stage(scenario.blocked.shape, scenario.blocked.tobytes(), starts)
    image = stage.background.copy()
    pen = ImageDraw.Draw(image, "RGBA")
    living, fallen = units[units["alive"]], units[~units["alive"]]
    for unit in fallen:
        (x, y), r = stage.at(unit["x"], unit["y"]), unit["radius"] / 2 * stage.cell
        for end in (r, -r):
            pen.line((x - r, y - end, x + r, y + end), (*_team(unit), 90), SUPER)
    for unit in living:
        _draw_fire(pen, stage, unit, units)
    kinds = list(scenario.kinds)
    # Draw flying units last, and southern units in front of northern ones.
    for unit in living[np.lexsort((-living["y"], living["plane"]))]:
        _draw_unit(image, pen, stage, unit, units, kinds[unit["kind"]])
    n_allies = int(living["is_ally"].sum())
    _draw_caption(pen, image.width, scenario.name, steps, n_allies, len(living) - n_allies)
    return np.array(image.reduce(SUPER))


def _draw_fire(pen, stage: Stage, unit: np.void, units: np.ndarray):
    """Draw a line to the target if it is in range: strong after a blow, then fading.

    A laser's beam crosses the line.
    """
    target, healing = units[unit["target"]], unit["attack"] == HEAL
    (x0, y0), (x1, y1) = stage.at(unit["x"], unit["y"]), stage.at(target["x"], target["y"])
    distance = math.hypot(x1 - x0, y1 - y0)
    reach = (unit["range"] + unit["radius"] + target["radius"]) * stage.cell
    in_reach = unit["target"] != NOBODY and 0 < distance <= reach
    if not in_reach or (unit["cooldown"] == 0 and not healing):
        return
    if healing:
        colour = (*HEALING, 200)
    else:
        colour = (*_team(unit), int(50 + 170 * unit["cooldown"] / unit["max_cooldown"]))
    # Shift to the right, so that the lines of two opponents stay apart.
    dx, dy = (y0 - y1) / distance, (x1 - x0) / distance
    aside_x, aside_y = SUPER * dx, SUPER * dy
    line = (x0 + aside_x, y0 + aside_y, x1 + aside_x, y1 + aside_y)
    pen.line(line, colour, round(SUPER * (2 if healing else 1.3)))
    if unit["attack"] == LASER:
        half = unit["beam_length"] / 2 * stage.cell
        beam = (x1 - half * dx, y1 - half * dy, x1 + half * dx, y1 + half * dy)
        pen.line(beam, (*colour[:3], colour[3] // 2), round(unit["beam_depth"] * stage.cell))


def _draw_unit(image: Image.Image, pen, stage: Stage, unit: np.void, units: np.ndarray, kind: str):
    """Draw the disc, a nose, and a shadow if the unit flies.

    The nose points at the target or, without a target, in the direction of movement.
    """
    (x, y), r = stage.at(unit["x"], unit["y"]), float(unit["radius"]) * stage.cell
    if unit["plane"] == 1:
        low_x, low_y = x + 0.3 * stage.cell, y + 0.45 * stage.cell
        for size in np.linspace(0.8, 1.2, 9) * r:
            pen.ellipse((low_x - size, low_y - size, low_x + size, low_y + size), SHADOW)
    shield = math.ceil(ARC * unit["shield"] / unit["max_shield"]) if unit["max_shield"] else None
    disc = _disc(kind, _team(unit), r, math.ceil(ARC * unit["hp"] / unit["max_hp"]), shield)
    image.paste(disc, (round(x - disc.width / 2), round(y - disc.height / 2)), disc)
    to_x, to_y = unit["vel_x"], unit["vel_y"]
    if unit["target"] != NOBODY:
        target = units[unit["target"]]
        to_x, to_y = target["x"] - unit["x"], target["y"] - unit["y"]
    if to_x or to_y:
        angle, tip = math.atan2(-to_y, to_x), 1.15 * r + (2.5 if shield is None else 4) * SUPER
        corners = ((tip, angle), (r, angle + 0.4), (r, angle - 0.4))
        pen.polygon([(x + d * math.cos(a), y + d * math.sin(a)) for d, a in corners], _team(unit))


def _draw_caption(pen, width: int, name: str, steps: int, n_allies: int, n_enemies: int):
    """Draw the map's name, the number of living units of each side (0 is grey), and the step."""
    unit, y = SUPER, CAPTION * SUPER / 2
    pen.rectangle((0, 0, width, 2 * y - 1), FLOOR)
    pen.text((10 * unit, y), name, INK, _font(15 * unit), "lm")
    pen.text((width - 10 * unit, y), f"step {steps}", FAINT, _font(13 * unit), "rm")
    counts = ((n_allies, ALLY, -unit, "rm"), (n_enemies, ENEMY, unit, "lm"))
    for count, colour, side, anchor in counts:
        x, r, colour = width / 2 + 12 * side, 5 * unit, colour if count else FAINT
        pen.ellipse((x - r, y - r, x + r, y + r), colour)
        pen.text((x + 11 * side, y), str(count), colour, _font(15 * unit), anchor)


def _team(unit: np.void) -> tuple[int, int, int]:
    return ALLY if unit["is_ally"] else ENEMY


@lru_cache(maxsize=64)
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def _disc(kind: str, team: tuple, radius: float, hp: int, shield: int | None) -> Image.Image:
    """The disc of a unit, RGBA: its glyph, an arc of health at the rim, an arc of shield outside.

    Args:
        team: RGB, 0 to 255
        radius: in pixels of the background
        hp, shield: 0 to `ARC`; shield is None for a unit without a shield
    """
    r, pixel, middle = radius * FINER, SUPER * FINER, math.ceil(radius + 3 * SUPER) * FINER
    image = Image.new("RGBA", (2 * middle, 2 * middle), (*team, 0))
    pen = ImageDraw.Draw(image)

    def circle(radius: float) -> tuple[float, float, float, float]:
        return middle - radius, middle - radius, middle + radius, middle + radius

    outer, width = r + 2.2 * pixel, min(max(1.8 * pixel, 0.2 * r), 0.5 * r)
    pen.ellipse(circle(r + 0.7 * pixel if shield is None else outer), FLOOR)
    if shield:
        pen.arc(circle(outer), -90, -90 + 360 * shield / ARC, SHIELD, round(1.6 * pixel))
    pen.ellipse(circle(r), tuple((3 * c + 7 * f) // 10 for c, f in zip(team, FLOOR, strict=True)))
    pen.arc(circle(r), -90, -90 + 360 * hp / ARC, tuple(6 * c // 10 for c in team), round(width))
    pen.ellipse(circle(r - width), team)
    glyph = GLYPHS.get(kind) or "".join(word[:1] for word in kind.split("_"))[:2].upper()
    if glyph == "+":
        for a, b in ((0.5 * r, 0.17 * r), (0.17 * r, 0.5 * r)):
            pen.rectangle((middle - a, middle - b, middle + a, middle + b), WHITE)
    else:
        size = (1.4 if len(glyph) == 1 else 1.1) * (r - width)
        pen.text((middle, middle), glyph, WHITE, _font(max(1, size)), "mm", stroke_width=pixel / 7)
    return image.reduce(FINER)


@lru_cache(maxsize=8)
def _stage(shape: tuple[int, int], cells: bytes, starts: tuple[tuple[float, float], ...]) -> Stage:
    """The terrain, cropped to the ground that the groups can reach, plus a rim."""
    blocked = np.frombuffer(cells, bool).reshape(shape)
    ground = Image.fromarray(blocked.astype(np.uint8)).copy()
    for x, y in starts:
        if 0 <= x < shape[1] and 0 <= y < shape[0] and not blocked[int(y), int(x)]:
            ImageDraw.floodfill(ground, (int(x), int(y)), 2)
    all_of_it = (0, 0, shape[1], shape[0])
    left, bottom, right, top = ground.point(lambda v: v == 2).getbbox() or all_of_it
    left, bottom, right, top = left - RIM, bottom - RIM, right + RIM, top + RIM
    cell = min(MAX_WIDTH / (right - left), MAX_HEIGHT / (top - bottom), MAX_CELL)
    # Video encoders need even sizes.
    width, height = (2 * max(1, round(cell * n / 2)) * SUPER for n in (right - left, top - bottom))
    image = Image.new("RGB", (width, height + CAPTION * SUPER), OUTSIDE)
    stage = Stage(image, cell * SUPER, left, top + CAPTION / cell)
    _draw_terrain(stage, blocked)
    return stage


def _draw_terrain(stage: Stage, blocked: np.ndarray):
    """Draw the floor with a grid of cells, and the walls.

    Walls are hatched and have round corners, an edge and a soft shadow.
    """
    image, cell = stage.background, stage.cell
    wall, texture = Image.new("L", image.size), Image.new("RGB", image.size, WALL)
    pen, wall_pen, texture_pen = (ImageDraw.Draw(picture) for picture in (image, wall, texture))
    for y, x in np.ndindex(blocked.shape):
        box = (*stage.at(x, y + 1), *stage.at(x + 1, y))
        pen.rectangle(box, FLOOR, GRID, 2)
        if blocked[y, x]:
            wall_pen.rectangle(box, 255)
    wall = wall.filter(ImageFilter.GaussianBlur(cell / 6)).point(lambda v: 255 * (v > 127))
    shade = ImageChops.offset(wall, round(cell / 10), round(cell / 6))
    shade = shade.filter(ImageFilter.GaussianBlur(cell / 6))
    image.paste(EDGE, None, shade.point(lambda v: 0.4 * v))
    for x in range(-image.height, image.width, 6 * SUPER):
        texture_pen.line((x, image.height, x + image.height, 0), HATCH, SUPER)
    image.paste(texture, None, wall)
    inside = wall.filter(ImageFilter.MinFilter(2 * SUPER + 1))
    image.paste(EDGE, None, ImageChops.difference(wall, inside))
