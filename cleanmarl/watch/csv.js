// The numbers of each panel as a table for other programs.

import { at, length } from "./data.js";
import { errorAt } from "./surprise.js";

/** The panels that have numbers: a list of rows for an episode and the chosen agent. */
export const TABLES = {
  value: (episode, _, gamma) => [
    ["step", "reward", "q_tot", "return", "td_error"],
    ...steps(episode).map((t) => {
      const { reward, q_tot, returns } = episode;
      return [t, at(reward, t), at(q_tot, t), at(returns, t), errorAt(episode, gamma, t)];
    }),
  ],
  who: (episode) => [
    ["step", ...episode.agents.map((_, i) => `weight of agent ${i}`)],
    ...steps(episode).map((t) => [t, ...episode.agents.map((_, i) => at(episode.slope, t, i))]),
  ],
  team: (episode) => [
    ["step", "agent", "name", "action", "value", "weight"],
    ...steps(episode).flatMap((t) =>
      episode.agents.map((name, i) => {
        const action = at(episode.chosen, t, i);
        const numbers = [at(episode.q, t, i, action), at(episode.slope, t, i)];
        return [t, i, name, episode.actions[i][action], ...numbers];
      })
    ),
  ],
  agent: (episode, agent) => [
    ["step", "agent", "action", "available", "chosen", "value", "q_tot_then"],
    ...steps(episode).flatMap((t) =>
      episode.actions[agent].map((action, j) => {
        const may = at(episode.avail, t, agent, j);
        const chosen = Number(at(episode.chosen, t, agent) === j);
        const then = may ? at(episode.what_if, t, agent, j) : NaN;
        return [t, agent, action, may, chosen, at(episode.q, t, agent, j), then];
      })
    ),
  ],
  mixer: (episode) => {
    const { w1, w2 } = episode.weights;
    if (!w1) return [["step", "row", "hidden_unit", "weight"]];
    const units = Array.from({ length: w2.bytes.shape[1] }, (_, k) => k);
    const of = (part, ...place) => (at(part.bytes, ...place) / 255) * part.largest;
    const rows = steps(episode).flatMap((t) => [
      ...episode.agents.flatMap((_, i) => units.map((k) => [t, `W1 ${i}`, k, of(w1, t, i, k)])),
      ...units.map((k) => [t, "W2", k, of(w2, t, k)]),
    ]);
    return [["step", "row", "hidden_unit", "weight"], ...rows];
  },
  sees: (episode, agent) => {
    const size = episode.obs.shape[2];
    const names = episode.observation?.[agent] ??
      Array.from({ length: size }, (_, k) => `entry ${k}`);
    const moments = [...steps(episode), length(episode)];
    const seen = (t) => names.map((_, k) => at(episode.obs, t, agent, k));
    const rows = moments.map((t) => [t, agent, ...seen(t)]);
    return [["step", "agent", ...names], ...rows];
  },
};

function steps(episode) {
  return Array.from({ length: length(episode) }, (_, t) => t);
}

/** Rows as CSV (RFC 4180); numbers that do not exist are empty. */
export function csvOf(rows) {
  return rows.map((row) => `${row.map(cellText).join(",")}\r\n`).join("");
}

function cellText(value) {
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  // a spreadsheet would compute a text that begins like a formula
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
