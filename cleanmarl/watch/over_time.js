// Charts over the steps of an episode: Q_tot and the return, and the agents' weights.

import { lineChart } from "./charts.js";
import { NAMES, TEAM_HUES } from "./compare.js";
import { at, difference, length, shown } from "./data.js";
import { find, look, say } from "./dom.js";
import { deaths } from "./scene.js";

const NAME = "Q_tot and discounted return"; // of the y axis

/** Q_tot and the return that followed, over time, of one or two teams. */
export function valuePanel(episodes, teams, go) {
  const steps = Math.max(...episodes.map(length));
  const two = episodes.length > 1;
  const end = episodes.some((episode) => episode.truncated);
  const notes = episodes.map((episode, i) => notesOf(episode, teams[i].args));
  let built;
  return {
    moveTo(_, agent, t) {
      if (!built || (two && built.agent !== agent)) {
        const lines = two ? linesOfBoth(episodes, agent) : linesOf(episodes[0]);
        const name = two ? "Q_tot, discounted return and value" : NAME;
        const label = `${name} over the steps of the episode`;
        const options = { lines, label, name, steps, go, end };
        built = { agent, chart: lineChart(find("value-chart"), options) };
      }
      built.chart.moveTo(t);
      const verdicts = episodes.map((episode, i) => {
        const name = two ? [`${NAMES[i]}:`] : [];
        return [...name, verdict(episode, t), ...notes[i]].join(" ");
      });
      say(find("value-now"), verdicts.join("\n"));
    },
  };
}

/** What else one has to know to compare Q_tot with the return. */
function notesOf(episode, args) {
  const notes = [];
  if (episode.bootstrapped) {
    notes.push("The time limit ended the episode: the return has no rewards after it.");
  }
  if (args.normalize_reward?.[0]) {
    notes.push("Q_tot counts standardised rewards, the return counts plain rewards.");
  }
  return notes;
}

function linesOf(episode) {
  return [
    { name: "Q_tot", values: episode.q_tot.values, colour: "var(--ally)" },
    { name: "return", values: episode.returns.values, colour: "var(--enemy)", dashes: "5 3" },
  ];
}

/** Q_tot, return and the value of an agent's action, in the colours of two teams. */
function linesOfBoth(episodes, agent) {
  return episodes.flatMap((episode, i) => {
    const values = Float32Array.from({ length: length(episode) }, (_, t) => {
      return at(episode.q, t, agent, at(episode.chosen, t, agent));
    });
    const [colour, name] = [TEAM_HUES[i], NAMES[i]];
    return [
      { name: `${name} Q_tot`, values: episode.q_tot.values, colour },
      { name: `${name} return`, values: episode.returns.values, colour, dashes: "5 3" },
      { name: `${name} agent ${agent}`, values, colour, dashes: "1.5 2.5" },
    ];
  });
}

function verdict(episode, t) {
  const steps = length(episode);
  if (t >= steps) return `The episode is over. At its last step: ${verdict(episode, steps - 1)}`;
  const expected = at(episode.q_tot, t);
  const came = at(episode.returns, t);
  const gap = difference(expected, came);
  const how = gap > 0 ? "overestimated" : "underestimated";
  const numbers = `Q_tot ${shown(expected)}, the discounted return that followed ${shown(came)}`;
  if (gap === 0) return `${numbers}: they agree.`;
  return `${numbers}: ${how} by ${shown(Math.abs(gap))}.`;
}

/** dQ_tot/dq_i of all agents over time. */
export function whoPanel(episode, steps, go) {
  const last = length(episode) - 1;
  const lines = episode.agents.map((_, i) => {
    const values = Float32Array.from({ length: last + 1 }, (_, t) => at(episode.slope, t, i));
    const { colour: hue, dashes } = look(i);
    return { name: String(i), values, colour: hue, dashes };
  });
  const label = "The weight of each agent, dQ_tot/dq, over the steps of the episode";
  const chart = lineChart(find("who-chart"), { lines, label, name: "weight ∂Q_tot/∂q", steps, go });
  const fallen = deaths(episode).filter(({ unit }) => unit.ally);
  return {
    moveTo(own, agent, t) {
      chart.moveTo(t, agent);
      say(find("who-hint"), weightText(episode, Math.min(own, last), agent, fallen));
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
