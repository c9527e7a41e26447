// Agents, food, landmarks and other things in their places.

import { at, length, shown } from "./data.js";
import { colour, hueOf, pen } from "./dom.js";
import { drawLabel, placeLabels } from "./labels.js";
import { viewOf } from "./lens.js";

const ROUND = 2 * Math.PI;
const TURNS = [null, [0, -1], [1, 0], [0, 1], [-1, 0]]; // north, east, south, west on the canvas

/** A field of things: how to draw it on a canvas. */
export class Field {
  constructor(canvas, episode, lens) {
    this.canvas = canvas;
    this.episode = episode;
    this.lens = lens;
    this.things = episode.scene.things;
    this.moving = episode.scene.moving;
    this.steps = length(episode);
    const [left, bottom, width, height] = episode.scene.field.box;
    this.box = { left, bottom, width, height };
    this.shape = width / height;
  }

  there(t, k) {
    return k >= 0 && at(this.moving.there, t, k) > 0;
  }

  /** The place of a thing between two steps; what comes or goes does not glide. */
  place(time, k) {
    const t = Math.min(this.steps, Math.floor(time));
    const next = Math.min(this.steps, t + 1);
    const part = this.there(next, k) ? time - t : 0;
    const mix = (name) =>
      at(this.moving[name], t, k) * (1 - part) + at(this.moving[name], next, k) * part;
    return [mix("x"), mix("y")];
  }

  agentOf(number) {
    return this.things.findIndex((thing) => thing.kind === "agent" && thing.number === number);
  }

  draw(time, agent) {
    const t = Math.min(this.steps, Math.floor(time));
    const eye = this.agentOf(agent);
    const middle = this.there(t, eye) ? this.place(time, eye) : undefined;
    const view = viewOf(this.canvas, this.box, this.lens, middle);
    this.shown = view;
    view.context = pen(this.canvas, view.width, view.height);
    drawFloor(view, this.box, this.episode.scene.field.grid);
    const every = this.things.map((_, k) => k).filter((k) => this.there(t, k));
    const rank = (k) => (this.things[k].kind === "agent" ? 1 : 0);
    every.sort((one, other) => rank(one) - rank(other));
    if (this.there(t, eye)) this.drawSight(view, time, eye);
    for (const k of every) drawThing(view, this.look(view, time, t, k), k === eye);
    for (const label of this.labels(view, time)) {
      drawLabel(view.context, label, label.item.agent === agent);
    }
  }

  /** A square of cells in a grid; who sees everything has none. */
  drawSight(view, time, eye) {
    const { sight, grid } = this.episode.scene.field;
    if (sight === null || !grid) return;
    const [x, y] = this.place(time, eye);
    const half = (sight + 0.5) * view.cell;
    const { context } = view;
    context.save();
    context.strokeStyle = colour("ink-soft");
    context.setLineDash([7, 5]);
    context.lineWidth = 1.4;
    context.strokeRect(view.x(x) - half, view.y(y) - half, 2 * half, 2 * half);
    context.globalAlpha = 0.1;
    context.fillStyle = colour("ally");
    context.fillRect(view.x(x) - half, view.y(y) - half, 2 * half, 2 * half);
    context.restore();
  }

  look(view, time, t, k) {
    const thing = this.things[k];
    const [x, y] = this.place(time, k);
    const usual = { agent: 0.34, shelf: 0.42, goal: 0.46 }[thing.kind] ?? 0.3;
    const size = Math.max(6, (thing.radius ?? usual) * view.cell);
    const [level, turn] = [at(this.moving.level, t, k), at(this.moving.turn, t, k)];
    return { thing, x: view.x(x), y: view.y(y), size, level, turn };
  }

  /** The numbers of agents and of landmarks. */
  labels(view, time) {
    const t = Math.min(this.steps, Math.floor(time));
    const items = this.things.flatMap((thing, k) => {
      if (!this.there(t, k) || !["agent", "landmark"].includes(thing.kind)) return [];
      const { x, y, size } = this.look(view, time, t, k);
      if (x < 0 || y < 0 || x > view.width || y > view.height) return [];
      const agent = thing.kind === "agent" ? thing.number : undefined;
      const own = { number: thing.number, agent, needed: true, last: this.last?.get(k) };
      return [{ ...own, x, y, size, k }];
    });
    const placed = placeLabels(items, view.width, view.height);
    this.last = new Map(placed.map((label) => [label.item.k, label]));
    return placed;
  }

  /** The agent at a place of the canvas, if there is one. */
  agentAt(x, y, time) {
    const t = Math.min(this.steps, Math.floor(time));
    const near = this.things.flatMap((thing, k) => {
      if (thing.kind !== "agent" || !this.there(t, k)) return [];
      const look = this.look(this.shown, time, t, k);
      return [{ agent: thing.number, distance: Math.hypot(look.x - x, look.y - y), look }];
    });
    near.sort((one, other) => one.distance - other.distance);
    const [first] = near;
    return first && first.distance < Math.max(18, 1.4 * first.look.size) ? first.agent : undefined;
  }

  /** The field at a step, in words. */
  describe(t) {
    const { grid, box } = this.episode.scene.field;
    const lines = this.things.flatMap((thing, k) => {
      if (!this.there(t, k)) return [];
      const [x, y] = this.place(t, k);
      const place = grid
        ? `row ${box[3] - Math.floor(y) - 1}, column ${Math.floor(x)}`
        : `x ${shown(x)}, y ${shown(y)}`;
      const level = at(this.moving.level, t, k);
      const more = level && thing.kind !== "shelf" ? `, level ${level}` : "";
      return [`${thing.kind} ${thing.number}: ${place}${more}`];
    });
    return `${lines.join("; ")}.`;
  }

  /** What is left at the end, in words: food, for example. */
  left() {
    const count = (t) =>
      this.things.filter((thing, k) => thing.kind === "food" && this.there(t, k)).length;
    return count(0) ? `${count(this.steps)} of ${count(0)} food left` : "";
  }
}

function drawFloor({ context, cell, width, height, x, y }, box, grid) {
  context.fillStyle = colour(grid ? "wall" : "floor");
  context.fillRect(0, 0, width, height);
  const [left, top] = [x(box.left), y(box.bottom + box.height)];
  context.fillStyle = colour("floor");
  context.fillRect(left, top, box.width * cell, box.height * cell);
  if (!grid) return;
  context.strokeStyle = colour("cells");
  context.lineWidth = 1.5;
  context.beginPath();
  for (let column = 0; column <= box.width; column++) {
    context.moveTo(x(column), y(0));
    context.lineTo(x(column), y(box.height));
  }
  for (let row = 0; row <= box.height; row++) {
    context.moveTo(x(0), y(row));
    context.lineTo(x(box.width), y(row));
  }
  context.stroke();
}

function drawThing({ context, cell }, { thing, x, y, size, level, turn }, chosen) {
  const agent = thing.kind === "agent";
  if (chosen) {
    context.fillStyle = colour("halo");
    circle(context, x, y, size + 6);
    context.fill();
    context.strokeStyle = colour("ink");
    context.lineWidth = 2;
    context.stroke();
  }
  context.fillStyle = agent ? hueOf(thing.number) : colour(thing.kind === "food" ? "heal" : "edge");
  context.strokeStyle = agent ? colour("floor") : colour("ink-soft");
  context.lineWidth = 2;
  if (agent) {
    circle(context, x, y, size);
    context.fill();
    context.stroke();
    if (TURNS[turn]) drawNose(context, x, y, size, TURNS[turn]);
  } else if (thing.kind === "landmark" || thing.kind === "goal") {
    context.beginPath();
    if (thing.kind === "goal") context.rect(x - size, y - size, 2 * size, 2 * size);
    else {
      context.moveTo(x, y - size - 2);
      context.lineTo(x + size + 2, y);
      context.lineTo(x, y + size + 2);
      context.lineTo(x - size - 2, y);
      context.closePath();
    }
    context.stroke();
  } else {
    context.beginPath();
    context.roundRect(x - size, y - size, 2 * size, 2 * size, 0.35 * size);
    if (thing.kind === "shelf" && level) context.fillStyle = colour("heal");
    context.fill();
  }
  const text = level && thing.kind !== "shelf" ? String(level) : initial(thing);
  if (!text || cell < 12) return;
  context.fillStyle = thing.kind === "goal" ? colour("ink") : colour("on-team");
  context.font = `700 ${Math.max(9, 1.05 * size)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, x, y + 0.05 * size);
}

/** A letter for a thing of an unknown kind. */
function initial({ kind }) {
  return ["agent", "food", "landmark", "shelf"].includes(kind)
    ? ""
    : kind.slice(0, 1).toUpperCase();
}

function circle(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, ROUND);
}

/** Where an agent looks. */
function drawNose(context, x, y, size, [dx, dy]) {
  context.save();
  context.fillStyle = colour("on-team");
  circle(context, x + 0.6 * size * dx, y + 0.6 * size * dy, 0.25 * size);
  context.fill();
  context.restore();
}
