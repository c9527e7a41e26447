// Charts over the steps of an episode: Q_tot and the return, and the agents' weights.

import { lineChart } from "./charts.js";
import { at, length, shown } from "./data.js";
import { find, look, say } from "./dom.js";
import { deaths } from "./scene.js";

/** Q_tot and the return that followed, over time. */
export function valuePanel(episode, args, go) {
  const lines = [
    { name: "Q_tot", values: episode.q_tot.values, colour: "var(--ally)" },
    { name: "return", values: episode.returns.values, colour: "var(--enemy)", dashes: "5 3" },
  ];
  const steps = length(episode);
  const label = "Q_tot and the discounted return over the steps of the episode";
  const options = { lines, label, steps, go, end: episode.truncated };
  const chart = lineChart(find("value-chart"), options);
  const notes = [];
  if (episode.truncated) {
    notes.push("The time limit ended the episode: the return has no rewards after it.");
  }
  if (args.normalize_reward?.[0]) {
    notes.push("Q_tot counts standardised rewards, the return counts plain rewards.");
  }
  return {
    moveTo(t) {
      chart.moveTo(t);
      if (t >= steps) {
        say(find("value-now"), ["The episode is over.", ...notes].join(" "));
        return;
      }
      const expected = at(episode.q_tot, t);
      const came = at(episode.returns, t);
      const verdict = expected > came ? "overestimated" : "underestimated";
      const difference = shown(Math.abs(expected - came));
      const text = `Q_tot ${shown(expected)}, the discounted return that followed ${
        shown(came)
      }: ${verdict} by ${difference}.`;
      say(find("value-now"), [text, ...notes].join(" "));
    },
  };
}

/** dQ_tot/dq_i of all agents over time. */
export function whoPanel(episode, go) {
  const steps = length(episode);
  const lines = episode.agents.map((_, i) => {
    const values = Float32Array.from({ length: steps }, (_, t) => at(episode.slope, t, i));
    const { colour: hue, dashes } = look(i);
    return { name: String(i), values, colour: hue, dashes };
  });
  const label = "The weight of each agent, dQ_tot/dq, over the steps of the episode";
  const chart = lineChart(find("who-chart"), { lines, label, steps, go });
  const fallen = deaths(episode).filter(({ unit }) => unit.ally);
  return {
    moveTo(t, agent) {
      chart.moveTo(t, agent);
      say(find("who-hint"), weightText(episode, Math.min(t, steps - 1), agent, fallen));
    },
  };
}

function weightText(episode, t, agent, fallen) {
  if (episode.sums) {
    const sum = "Q_tot is the plain sum of the agents’ values (VDN)";
    return `${sum}: every agent’s weight is 1 in every state.`;
  }
  const weights = episode.agents.map((_, i) => at(episode.slope, t, i));
  const most = weights.indexOf(Math.max(...weights));
  const death = fallen.find(({ unit }) => unit.index === agent);
  const dies = death ? ` It dies at step ${death.t}.` : "";
  const own = `∂Q_tot/∂q of agent ${agent} is ${shown(weights[agent])} at step ${t}`;
  return `${own}; the largest is ${shown(weights[most])}, of agent ${most}.${dies}`;
}
