// Two teams in the same episode: their names, what differs, and where their choices part.

import { at, length } from "./data.js";
import { html } from "./dom.js";

export const NAMES = ["A", "B"];
export const TEAM_HUES = ["var(--team-a)", "var(--team-b)"];

/** Arguments that say how a run writes, not how it learns. */
const OUTPUT = ["device", "torch_threads", "capture_video", "log_every", "eval_steps"];

/** The arguments of two runs that differ: [name, value of A, value of B], the mixer first. */
export function differences([one, other]) {
  const names = [...new Set([...Object.keys(one.args), ...Object.keys(other.args)])];
  const text = (team, name) => textOf(team.args[name]?.[0]);
  const pairs = names.map((name) => [name, text(one, name), text(other, name)]);
  const rank = (name) => (name === "mixer" ? 0 : name === "seed" ? 2 : 1);
  const found = pairs.filter(([, mine, yours]) => mine !== yours);
  return found.sort(([first], [second]) => rank(first) - rank(second));
}

/** The value of an argument as text. */
export function textOf(value) {
  if (value === undefined || value === null || value === "") return "–";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A team of two in a few words: its script, the first arguments that differ, and its steps. */
export function nameOf(teams, i) {
  const { script, step } = teams[i];
  const telling = differences(teams).filter(([name]) => !isOutput(name)).slice(0, 2);
  const parts = telling.map((found) => `${found[0]} ${found[1 + i]}`);
  return [script, ...parts, `after ${step.toLocaleString("en")} steps`].join(", ");
}

function isOutput(name) {
  return OUTPUT.includes(name) || /^(wnb|save|checkpoint|use)_/.test(name);
}

/** The first step at which two teams choose different actions, and which agents do. */
export function parting([one, other]) {
  const steps = Math.min(length(one), length(other));
  for (let t = 0; t < steps; t++) {
    const agents = one.agents.map((_, i) => i)
      .filter((i) => at(one.chosen, t, i) !== at(other.chosen, t, i));
    if (agents.length) return { t, agents };
  }
  return undefined;
}

/** The parting in words, with a button that leads to it. */
export function partingText(episodes, go) {
  const found = parting(episodes);
  if (!found) return ["Both teams take the same actions in all steps of this episode."];
  const { t, agents: [agent, ...others] } = found;
  const does = episodes.map((one, i) =>
    `${one.actions[agent][at(one.chosen, t, agent)]} (${NAMES[i]})`
  );
  const more = others.length ? `, and ${others.length} more` : "";
  const button = html("button", { type: "button", onclick: () => go(t) }, `step ${t}`);
  return ["Their choices part at ", button, `: agent ${agent} takes ${does.join(", ")}${more}.`];
}

/** The episode in which the rewards of two teams differ most. */
export function mostDifferent([one, other]) {
  const lead = (i) =>
    Math.abs(one.episodes[i].results.ep_reward - other.episodes[i].results.ep_reward);
  const every = one.episodes.map((_, i) => i);
  return every.reduce((best, i) => (lead(i) > lead(best) ? i : best));
}
