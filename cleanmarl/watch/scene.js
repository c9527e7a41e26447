// The scene: a battle, drawn from the records of its units, or pictures of another environment.

import { at, length, shown } from "./data.js";
import { colour, pen } from "./dom.js";

const ROOM = 1.6; // cells around the units
const WIDEST = 64; // pixels of a cell
const TURN = 2 * Math.PI;
const MOVES = { north: [0, 1], south: [0, -1], east: [1, 0], west: [-1, 0] };
const GLYPHS = { marauder: "Ma", medivac: "+", zergling: "z", baneling: "b" };

/** The scene of an episode: `draw(time, agent)`, `agentAt(x, y)`, `describe(t)`. */
export function makeScene(canvas, episode) {
  if (episode.scene.units) return new Battle(canvas, episode);
  if (episode.scene.pictures) return pictures(canvas, episode);
  return null;
}

async function pictures(canvas, episode) {
  const files = episode.scene.pictures.map((file) =>
    new Blob([file.values], { type: "image/webp" })
  );
  const images = await Promise.all(files.map((file) => createImageBitmap(file)));
  return {
    draw(time) {
      const image = images[Math.min(images.length - 1, Math.floor(time + 0.5))];
      const width = canvas.clientWidth;
      const height = canvas.clientHeight;
      const scale = Math.min(width / image.width, height / image.height);
      const context = pen(canvas, width, height);
      context.imageSmoothingQuality = "high";
      const [w, h] = [image.width * scale, image.height * scale];
      context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
    },
    agentAt: () => undefined,
    describe: () => "Picture of the environment.",
    shape: images[0].width / images[0].height,
  };
}

/** A battle: the records of its units, and how to draw them on a canvas. */
class Battle {
  constructor(canvas, episode) {
    this.canvas = canvas;
    this.episode = episode;
    this.units = episode.scene.units;
    this.moving = episode.scene.moving;
    this.steps = length(episode);
    this.box = bounds(this.units, this.moving, this.steps, episode.scene.blocked);
    this.shape = this.box.width / this.box.height;
  }

  numberOf(ally, index) {
    return this.units.findIndex((unit) => unit.ally === ally && unit.index === index);
  }

  alive(t, u) {
    return at(this.moving.alive, t, u) > 0;
  }

  life(t, u) {
    return this.alive(t, u) ? at(this.moving.hp, t, u) + at(this.moving.shield, t, u) : 0;
  }

  /** Health and shield that a unit loses in step t. */
  loss(t, u) {
    if (t < 0 || t >= this.steps) return 0;
    return Math.max(0, this.life(t, u) - this.life(t + 1, u));
  }

  /** A field of a unit, interpolated between two steps. */
  blend(name, time, u) {
    const t = Math.min(this.steps, Math.floor(time));
    const next = Math.min(this.steps, t + 1);
    const part = time - t;
    return at(this.moving[name], t, u) * (1 - part) + at(this.moving[name], next, u) * part;
  }

  /** The order of a unit at step t: a target, or a direction to move. */
  order(t, u) {
    const { ally, index } = this.units[u];
    if (t >= this.steps || !this.alive(t, u)) return {};
    if (!ally) {
      const later = at(this.moving.target, t + 1, u);
      return { target: later >= 0 ? later : at(this.moving.target, t, u) };
    }
    const name = this.episode.actions[index][at(this.episode.chosen, t, index)];
    const [verb, side, number] = name.split(" ");
    if (number !== undefined) return { target: this.numberOf(side === "ally", Number(number)) };
    return { move: MOVES[verb] };
  }

  /** Scales from the map to the canvas; y grows to the north. */
  view() {
    const { canvas, box } = this;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const cell = Math.min(width / box.width, height / box.height, WIDEST);
    const x = (east) => width / 2 + (east - box.left - box.width / 2) * cell;
    const y = (north) => height / 2 - (north - box.bottom - box.height / 2) * cell;
    return { cell, width, height, x, y };
  }

  place(view, time, u) {
    return [view.x(this.blend("x", time, u)), view.y(this.blend("y", time, u))];
  }

  /** Draw a moment, which may lie between two steps. */
  draw(time, agent) {
    const view = this.view();
    view.context = pen(this.canvas, view.width, view.height);
    const t = Math.min(this.steps, Math.floor(time));
    const look = (u) => ({
      unit: this.units[u],
      place: this.place(view, time, u),
      size: Math.max(this.units[u].radius * view.cell, 5),
    });
    const every = this.units.map((_, u) => u);
    const living = every.filter((u) => this.alive(t, u));
    const eye = this.numberOf(true, agent);
    const { blocked, sight, reach } = this.episode.scene;

    drawGround(view, blocked);
    if (this.alive(t, eye)) drawSight(view, look(eye).place, sight, reach);
    for (const u of every) if (!this.alive(t, u)) drawFallen(view, look(u));
    for (const u of living) this.drawAim(view, look, t, time, u);
    const height = (u) => this.units[u].plane * 1e6 + look(u).place[1];
    living.sort((one, other) => height(one) - height(other));
    for (const u of living) this.drawLiving(view, look(u), t, time, u, u === eye);
    if (this.alive(t, eye)) drawChoice(view, look(eye));
    view.crowded = view.cell < 26 || living.length > 14;
    for (const u of every) this.drawLoss(view, look(u), t, time - t, u);
  }

  drawAim(view, look, t, time, u) {
    const { target } = this.order(t, u);
    if (!(target >= 0) || !this.alive(t, target)) return;
    const strength = 0.35 + 0.65 * this.blend("cooldown", time, u);
    drawAim(view, look(u), look(target), strength);
  }

  drawLiving(view, look, t, time, u, chosen) {
    const { unit } = look;
    const dies = !this.alive(Math.min(this.steps, t + 1), u);
    view.context.globalAlpha = dies ? 1 - 0.8 * (time - t) : 1;
    const health = this.blend("hp", time, u) / unit.max_hp;
    const shield = unit.max_shield ? this.blend("shield", time, u) / unit.max_shield : undefined;
    drawUnit(view, look, health, shield, chosen);
    const { move } = this.order(t, u);
    if (move) drawMove(view, look, move);
    view.context.globalAlpha = 1;
  }

  /** Hits of the previous step fade while hits of this step appear. */
  drawLoss(view, look, t, part, u) {
    const before = this.loss(t - 1, u);
    const now = this.loss(t, u);
    if (before > 0) drawHurt(view, look, before, Math.max(0, 1 - 2 * part), 1 + part);
    if (now > 0 && part > 0) drawHurt(view, look, now, part, part);
  }

  /** The agent at a place of the canvas, if there is one. */
  agentAt(x, y, time) {
    const view = this.view();
    const near = this.units.flatMap((unit, u) => {
      const [ux, uy] = this.place(view, time, u);
      return unit.ally ? [{ agent: unit.index, distance: Math.hypot(ux - x, uy - y) }] : [];
    });
    near.sort((one, other) => one.distance - other.distance);
    return near[0].distance < Math.max(18, 0.8 * view.cell) ? near[0].agent : undefined;
  }

  /** The battle at a step, in words. */
  describe(t) {
    const lines = this.units.map((unit, u) => {
      const name = `${unit.ally ? "ally" : "enemy"} ${unit.kind} ${unit.index}`;
      if (!this.alive(t, u)) return `${name} is dead`;
      const health = `health ${shown(at(this.moving.hp, t, u), 0)} of ${unit.max_hp}`;
      const shield = shown(at(this.moving.shield, t, u), 0);
      const { target } = this.order(t, u);
      const other = this.units[target];
      const more = unit.max_shield ? [`shield ${shield}`] : [];
      if (other) more.push(`aims at ${other.kind} ${other.index}`);
      return `${name}: ${[health, ...more].join(", ")}`;
    });
    return `${lines.join("; ")}.`;
  }
}

/** The part of the map that units visit. */
function bounds(units, moving, steps, blocked) {
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let t = 0; t <= steps; t++) {
    for (let u = 0; u < units.length; u++) {
      if (!at(moving.alive, t, u)) continue;
      left = Math.min(left, at(moving.x, t, u));
      right = Math.max(right, at(moving.x, t, u));
      bottom = Math.min(bottom, at(moving.y, t, u));
      top = Math.max(top, at(moving.y, t, u));
    }
  }
  const [height, width] = blocked.shape;
  left = Math.max(-1, left - ROOM);
  right = Math.min(width + 1, right + ROOM);
  bottom = Math.max(-1, bottom - ROOM);
  top = Math.min(height + 1, top + ROOM);
  return { left, bottom, width: right - left, height: top - bottom };
}

function team(unit) {
  return colour(unit.ally ? "ally" : "enemy");
}

/** The floor with its cells, and the walls. */
function drawGround({ context, cell, width, height, x, y }, blocked) {
  const [rows, columns] = blocked.shape;
  const wall = (i, j) => i < 0 || j < 0 || i >= rows || j >= columns || at(blocked, i, j);
  context.fillStyle = colour("wall");
  context.fillRect(0, 0, width, height);
  context.fillStyle = colour("floor");
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      if (!wall(i, j)) context.fillRect(x(j) - 0.5, y(i + 1) - 0.5, cell + 1, cell + 1);
    }
  }
  context.lineWidth = 1;
  context.strokeStyle = colour("cells");
  context.beginPath();
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      if (wall(i, j)) continue;
      if (!wall(i, j - 1)) segment(context, x(j), y(i), x(j), y(i + 1));
      if (!wall(i - 1, j)) segment(context, x(j), y(i), x(j + 1), y(i));
    }
  }
  context.stroke();
  context.strokeStyle = colour("edge");
  context.lineWidth = 1.5;
  context.beginPath();
  for (let i = 0; i <= rows; i++) {
    for (let j = 0; j <= columns; j++) {
      const here = Boolean(wall(i, j));
      if (here !== Boolean(wall(i, j - 1))) segment(context, x(j), y(i), x(j), y(i + 1));
      if (here !== Boolean(wall(i - 1, j))) segment(context, x(j), y(i), x(j + 1), y(i));
    }
  }
  context.stroke();
}

function segment(context, x0, y0, x1, y1) {
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
}

/** Circles of sight and of possible targets around the chosen agent. */
function drawSight({ context, cell }, [x, y], sight, reach) {
  context.strokeStyle = colour("ink-soft");
  context.lineWidth = 1.2;
  context.setLineDash([2, 4]);
  disc(context, x, y, reach * cell);
  context.stroke();
  context.setLineDash([7, 5]);
  disc(context, x, y, sight * cell);
  context.stroke();
  context.setLineDash([]);
  context.save();
  context.globalAlpha = 0.06;
  context.fillStyle = colour("ally");
  context.fill();
  context.restore();
}

function disc(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, TURN);
}

function drawFallen({ context }, { unit, place: [x, y], size }) {
  const r = 0.55 * size;
  context.save();
  context.globalAlpha = 0.45;
  context.strokeStyle = team(unit);
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(x - r, y - r);
  context.lineTo(x + r, y + r);
  context.moveTo(x - r, y + r);
  context.lineTo(x + r, y - r);
  context.stroke();
  context.restore();
}

/** A line to the target, strong after a blow, then fading. */
function drawAim({ context }, from, to, strength) {
  const { unit, place: [x0, y0] } = from;
  const { place: [x1, y1] } = to;
  const distance = Math.hypot(x1 - x0, y1 - y0);
  if (distance < from.size + to.size) return;
  const [dx, dy] = [(x1 - x0) / distance, (y1 - y0) / distance];
  // shifted to the right, so that the lines of two opponents stay apart
  const [ax, ay] = [-2.5 * dy, 2.5 * dx];
  const [sx, sy] = [x0 + dx * (from.size + 3) + ax, y0 + dy * (from.size + 3) + ay];
  const [ex, ey] = [x1 - dx * (to.size + 6) + ax, y1 - dy * (to.size + 6) + ay];
  context.save();
  context.globalAlpha *= strength;
  context.strokeStyle = context.fillStyle = unit.heals ? colour("heal") : team(unit);
  context.lineWidth = unit.heals ? 2.5 : 1.6;
  context.beginPath();
  context.moveTo(sx, sy);
  context.lineTo(ex, ey);
  context.stroke();
  context.beginPath();
  context.moveTo(ex + 5 * dx, ey + 5 * dy);
  context.lineTo(ex - 3.5 * dy - dx, ey + 3.5 * dx - dy);
  context.lineTo(ex + 3.5 * dy - dx, ey - 3.5 * dx - dy);
  context.fill();
  context.restore();
}

/** A disc with the kind's glyph, rings of health and shield, and the unit's number. */
function drawUnit({ context, cell }, { unit, place: [x, y], size }, health, shield, chosen) {
  const hue = team(unit);
  const thick = Math.max(2, 0.17 * size);
  if (unit.plane === 1) {
    context.save();
    context.globalAlpha *= 0.16;
    context.fillStyle = "#000";
    context.beginPath();
    context.ellipse(x + 0.25 * cell, y + 0.55 * cell, size, 0.8 * size, 0, 0, TURN);
    context.fill();
    context.restore();
  }
  if (chosen) {
    context.fillStyle = colour("halo");
    disc(context, x, y, size + 2.5 * thick + 5);
    context.fill();
  }
  context.fillStyle = colour("floor");
  disc(context, x, y, size + (shield === undefined ? thick + 2 : 2 * thick + 3));
  context.fill();
  context.fillStyle = hue;
  if (unit.ally) disc(context, x, y, size - 1);
  else diamond(context, x, y, size - 0.5);
  context.fill();
  arc(context, x, y, size + thick / 2 + 0.5, thick, health, hue);
  if (shield !== undefined) {
    arc(context, x, y, size + 1.5 * thick + 1.5, thick * 0.8, shield, colour("shield"));
  }
  drawGlyph(context, unit, x, y, size);
  if (cell >= 16) {
    const far = size + (shield === undefined ? thick : 2 * thick) + 2;
    drawNumber(context, unit, x + 0.75 * far, y + 0.75 * far, cell);
  }
}

/** A hexagon for enemies, so that the sides also differ in shape. */
function diamond(context, x, y, r) {
  context.beginPath();
  for (let corner = 0; corner < 6; corner++) {
    const angle = (corner * TURN) / 6 + TURN / 12;
    context.lineTo(x + r * Math.cos(angle), y + r * Math.sin(angle));
  }
  context.closePath();
}

function arc(context, x, y, radius, thick, part, hue) {
  context.lineWidth = thick;
  context.strokeStyle = colour("empty");
  disc(context, x, y, radius);
  context.stroke();
  if (part <= 0) return;
  context.strokeStyle = hue;
  context.beginPath();
  context.arc(x, y, radius, -TURN / 4, -TURN / 4 + TURN * Math.min(1, part));
  context.stroke();
}

export function glyph(kind) {
  const initials = kind.split(" ").map((word) => word[0].toUpperCase());
  return GLYPHS[kind] ?? initials.join("").slice(0, 2);
}

function drawGlyph(context, unit, x, y, size) {
  const letters = glyph(unit.kind);
  context.fillStyle = colour("on-team");
  context.font = `700 ${
    Math.max(7, (letters.length > 1 ? 0.95 : 1.25) * size)
  }px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(letters, x, y + 0.05 * size);
}

function drawNumber(context, unit, x, y, cell) {
  const size = Math.max(9, Math.min(13, 0.32 * cell));
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 3;
  context.strokeStyle = colour("floor");
  context.strokeText(String(unit.index), x, y);
  context.fillStyle = colour("ink");
  context.fillText(String(unit.index), x, y);
}

/** A ring around the chosen agent, drawn above all units. */
function drawChoice({ context }, { place: [x, y], size }) {
  context.strokeStyle = colour("ink");
  context.lineWidth = 2;
  disc(context, x, y, size + 2.5 * Math.max(2, 0.17 * size) + 5);
  context.stroke();
}

/** An arrow in the direction of an agent's move. */
function drawMove({ context }, { place: [x, y], size }, [dx, dy]) {
  const far = size * 1.5 + 5;
  const [px, py] = [x + dx * far, y - dy * far];
  context.fillStyle = colour("ink");
  context.beginPath();
  context.moveTo(px + 6 * dx, py - 6 * dy);
  context.lineTo(px + 5 * dy, py + 5 * dx);
  context.lineTo(px - 5 * dy, py - 5 * dx);
  context.fill();
}

/** Rays around a unit that was hit, and its loss. */
function drawHurt({ context, crowded }, { place: [x, y], size }, loss, strength, age) {
  if (strength <= 0) return;
  context.save();
  context.globalAlpha = strength;
  context.strokeStyle = colour("hit");
  context.lineWidth = 2;
  const inner = size * 1.45 + 4;
  context.beginPath();
  for (let ray = 0; ray < 8; ray++) {
    const angle = ((ray + 0.5) * TURN) / 8;
    context.moveTo(x + inner * Math.cos(angle), y + inner * Math.sin(angle));
    context.lineTo(x + (inner + 4) * Math.cos(angle), y + (inner + 4) * Math.sin(angle));
  }
  context.stroke();
  if (!crowded) {
    context.font = "600 11px system-ui, sans-serif";
    context.textAlign = "center";
    context.lineWidth = 3;
    context.strokeStyle = colour("floor");
    const above = y - inner - 6 - 4 * age;
    context.strokeText(`−${shown(loss, 0)}`, x, above);
    context.fillStyle = colour("hit");
    context.fillText(`−${shown(loss, 0)}`, x, above);
  }
  context.restore();
}

/** The legend below the scene. */
export function legend(episode) {
  if (!episode.scene.units) return "";
  const kinds = [...new Set(episode.scene.units.map((unit) => unit.kind))];
  const glyphs = kinds.map((kind) => `${glyph(kind)} ${kind}`).join(", ");
  const shields = episode.scene.units.some((unit) => unit.max_shield > 0);
  const rings = shields ? "rings: health, and shield around it" : "ring: health";
  const circles = "large circle: what the chosen agent sees, small: what it can target";
  return [glyphs, "discs are agents, hexagons enemies", rings, circles].join(" · ");
}

/** The deaths of an episode: [{ t, unit }]. */
export function deaths(episode) {
  const { units, moving } = episode.scene;
  if (!units) return [];
  const found = [];
  units.forEach((unit, u) => {
    for (let t = 1; t <= length(episode); t++) {
      if (at(moving.alive, t - 1, u) && !at(moving.alive, t, u)) found.push({ t, unit });
    }
  });
  return found;
}
