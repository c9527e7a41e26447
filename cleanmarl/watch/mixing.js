// The picture of the mixing weights.

import { length, row, shown } from "./data.js";
import { colour, find, pen, say } from "./dom.js";

/** |W1| and |W2| as a picture, a column for each hidden unit of the mixing network. */
export function mixerPanel(episode) {
  const canvas = find("weights");
  const { w1, w2 } = episode.weights;
  canvas.hidden = !w1;
  if (!w1) {
    const text = episode.sums
      ? "None: this mixer adds the agents’ values in every state."
      : "This mixer has no weights(state), so there is no picture of them.";
    say(find("mixer-hint"), text);
    return { moveTo() {} };
  }
  const units = w2.bytes.shape[1];
  const sorted = columns(w2.bytes, units);
  return {
    moveTo(t, agent) {
      const moment = Math.min(t, length(episode) - 1);
      drawWeights(canvas, episode, moment, agent, sorted);
      const rows = `At step ${moment}: a row for each agent’s |W1|, a column for each of the`;
      const order = `${units} hidden units, sorted by their |W2|, which is the last row.`;
      const most = `Stronger means larger (|W1| up to ${shown(w1.largest)}, |W2| up to`;
      const text = `${rows} ${order} ${most} ${shown(w2.largest)}).`;
      say(find("mixer-hint"), text);
      canvas.setAttribute("aria-label", text);
    },
  };
}

/** The hidden units, sorted by their mean |W2| over the episode, the largest first. */
function columns(bytes, units) {
  const sums = new Float64Array(units);
  for (let t = 0; t < bytes.shape[0]; t++) {
    row(bytes, t).forEach((value, k) => {
      sums[k] += value;
    });
  }
  return Array.from(sums.keys()).sort((one, other) => sums[other] - sums[one]);
}

function drawWeights(canvas, episode, t, agent, order) {
  const { w1, w2 } = episode.weights;
  const left = 34;
  const width = canvas.clientWidth;
  const cell = (width - left) / order.length;
  const high = Math.max(9, Math.min(20, 150 / episode.agents.length));
  const height = (episode.agents.length + 1) * high + 8 + 18;
  canvas.style.height = `${height}px`;
  const context = pen(canvas, width, height);
  const hue = colour("ramp");
  context.font = "11px system-ui, sans-serif";
  context.textBaseline = "middle";
  const line = (values, y, name, bold) => {
    context.globalAlpha = 1;
    context.fillStyle = colour(bold ? "ink" : "ink-soft");
    context.font = `${bold ? 700 : 400} 11px system-ui, sans-serif`;
    context.fillText(name, 0, y + high / 2);
    context.fillStyle = hue;
    order.forEach((unit, k) => {
      context.globalAlpha = 0.04 + 0.96 * (values[unit] / 255);
      context.fillRect(left + k * cell, y, Math.max(0.5, cell - 0.6), high - 1);
    });
  };
  episode.agents.forEach((_, i) => {
    line(row(w1.bytes, t, i), i * high, `W1 ${i}`, i === agent);
  });
  line(row(w2.bytes, t), episode.agents.length * high + 8, "W2", false);
  context.globalAlpha = 1;
  context.fillStyle = colour("ink-soft");
  context.font = "11px system-ui, sans-serif";
  context.fillText("hidden units of the mixing network →", left, height - 7);
}
