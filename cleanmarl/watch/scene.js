// The scene: a battle, drawn from what its units did, or the pictures of another environment.

import { at, length, shown } from "./data.js";
import { colour, pen } from "./dom.js";

const ROOM = 1.6; // cells around all that happens
const WIDEST = 64; // pixels of a cell
const TURN = 2 * Math.PI;
const MOVES = { north: [0, 1], south: [0, -1], east: [1, 0], west: [-1, 0] };
const GLYPHS = { marauder: "Ma", medivac: "+", zergling: "z", baneling: "b" };

/** The scene of an episode: `draw(time, agent)`, `agentAt(x, y)`, `describe(t)`. */
export function makeScene(canvas, episode) {
  if (episode.scene.units) return battle(canvas, episode);
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

function battle(canvas, episode) {
  const { units, moving, blocked, sight, reach } = episode.scene;
  const steps = length(episode);
  const allies = units.flatMap((unit, u) => (unit.ally ? [u] : []));
  const numberOf = (ally, index) => units.findIndex((u) => u.ally === ally && u.index === index);
  const unitOf = episode.agents.map((_, agent) => numberOf(true, agent));
  const box = bounds(units, moving, steps, blocked);

  const alive = (t, u) => at(moving.alive, t, u) > 0;
  const life = (t, u) => (alive(t, u) ? at(moving.hp, t, u) + at(moving.shield, t, u) : 0);
  const hurt = (t, u) => (t < 0 || t >= steps ? 0 : Math.max(0, life(t, u) - life(t + 1, u)));
  const blend = (array, time, u) => {
    const t = Math.min(steps, Math.floor(time));
    const next = Math.min(steps, t + 1);
    const part = time - t;
    return at(array, t, u) * (1 - part) + at(array, next, u) * part;
  };

  /** What an ally is told to do at step t: a unit to aim at, or a direction. */
  const order = (t, u) => {
    const { ally, index } = units[u];
    if (t >= steps || !alive(t, u)) return {};
    if (!ally) {
      const later = at(moving.target, t + 1, u);
      return { target: later >= 0 ? later : at(moving.target, t, u) };
    }
    const [verb, side, number] = episode.actions[index][at(episode.chosen, t, index)].split(" ");
    if (number !== undefined) return { target: numberOf(side === "ally", Number(number)) };
    return { move: MOVES[verb] };
  };

  function draw(time, agent) {
    const width = canvas.clientWidth;
    const height = canvas.clientHeight;
    const cell = Math.min(width / box.width, height / box.height, WIDEST);
    const context = pen(canvas, width, height);
    const view = {
      context,
      cell,
      width,
      height,
      x: (x) => width / 2 + (x - box.left - box.width / 2) * cell,
      y: (y) => height / 2 - (y - box.bottom - box.height / 2) * cell,
    };
    const t = Math.min(steps, Math.floor(time));
    const part = time - t;
    const place = (u) => [view.x(blend(moving.x, time, u)), view.y(blend(moving.y, time, u))];
    const size = (u) => Math.max(units[u].radius * cell, 5);

    drawGround(view, blocked);
    const eye = unitOf[agent];
    if (alive(t, eye)) drawSight(view, place(eye), sight, reach);
    units.forEach((_, u) => {
      if (!alive(t, u)) drawFallen(view, place(u), size(u), team(units[u]));
    });
    units.forEach((unit, u) => {
      const { target } = order(t, u);
      if (!alive(t, u) || !(target >= 0) || !alive(t, target)) return;
      const strength = 0.35 + 0.65 * blend(moving.cooldown, time, u);
      drawAim(view, place(u), place(target), size(u), size(target), unit, strength);
    });
    const drawn = units.map((_, u) => u).filter((u) => alive(t, u));
    drawn.sort((u, v) => units[u].plane - units[v].plane || place(u)[1] - place(v)[1]);
    for (const u of drawn) {
      const unit = units[u];
      const fades = !alive(Math.min(steps, t + 1), u);
      context.globalAlpha = fades ? 1 - 0.8 * part : 1;
      const health = blend(moving.hp, time, u) / unit.max_hp;
      const shield = unit.max_shield ? blend(moving.shield, time, u) / unit.max_shield : undefined;
      drawUnit(view, unit, place(u), size(u), health, shield, u === eye);
      const { move } = order(t, u);
      if (move) drawMove(view, place(u), size(u), move);
      context.globalAlpha = 1;
    }
    if (alive(t, eye)) drawChoice(view, place(eye), size(eye));
    view.crowded = cell < 26 || drawn.length > 14;
    units.forEach((_, u) => {
      const before = hurt(t - 1, u);
      const now = hurt(t, u);
      if (before > 0) {
        drawHurt(view, place(u), size(u), before, Math.max(0, 1 - 2 * part), 1 + part);
      }
      if (now > 0 && part > 0) drawHurt(view, place(u), size(u), now, part, part);
    });
  }

  function agentAt(x, y, time) {
    const cell = Math.min(canvas.clientWidth / box.width, canvas.clientHeight / box.height, WIDEST);
    const near = allies.map((u) => {
      const dx = canvas.clientWidth / 2 +
        (blend(moving.x, time, u) - box.left - box.width / 2) * cell - x;
      const dy = canvas.clientHeight / 2 -
        (blend(moving.y, time, u) - box.bottom - box.height / 2) * cell - y;
      return { agent: units[u].index, distance: Math.hypot(dx, dy) };
    });
    near.sort((one, other) => one.distance - other.distance);
    return near.length && near[0].distance < Math.max(18, 0.8 * cell) ? near[0].agent : undefined;
  }

  function describe(t) {
    const lines = units.map((unit, u) => {
      const name = `${unit.ally ? "ally" : "enemy"} ${unit.kind} ${unit.index}`;
      if (!alive(t, u)) return `${name} is dead`;
      const health = `health ${shown(at(moving.hp, t, u), 0)} of ${unit.max_hp}`;
      const shield = unit.max_shield ? `, shield ${shown(at(moving.shield, t, u), 0)}` : "";
      const { target } = order(t, u);
      const aim = target >= 0 ? `, aims at ${units[target].kind} ${units[target].index}` : "";
      return `${name}: ${health}${shield}${aim}`;
    });
    return `${lines.join("; ")}.`;
  }

  return { draw, agentAt, describe, shape: box.width / box.height };
}

/** The part of the map where anything happens. */
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

/** What the chosen agent sees, and within it what it can aim at. */
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

function drawFallen({ context }, [x, y], size, hue) {
  const r = 0.55 * size;
  context.save();
  context.globalAlpha = 0.45;
  context.strokeStyle = hue;
  context.lineWidth = 2;
  context.beginPath();
  context.moveTo(x - r, y - r);
  context.lineTo(x + r, y + r);
  context.moveTo(x - r, y + r);
  context.lineTo(x + r, y - r);
  context.stroke();
  context.restore();
}

/** A line to the target, strong after a blow and fading until the next. */
function drawAim({ context }, [x0, y0], [x1, y1], from, to, unit, strength) {
  const distance = Math.hypot(x1 - x0, y1 - y0);
  if (distance < from + to) return;
  const [dx, dy] = [(x1 - x0) / distance, (y1 - y0) / distance];
  // to the right, so that the lines of two opponents keep apart
  const [ax, ay] = [-2.5 * dy, 2.5 * dx];
  const [sx, sy] = [x0 + dx * (from + 3) + ax, y0 + dy * (from + 3) + ay];
  const [ex, ey] = [x1 - dx * (to + 6) + ax, y1 - dy * (to + 6) + ay];
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

/** A disc with the kind's glyph; around it health and shield; beside it the unit's number. */
function drawUnit({ context, cell }, unit, [x, y], size, health, shield, chosen) {
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

/** Enemies have corners, so that sides differ in shape, too. */
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

/** A ring around the chosen agent, above all that may cover it. */
function drawChoice({ context }, [x, y], size) {
  context.strokeStyle = colour("ink");
  context.lineWidth = 2;
  disc(context, x, y, size + 2.5 * Math.max(2, 0.17 * size) + 5);
  context.stroke();
}

/** Where an agent is told to go. */
function drawMove({ context }, [x, y], size, [dx, dy]) {
  const far = size * 1.5 + 5;
  const [px, py] = [x + dx * far, y - dy * far];
  context.fillStyle = colour("ink");
  context.beginPath();
  context.moveTo(px + 6 * dx, py - 6 * dy);
  context.lineTo(px + 5 * dy, py + 5 * dx);
  context.lineTo(px - 5 * dy, py - 5 * dx);
  context.fill();
}

/** A burst around a unit that was hit, and what it lost. */
function drawHurt({ context, crowded }, [x, y], size, loss, strength, age) {
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

/** What the signs of the scene mean, for the line below it. */
export function legend(episode) {
  if (!episode.scene.units) return "";
  const kinds = [...new Set(episode.scene.units.map((unit) => unit.kind))];
  const glyphs = kinds.map((kind) => `${glyph(kind)} ${kind}`).join(", ");
  const shields = episode.scene.units.some((unit) => unit.max_shield > 0);
  const rings = shields ? "rings: health, and shield around it" : "ring: health";
  return `${glyphs} · discs are agents, hexagons enemies · ${rings} · large circle: what the chosen agent sees, small: what it can aim at`;
}

/** Of each step, who died in it: [{ t, ally }]. */
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
