// A battle, from the records of its units.

import { at, length, shown } from "./data.js";
import { pen } from "./dom.js";
import { drawLabel, placeLabels } from "./labels.js";
import { viewOf } from "./lens.js";
import {
  drawAim,
  drawChoice,
  drawFallen,
  drawGlyph,
  drawGround,
  drawHurt,
  drawMove,
  drawSight,
  drawUnit,
} from "./units.js";

const ROOM = 1.6; // cells around the units
const WIDEST = 64; // pixels of a cell
const MOVES = { north: [0, 1], south: [0, -1], east: [1, 0], west: [-1, 0] };

/** A battle: the records of its units, and how to draw them on a canvas. */
export class Battle {
  constructor(canvas, episode, lens) {
    this.lens = lens;
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
    if (u < 0) return {};
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

  /** Scales from the map to the canvas, around the unit that is followed. */
  view(time, agent) {
    const u = this.followed ?? this.numberOf(true, agent);
    const eye = [this.blend("x", time, u), this.blend("y", time, u)];
    return viewOf(this.canvas, this.box, this.lens, eye, WIDEST);
  }

  place(view, time, u) {
    return [view.x(this.blend("x", time, u)), view.y(this.blend("y", time, u))];
  }

  /** Draw a moment, which may lie between two steps. */
  draw(time, agent) {
    const view = this.view(time, agent);
    this.shown = view;
    view.context = pen(this.canvas, view.width, view.height);
    const t = Math.min(this.steps, Math.floor(time));
    const look = (u) => this.look(view, time, u);
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
    for (const u of living) drawGlyph(view, look(u));
    if (this.followed !== undefined) drawChoice(view, look(this.followed));
    for (const label of this.labels(view, time, agent)) {
      drawLabel(view.context, label, label.item.agent === agent);
    }
  }

  look(view, time, u) {
    const size = Math.max(this.units[u].radius * view.cell, 5);
    return { unit: this.units[u], place: this.place(view, time, u), size };
  }

  /** The labels of a moment. Between two steps, each keeps its side of its unit. */
  labels(view, time, agent) {
    const t = Math.min(this.steps, Math.floor(time));
    const target = this.order(t, this.numberOf(true, agent)).target;
    const items = this.units.flatMap((unit, u) => {
      if (!this.alive(t, u)) return [];
      const { place: [x, y], size } = this.look(view, time, u);
      const outer = size + Math.max(2, 0.17 * size) * (unit.max_shield ? 2 : 1) + 1;
      if (x < 0 || y < 0 || x > view.width || y > view.height) return [];
      const own = { number: unit.index, agent: unit.ally ? unit.index : undefined };
      const needed = unit.ally || u === target;
      return [{ ...own, x, y, size: outer, needed, last: this.last?.get(u), unit: u }];
    });
    const placed = placeLabels(items, view.width, view.height);
    this.last = new Map(placed.map((label) => [label.item.unit, label]));
    return placed;
  }

  /** Who is left at the end, in words. */
  left() {
    const [agents, enemies] = [true, false].map((ally) => {
      const side = this.units.map((_, u) => u).filter((u) => this.units[u].ally === ally);
      return `${side.filter((u) => this.alive(this.steps, u)).length} of ${side.length}`;
    });
    return `${agents} agents and ${enemies} enemies left`;
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
    const u = this.unitAt(x, y, time);
    this.followed = this.units[u]?.ally === false ? u : undefined;
    return this.units[u]?.ally ? this.units[u].index : undefined;
  }

  /** The unit at a place: the nearest one, whose label counts as well. */
  unitAt(x, y, time) {
    const view = this.shown;
    const label = this.labels(view, time, undefined).find((one) =>
      Math.abs(one.x - x) < one.wide / 2 && Math.abs(one.y - y) < one.tall / 2
    );
    if (label) return label.item.unit;
    const t = Math.min(this.steps, Math.floor(time));
    const near = this.units.flatMap((unit, u) => {
      if (!unit.ally && !this.alive(t, u)) return [];
      const [ux, uy] = this.place(view, time, u);
      return [{ u, distance: Math.hypot(ux - x, uy - y) }];
    });
    near.sort((one, other) => one.distance - other.distance);
    return near[0].distance < Math.max(18, 0.8 * view.cell) ? near[0].u : undefined;
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
