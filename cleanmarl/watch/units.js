// How to draw a battle: its ground, its units, their aims and their losses.

import { shown } from "./data.js";
import { colour, hueOf } from "./dom.js";

const TURN = 2 * Math.PI;
const GLYPHS = { marauder: "Ma", medivac: "+", zergling: "z", baneling: "b" };

/** An agent has its own colour, in the scene as in the table; enemies share one. */
function hue(unit) {
  return unit.ally ? hueOf(unit.index) : colour("enemy");
}

/** The floor with its cells, and the walls. */
export function drawGround({ context, cell, width, height, x, y }, blocked) {
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
export function drawSight({ context, cell }, [x, y], sight, reach) {
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

export function drawFallen({ context }, { unit, place: [x, y], size }) {
  const r = 0.55 * size;
  context.save();
  context.globalAlpha = 0.45;
  context.strokeStyle = hue(unit);
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
export function drawAim({ context }, from, to, strength) {
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
  context.strokeStyle = context.fillStyle = hue(unit);
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

/** A disc or a hexagon, with rings of health and shield. */
export function drawUnit({ context, cell }, { unit, place: [x, y], size }, health, shield, chosen) {
  const own = hue(unit);
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
  context.fillStyle = own;
  if (unit.ally) disc(context, x, y, size - 1);
  else diamond(context, x, y, size - 0.5);
  context.fill();
  arc(context, x, y, size + thick / 2 + 0.5, thick, health, own);
  if (shield !== undefined) {
    arc(context, x, y, size + 1.5 * thick + 1.5, thick * 0.8, shield, colour("shield"));
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

function arc(context, x, y, radius, thick, part, ink) {
  context.lineWidth = thick;
  context.strokeStyle = colour("empty");
  disc(context, x, y, radius);
  context.stroke();
  if (part <= 0) return;
  context.strokeStyle = ink;
  context.beginPath();
  context.arc(x, y, radius, -TURN / 4, -TURN / 4 + TURN * Math.min(1, part));
  context.stroke();
}

export function glyph(kind) {
  const initials = kind.split(" ").map((word) => word[0].toUpperCase());
  return GLYPHS[kind] ?? initials.join("").slice(0, 2);
}

/** The letters of a unit's kind, above what was drawn of its neighbours. */
export function drawGlyph({ context }, { unit, place: [x, y], size }) {
  const letters = glyph(unit.kind);
  context.fillStyle = colour("on-team");
  context.font = `700 ${
    Math.max(7, (letters.length > 1 ? 0.95 : 1.25) * size)
  }px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(letters, x, y + 0.05 * size);
}

/** A ring around the chosen agent, drawn above all units. */
export function drawChoice({ context }, { place: [x, y], size }) {
  context.strokeStyle = colour("ink");
  context.lineWidth = 2;
  disc(context, x, y, size + 2.5 * Math.max(2, 0.17 * size) + 5);
  context.stroke();
}

/** An arrow in the direction of an agent's move. */
export function drawMove({ context }, { place: [x, y], size }, [dx, dy]) {
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
export function drawHurt({ context, crowded }, { place: [x, y], size }, loss, strength, age) {
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
