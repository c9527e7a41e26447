// Lines over the steps of an episode. A click or a drag goes to a step.

import { extent, shown } from "./data.js";
import { html, svg } from "./dom.js";

const MARGIN = { left: 44, right: 52, top: 8, bottom: 22 };

/** Round numbers between two bounds, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => (first + i) * step);
}

/**
 * A chart of lines that share their axes.
 *
 * Each line has a name (at its end), values (one a step), a colour, and perhaps dashes.
 * `go(t)` is called where the reader points. Returns the chart, with `moveTo(t, chosen line)`.
 */
export function lineChart(figure, { lines, label, steps, go, zero = true, end }) {
  const width = Math.max(280, figure.clientWidth);
  const height = Math.round(Math.min(230, Math.max(150, width * 0.34)));
  const last = Math.max(1, steps);
  let [low, high] = extent(lines.flatMap((line) => Array.from(line.values)));
  if (zero) [low, high] = [Math.min(0, low), Math.max(0, high)];
  if (high - low < 1e-6) [low, high] = [low - 0.5, high + 0.5];
  const inner = { width: width - MARGIN.left - MARGIN.right };
  inner.height = height - MARGIN.top - MARGIN.bottom;
  const x = (t) => MARGIN.left + (t / last) * inner.width;
  const y = (value) => MARGIN.top + (1 - (value - low) / (high - low)) * inner.height;

  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  picture.setAttribute("aria-label", label);
  for (const value of ticks(low, high, 4)) {
    picture.append(grid(MARGIN.left, width - MARGIN.right, y(value), value === 0));
    picture.append(text(MARGIN.left - 6, y(value) + 3.5, shown(value, value % 1 ? 1 : 0), "end"));
  }
  for (const t of ticks(0, steps, Math.min(8, width / 90)).filter(Number.isInteger)) {
    picture.append(text(x(t), height - 6, String(t), "middle"));
  }
  const paths = lines.map((line) => {
    const points = Array.from(
      line.values,
      (value, t) => `${x(t).toFixed(1)},${y(value).toFixed(1)}`,
    );
    const path = svg("polyline", { points: points.join(" "), class: "line" });
    path.style.stroke = line.colour;
    path.style.strokeDasharray = line.dashes ?? "none";
    return path;
  });
  const marks = lines.map((line) => svg("circle", { r: 3, fill: line.colour, class: "mark" }));
  const playhead = svg("line", {
    class: "playhead",
    y1: MARGIN.top,
    y2: MARGIN.top + inner.height,
  });
  picture.append(...paths, playhead, ...marks);
  const names = endLabels(lines, y, inner.height, width - MARGIN.right + 6);
  picture.append(...names.filter(Boolean));
  if (end) picture.append(cut(x(steps), inner.height));
  figure.replaceChildren(picture);
  listen(picture, (at) => {
    const t = Math.round(((at - MARGIN.left) / inner.width) * last);
    go(Math.min(steps, Math.max(0, t)));
  });

  return {
    moveTo(t, chosen) {
      playhead.setAttribute("x1", x(t));
      playhead.setAttribute("x2", x(t));
      lines.forEach((line, i) => {
        const there = t < line.values.length;
        marks[i].setAttribute("visibility", there ? "visible" : "hidden");
        if (there) {
          marks[i].setAttribute("cx", x(t));
          marks[i].setAttribute("cy", y(line.values[t]));
        }
        const plain = chosen !== undefined && chosen !== i;
        for (const part of [paths[i], marks[i], names[i]]) part?.classList.toggle("faint", plain);
      });
      if (chosen !== undefined) playhead.before(paths[chosen]);
    },
  };
}

function grid(x1, x2, y, zero) {
  return svg("line", { x1, x2, y1: y, y2: y, class: zero ? "grid zero" : "grid" });
}

function text(x, y, content, anchor) {
  return svg("text", { x, y, "text-anchor": anchor, class: "tick" }, content);
}

/** A mark where the time limit cut the episode. */
function cut(x, height) {
  return svg("line", { x1: x, x2: x, y1: MARGIN.top, y2: MARGIN.top + height, class: "cut" });
}

/** Names at the ends of lines, moved apart; none where there is no room. */
function endLabels(lines, y, height, x) {
  const gap = 11;
  if (lines.length * gap > height + gap) return lines.map(() => undefined);
  const places = lines.map((line, i) => ({ i, y: y(line.values[line.values.length - 1]) }));
  places.sort((one, other) => one.y - other.y);
  for (let k = 1; k < places.length; k++) {
    places[k].y = Math.max(places[k].y, places[k - 1].y + gap);
  }
  const over = places.length ? places[places.length - 1].y - (MARGIN.top + height) : 0;
  let limit = Infinity;
  for (let k = places.length - 1; k >= 0 && over > 0; k--) {
    places[k].y = Math.min(places[k].y, limit - gap, MARGIN.top + height);
    limit = places[k].y;
  }
  const found = [];
  for (const place of places) {
    const { name, colour } = lines[place.i];
    found[place.i] = svg("text", { x, y: place.y + 3.5, fill: colour, class: "name" }, name);
  }
  return found;
}

/** Call `go(x)` while the reader presses, with x in the picture's own units. */
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

/** The returns of all episodes as dots; those that the page shows have names. */
export function dots(values, named, width) {
  const height = 58;
  const [low, high] = extent(values);
  const span = high - low || 1;
  const x = (value) => 16 + ((value - low) / span) * (width - 32);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "dots", role: "img" });
  const text = `Rewards of ${values.length} episodes, from ${shown(low)} to ${shown(high)}`;
  picture.setAttribute("aria-label", text);
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
  return html("figure", {}, picture);
}
