// Numbers of units above everything else, where they hide neither each other nor a unit.

import { colour, hueOf } from "./dom.js";

const FULL = 2 * Math.PI;
const ANGLES = [1, 7, 3, 5, 2, 0, 6, 4].map((part) => (part * FULL) / 8); // lower right first
const RINGS = [0, 12, 26, 42, 60, 80, 104];
const TALL = 15; // pixels of a label

/**
 * Where the label of each unit stands: [{ item, x, y, wide, tall, ring }].
 *
 * `items` are { number, x, y, size, agent, needed, last }: `last` is the label of the frame before,
 * whose place is kept if it is nearly as good. Those that are not needed have a label only
 * where there is room beside them. No two labels overlap.
 */
export function placeLabels(items, width, height) {
  const placed = [];
  const order = [...items].sort((one, other) => Number(other.needed) - Number(one.needed));
  for (const item of order) {
    const wide = 7 * String(item.number).length + 8;
    let best;
    for (const ring of item.needed ? RINGS : RINGS.slice(0, 1)) {
      for (const angle of ANGLES) {
        const far = item.size + TALL / 2 + ring;
        const x = item.x + far * Math.cos(angle);
        const y = item.y + far * Math.sin(angle);
        const label = { item, x, y, wide, tall: TALL, ring, angle };
        if (!inside(label, width, height)) continue;
        if (placed.some((other) => overlap(label, other))) continue;
        const covers = items.filter((other) => other !== item && near(label, other)).length;
        if (covers && !item.needed) continue;
        const stays = item.last?.ring === ring && item.last.angle === angle ? 10 : 0;
        const cost = 30 * covers + ring - stays;
        if (!best || cost < best.cost) best = { ...label, cost };
      }
      if (best && best.cost <= ring - 10) break;
    }
    if (best) placed.push(best);
  }
  return placed;
}

function inside({ x, y, wide, tall }, width, height) {
  return x - wide / 2 >= 1 && x + wide / 2 <= width - 1 && y - tall / 2 >= 1 &&
    y + tall / 2 <= height - 1;
}

function overlap(one, other) {
  return Math.abs(one.x - other.x) < (one.wide + other.wide) / 2 + 1 &&
    Math.abs(one.y - other.y) < (one.tall + other.tall) / 2 + 1;
}

/** Whether a label covers the middle of a unit. */
function near({ x, y, wide, tall }, unit) {
  const [dx, dy] = [Math.abs(unit.x - x), Math.abs(unit.y - y)];
  return dx < wide / 2 + 0.7 * unit.size && dy < tall / 2 + 0.7 * unit.size;
}

/** Draw a label at a distance from its unit, with a line to it if it stands apart. */
export function drawLabel(context, { item, x, y, wide, tall, ring }, chosen) {
  const hue = item.agent === undefined ? colour("ink") : hueOf(item.agent);
  if (ring > 0) {
    const away = Math.hypot(x - item.x, y - item.y);
    const [dx, dy] = [(x - item.x) / away, (y - item.y) / away];
    for (const [thick, ink] of [[4, colour("floor")], [1.8, hue]]) {
      context.lineWidth = thick;
      context.strokeStyle = ink;
      context.beginPath();
      context.moveTo(item.x + 0.5 * item.size * dx, item.y + 0.5 * item.size * dy);
      context.lineTo(x, y);
      context.stroke();
    }
  }
  context.font = "700 11px system-ui, sans-serif";
  context.textAlign = "center";
  context.textBaseline = "middle";
  if (item.agent === undefined) {
    context.lineWidth = 3;
    context.strokeStyle = colour("floor");
    context.strokeText(String(item.number), x, y + 0.5);
    context.fillStyle = hue;
  } else {
    context.beginPath();
    context.roundRect(x - wide / 2, y - tall / 2, wide, tall, tall / 2);
    context.lineWidth = chosen ? 5 : 3;
    context.strokeStyle = chosen ? colour("ink") : colour("floor");
    context.stroke();
    context.fillStyle = hue;
    context.fill();
    context.fillStyle = colour("on-team");
  }
  context.fillText(String(item.number), x, y + 0.5);
}
