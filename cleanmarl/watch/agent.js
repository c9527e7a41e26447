// What is known of an agent at a step: whether it can act, its health, the values of its actions.

import { at, row } from "./data.js";

/** Bars scale with the differences of a moment, at least with this part of the largest. */
export const LEAST = 0.2;

/** Whether an agent can act at a step; a dead agent cannot. */
export function acts(episode, t, agent) {
  const { units, moving } = episode.scene;
  if (!units) return true;
  const u = units.findIndex((unit) => unit.ally && unit.index === agent);
  return at(moving.alive, t, u) > 0;
}

export function healthOf(episode, t, agent) {
  const { units, moving } = episode.scene;
  if (!units) return undefined;
  const u = units.findIndex((unit) => unit.ally && unit.index === agent);
  const health = at(moving.hp, t, u);
  const shield = units[u].max_shield ? at(moving.shield, t, u) : 0;
  return { health, shield, full: units[u].max_hp, part: health / units[u].max_hp };
}

export function valuesNow(episode, t, i) {
  const available = row(episode.avail, t, i);
  return Array.from(row(episode.q, t, i), (value, j) => (available[j] ? value : NaN));
}
