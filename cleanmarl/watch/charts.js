// Lines over the steps of an episode. A click or a drag goes to a step.

import { extent, shown } from "./data.js";
import { html, svg } from "./dom.js";

const MARGIN = { left: 44, top: 22, bottom: 34 };
const LETTER = 7; // pixels of a letter of a name

/** About `count` round numbers between two bounds, and their number of decimals. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  const found = Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** The layout of a chart: scales `x(t)` and `y(value)`, and sizes. */
function layOut(figure, lines, steps) {
  const width = Math.max(280, figure.clientWidth);
  const height = Math.round(Math.min(250, Math.max(175, width * 0.36)));
  let [low, high] = extent([0, ...lines.flatMap((line) => Array.from(line.values))]);
  if (high - low < 1e-6) [low, high] = [low - 0.5, high + 0.5];
  const right = 14 + LETTER * Math.max(5, ...lines.map((line) => line.name.length));
  const wide = width - MARGIN.left - right;
  const tall = height - MARGIN.top - MARGIN.bottom;
  const x = (t) => MARGIN.left + (t / Math.max(1, steps)) * wide;
  const y = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * tall;
  const stepAt = (place) => {
    const t = Math.round(((place - MARGIN.left) / wide) * steps);
    return Math.min(steps, Math.max(0, t));
  };
  const bottom = MARGIN.top + tall;
  return { width, height, low, high, x, y, stepAt, bottom, right: width - right };
}

function drawAxes(picture, { width, height, low, high, x, y, right }, steps, name) {
  const { found, digits } = ticks(low, high, 4);
  for (const value of found) {
    const kind = Math.abs(value) < 1e-9 ? "grid zero" : "grid";
    const place = { x1: MARGIN.left, x2: right, y1: y(value), y2: y(value) };
    picture.append(svg("line", { ...place, class: kind }));
    picture.append(text(MARGIN.left - 6, y(value) + 3.5, shown(value, digits), "end"));
  }
  const moments = ticks(0, steps, Math.min(8, width / 90)).found;
  for (const t of moments.filter(Number.isInteger)) {
    picture.append(text(x(t), height - 18, String(t), "middle"));
  }
  picture.append(text(MARGIN.left - 38, 11, name, "start"));
  picture.append(text(right, height - 4, "step of the episode", "end"));
}

function pathOf(line, { x, y }) {
  const place = (value, t) => `${x(t).toFixed(1)},${y(value).toFixed(1)}`;
  const points = Array.from(line.values, place).join(" ");
  const path = svg("polyline", { points, class: "line" });
  path.style.stroke = line.colour;
  path.style.strokeDasharray = line.dashes ?? "none";
  return path;
}

/**
 * A chart of lines that share their axes; the y axis includes 0.
 *
 * Each line has a name (at its end), values (one a step), a colour, and optional dashes; `name` is
 * that of the y axis. The chart calls `go(t)` where the reader points; `end` marks that the time
 * limit ended the episode.
 * Returns the chart, with `moveTo(t, chosen line)`.
 */
export function lineChart(figure, { lines, label, name, steps, go, end }) {
  const places = layOut(figure, lines, steps);
  const { width, height, x, y, bottom, right } = places;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  picture.setAttribute("aria-label", label);
  drawAxes(picture, places, steps, name);
  const vertical = { y1: MARGIN.top, y2: bottom };
  if (end) picture.append(svg("line", { ...vertical, x1: x(steps), x2: x(steps), class: "cut" }));
  const paths = lines.map((line) => pathOf(line, places));
  const marks = lines.map((line) => svg("circle", { r: 3, fill: line.colour, class: "mark" }));
  const names = endLabels(lines, y, bottom, right + 6);
  const playhead = svg("line", { ...vertical, class: "playhead" });
  picture.append(...paths, playhead, ...marks, ...names.filter(Boolean));
  figure.replaceChildren(picture);
  listen(picture, (place) => go(places.stepAt(place)));

  return {
    moveTo(t, chosen) {
      playhead.setAttribute("x1", x(t));
      playhead.setAttribute("x2", x(t));
      lines.forEach((line, i) => {
        const there = t < line.values.length;
        marks[i].setAttribute("visibility", there ? "visible" : "hidden");
        marks[i].setAttribute("cx", x(t));
        marks[i].setAttribute("cy", there ? y(line.values[t]) : 0);
        const faint = chosen !== undefined && chosen !== i;
        for (const part of [paths[i], marks[i], names[i]]) part?.classList.toggle("faint", faint);
      });
      if (chosen !== undefined) playhead.before(paths[chosen]);
    },
  };
}

function text(x, y, content, anchor) {
  return svg("text", { x, y, "text-anchor": anchor, class: "tick" }, content);
}

/** Names at the ends of the lines, moved apart; no names if there is no room. */
function endLabels(lines, y, bottom, x) {
  const gap = 11;
  if (lines.length * gap > bottom) return lines.map(() => undefined);
  const places = lines.map((line, i) => ({ i, y: y(line.values[line.values.length - 1]) }));
  places.sort((one, other) => one.y - other.y);
  for (let k = 1; k < places.length; k++) {
    places[k].y = Math.max(places[k].y, places[k - 1].y + gap);
  }
  const over = places.length ? places[places.length - 1].y - bottom : 0;
  let limit = Infinity;
  for (let k = places.length - 1; k >= 0 && over > 0; k--) {
    places[k].y = Math.min(places[k].y, limit - gap, bottom);
    limit = places[k].y;
  }
  const found = [];
  for (const place of places) {
    const { name, colour } = lines[place.i];
    found[place.i] = svg("text", { x, y: place.y + 3.5, fill: colour, class: "name" }, name);
  }
  return found;
}

/** Call `go(x)` while the reader presses the button; x is in the picture's own units. */
export function listen(picture, go) {
  const point = (event) => {
    const box = picture.getBoundingClientRect();
    go(((event.clientX - box.left) / box.width) * picture.viewBox.baseVal.width);
  };
  picture.addEventListener("pointerdown", (event) => {
    picture.setPointerCapture(event.pointerId);
    point(event);
  });
  picture.addEventListener("pointermove", (event) => {
    if (event.buttons) point(event);
  });
}

/** The returns of all episodes as dots; the episodes on the page are highlighted. */
export function dots(values, named, width) {
  const height = 72;
  const [low, high] = extent(values);
  const span = high - low || 1;
  const x = (value) => 16 + ((value - low) / span) * (width - 32);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "dots", role: "img" });
  const label = `Rewards of ${values.length} episodes, from ${shown(low)} to ${shown(high)}`;
  picture.setAttribute("aria-label", label);
  picture.append(svg("line", { x1: 8, x2: width - 8, y1: 38, y2: 38, class: "grid" }));
  const heights = new Map();
  values.forEach((value, i) => {
    const column = Math.round(x(value) / 7);
    const level = heights.get(column) ?? 0;
    heights.set(column, level + 1);
    const dot = { cx: x(value), cy: 34 - Math.min(level * 2.4, 28), r: 3 };
    picture.append(svg("circle", { ...dot, class: named.has(i) ? "dot named" : "dot" }));
  });
  for (const [value, anchor] of new Map([[low, "start"], [high, "end"]])) {
    const edge = low === high ? 16 : x(value) + (anchor === "start" ? -8 : 8);
    picture.append(
      svg("text", { x: edge, y: 53, "text-anchor": anchor, class: "tick" }, shown(value)),
    );
  }
  picture.append(
    text(width / 2, 68, "reward of an episode, a dot each", "middle"),
  );
  return html("figure", {}, picture);
}
