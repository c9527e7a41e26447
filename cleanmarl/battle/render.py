"""Pictures of a battle: the terrain from above, a disc for each unit with its health and shield around it.

Everything is drawn at `SUPER` times its size and scaled down once, which smooths all edges; terrain and discs are kept.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from cleanmarl.battle.scenario import Scenario
from cleanmarl.battle.world import HEAL, LASER, NOBODY

MAX_WIDTH, MAX_HEIGHT, MAX_CELL = 640, 560, 32  # pixels
SUPER, FINER = 3, 2  # the whole picture, and once more the discs
RIM = 1.0  # cells around the ground that can be reached
CAPTION = 28  # pixels

# Blue and vermilion of Okabe and Ito (2008), which people with any colour vision tell apart
ALLY, ENEMY = (0, 114, 178), (213, 94, 0)
FLOOR, GRID, WALL, HATCH, EDGE = (247, 244, 237), (238, 234, 224), (217, 211, 199), (208, 201, 187), (158, 149, 132)
OUTSIDE = (235, 230, 220)
INK, FAINT, GLYPH = (64, 60, 54), (168, 160, 146), (255, 255, 255)
SHIELD, HEALING, SHADOW = (142, 92, 200), (0, 148, 105), (60, 52, 40, 80)
STEPS_OF_BARS = 32  # a full arc has so many, so that few different discs need drawing
CROSS = "+"
GLYPHS = {"MARAUDER": "Ma", "MEDIVAC": CROSS, "ZERGLING": "z", "BANELING": "b"}  # others: the initials of their words


class Stage(NamedTuple):
    """The terrain of a scenario, and where its cells are in the picture."""

    background: Image.Image
    cell: float
    """side of a cell in pixels of the background"""
    left: float
    top: float
    """cell coordinates of the upper left corner; y grows to the north"""

    def at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self.left) * self.cell, (self.top - y) * self.cell


def draw(scenario: Scenario, units: np.ndarray, steps: int) -> np.ndarray:
    """The battle as a picture, [height, width, 3] uint8, of the same size in every step of a scenario.

    Args:
        units: [n_units] UNIT
        steps: environment steps since the start of the battle, for the caption
    """
    stage = _stage(scenario.blocked.shape, scenario.blocked.tobytes(), tuple(group.at for group in scenario.groups))
    image = stage.background.copy()
    pen = ImageDraw.Draw(image, "RGBA")
    glyphs = [_glyph(name) for name in scenario.kinds]
    living = units[units["alive"]]
    for unit in units[~units["alive"]]:
        _draw_fallen(pen, stage, unit)
    for unit in living:
        _draw_fire(pen, stage, unit, units)
    for unit in living[np.lexsort((-living["y"], living["plane"]))]:  # fliers last, the near in front of the far
        _draw_unit(image, pen, stage, unit, units, glyphs[unit["kind"]])
    small = image.reduce(SUPER)
    frame = Image.new("RGB", (small.width, small.height + CAPTION), FLOOR)
    frame.paste(small, (0, CAPTION))
    sides = [int((living["is_ally"] == ally).sum()) for ally in (True, False)]
    _draw_caption(frame, scenario.name, steps, *sides)
    return np.array(frame)


def _draw_fallen(pen: ImageDraw.ImageDraw, stage: Stage, unit: np.void):
    x, y = stage.at(unit["x"], unit["y"])
    r = 0.5 * unit["radius"] * stage.cell
    colour = (*_team(unit), 90)
    pen.line((x - r, y - r, x + r, y + r), colour, round(1.2 * SUPER))
    pen.line((x - r, y + r, x + r, y - r), colour, round(1.2 * SUPER))


def _draw_fire(pen: ImageDraw.ImageDraw, stage: Stage, unit: np.void, units: np.ndarray):
    """A line to the target in reach, strongest when the blow has just been struck; a laser's beam lies across it."""
    if unit["target"] == NOBODY:
        return
    target = units[unit["target"]]
    dx, dy = target["x"] - unit["x"], target["y"] - unit["y"]
    distance = math.hypot(dx, dy)
    healing, fresh = unit["attack"] == HEAL, unit["cooldown"] / max(unit["max_cooldown"], 1e-9)
    if distance > unit["range"] + unit["radius"] + target["radius"] or not (healing or fresh > 0):
        return
    colour = (*HEALING, 200) if healing else (*_team(unit), int(50 + 170 * fresh))
    x, y = stage.at(target["x"], target["y"])
    from_x, from_y = stage.at(unit["x"], unit["y"])
    across_x, across_y = (d / max(distance, 1e-9) for d in (dy, dx))  # in the picture
    side_x, side_y = SUPER * across_x, SUPER * across_y  # a pair that fights has two lines side by side
    ends = (from_x + side_x, from_y + side_y, x + side_x, y + side_y)
    pen.line(ends, colour, round((2 if healing else 1.3) * SUPER))
    if unit["attack"] == LASER:
        half = unit["beam_length"] / 2 * stage.cell
        ends = (x - half * across_x, y - half * across_y, x + half * across_x, y + half * across_y)
        pen.line(ends, colour, round(unit["beam_depth"] * stage.cell))


def _draw_unit(image: Image.Image, pen: ImageDraw.ImageDraw, stage: Stage, unit: np.void, units: np.ndarray, glyph: str):
    x, y = stage.at(unit["x"], unit["y"])
    r = unit["radius"].item() * stage.cell
    _draw_nose(pen, x, y, r, unit, units)
    hp, shield = (
        math.ceil(STEPS_OF_BARS * unit[f"{bar}"] / unit[f"max_{bar}"]) if unit[f"max_{bar}"] > 0 else 0
        for bar in ("hp", "shield")
    )
    disc = _disc(glyph, _team(unit), round(r, 2), hp, shield if unit["max_shield"] > 0 else None)
    corner = (round(x - disc.width / 2), round(y - disc.height / 2))
    if unit["plane"] == 1:
        shadow = _shadow(round(r, 2))
        at = round(x + 0.3 * stage.cell - shadow.width / 2), round(y + 0.45 * stage.cell - shadow.height / 2)
        image.paste(shadow, at, shadow)
    image.paste(disc, corner, disc)


def _draw_nose(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, unit: np.void, units: np.ndarray):
    """A point at the rim towards the target or, without one, where the unit is going."""
    if unit["target"] != NOBODY:
        target = units[unit["target"]]
        dx, dy = target["x"] - unit["x"], target["y"] - unit["y"]
    else:
        dx, dy = unit["vel_x"], unit["vel_y"]
    if dx == 0 and dy == 0:
        return
    angle, reach = math.atan2(-dy, dx), r + 0.25 * r + 2.5 * SUPER
    corners = [(reach, angle), (r, angle + 0.5), (r, angle - 0.5)]
    pen.polygon([(x + d * math.cos(a), y + d * math.sin(a)) for d, a in corners], _team(unit))


def _draw_caption(frame: Image.Image, name: str, steps: int, allies: int, enemies: int):
    pen = ImageDraw.Draw(frame)
    middle, width = CAPTION / 2, frame.width
    pen.text((10, middle), name, INK, _font(15), "lm")
    pen.text((width - 10, middle), f"step {steps}", FAINT, _font(13), "rm")
    for count, colour, side in ((allies, ALLY, -1), (enemies, ENEMY, 1)):
        colour = colour if count else FAINT
        x = width / 2 + side * 12
        pen.ellipse((x - 5, middle - 5, x + 5, middle + 5), colour)
        pen.text((x + side * 11, middle), str(count), colour, _font(15), "rm" if side < 0 else "lm")


def _team(unit: np.void) -> tuple[int, int, int]:
    return ALLY if unit["is_ally"] else ENEMY


def _glyph(kind: str) -> str:
    return GLYPHS.get(kind) or "".join(word[:1] for word in kind.split("_"))[:2].upper()


@lru_cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@lru_cache(maxsize=4096)
def _disc(glyph: str, team: tuple, radius: float, hp: int, shield: int | None) -> Image.Image:
    """A unit's disc, RGBA: its glyph, health as an arc at the rim and, where it has one, its shield around that."""
    r, pixel = radius * FINER, SUPER * FINER
    half = math.ceil(radius + 3 * SUPER) * FINER
    image = Image.new("RGBA", (2 * half, 2 * half), (*team, 0))
    pen = ImageDraw.Draw(image)
    pale = tuple(round(0.3 * c + 0.7 * f) for c, f in zip(team, FLOOR, strict=True))
    dark = tuple(round(0.62 * c) for c in team)

    def ring(outer: float, width: float, colour: tuple, part: float = 1):
        box = (half - outer, half - outer, half + outer, half + outer)
        pen.arc(box, -90, -90 + 360 * part, colour, max(1, round(width)))

    def circle(r: float, colour: tuple):
        pen.ellipse((half - r, half - r, half + r, half + r), colour)

    width = max(1.8 * pixel, 0.2 * r)
    if shield is not None:
        circle(r + 2.2 * pixel, (*FLOOR, 255))
        ring(r + 2.2 * pixel, 1.6 * pixel, SHIELD, shield / STEPS_OF_BARS)
    circle(r + 0.7 * pixel, (*FLOOR, 255))
    circle(r, pale)
    ring(r, width, dark, hp / STEPS_OF_BARS)
    circle(r - width, team)
    if glyph == CROSS:
        for a, b in ((0.5, 0.17), (0.17, 0.5)):
            pen.rectangle((half - a * r, half - b * r, half + a * r, half + b * r), GLYPH)
    else:
        size = (1.4 if len(glyph) == 1 else 1.1) * (r - width)
        pen.text((half, half), glyph, GLYPH, _font(size), "mm", stroke_width=pixel / 7)
    return image.reduce(FINER)


@lru_cache
def _shadow(radius: float) -> Image.Image:
    half = math.ceil(1.6 * radius)
    image = Image.new("RGBA", (2 * half, 2 * half), (*SHADOW[:3], 0))
    ImageDraw.Draw(image).ellipse((half - radius, half - radius, half + radius, half + radius), SHADOW)
    return image.filter(ImageFilter.GaussianBlur(radius / 5))


@lru_cache
def _stage(shape: tuple[int, int], cells: bytes, starts: tuple) -> Stage:
    """The terrain, cropped to the ground that can be reached from the groups' places and a rim around it."""
    blocked = np.frombuffer(cells, bool).reshape(shape)
    ground = _reachable(blocked, starts)
    ys, xs = np.nonzero(ground)
    left, right, bottom, top = xs.min() - RIM, xs.max() + 1 + RIM, ys.min() - RIM, ys.max() + 1 + RIM
    cell = float(min(MAX_WIDTH / (right - left), MAX_HEIGHT / (top - bottom), MAX_CELL))
    width, height = (2 * max(1, round(cell * n / 2)) for n in (right - left, top - bottom))  # even, as videos ask
    stage = Stage(Image.new("RGB", (width * SUPER, height * SUPER), OUTSIDE), cell * SUPER, float(left), float(top))
    _draw_terrain(stage, blocked)
    return stage


def _draw_terrain(stage: Stage, blocked: np.ndarray):
    """The floor with a grid of cells, the walls hatched, with rounded corners, an edge and a shadow."""
    image, cell = stage.background, stage.cell
    height, width = blocked.shape
    pen = ImageDraw.Draw(image)
    pen.rectangle((*stage.at(0, height), *stage.at(width, 0)), FLOOR)
    for x in range(1, width):
        pen.line((*stage.at(x, 0), *stage.at(x, height)), GRID, SUPER)
    for y in range(1, height):
        pen.line((*stage.at(0, y), *stage.at(width, y)), GRID, SUPER)
    wall = Image.new("L", image.size)
    for y, x in np.argwhere(blocked):
        ImageDraw.Draw(wall).rectangle((*stage.at(x, y + 1), *stage.at(x + 1, y)), 255)
    wall = wall.filter(ImageFilter.GaussianBlur(cell / 6)).point(lambda v: 255 if v > 127 else 0)
    shade = ImageChops.offset(wall, round(cell / 10), round(cell / 6)).filter(ImageFilter.GaussianBlur(cell / 6))
    image.paste(EDGE, (0, 0), shade.point(lambda v: v * 0.4))
    texture = Image.new("RGB", image.size, WALL)
    pen = ImageDraw.Draw(texture)
    for x in range(-image.height, image.width, 6 * SUPER):
        pen.line((x, image.height, x + image.height, 0), HATCH, SUPER)
    image.paste(texture, (0, 0), wall)
    edge = ImageChops.difference(wall, wall.filter(ImageFilter.MinFilter(2 * SUPER + 1)))
    image.paste(EDGE, (0, 0), edge)


def _reachable(blocked: np.ndarray, starts: tuple) -> np.ndarray:
    """[height, width] bool: the open cells that connect to a place in `starts` side by side."""
    reached, grown = np.zeros_like(blocked), np.zeros_like(blocked)
    for x, y in starts:
        grown[np.clip(int(y), 0, len(blocked) - 1), np.clip(int(x), 0, len(blocked[0]) - 1)] = True
    while (reached != grown).any():
        reached = grown.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= reached | ~blocked
    return reached
