// The table of an agent's actions: their values, and Q_tot if it alone had taken another.

import { acts, LEAST, valuesNow } from "./agent.js";
import { at, difference, digitsFor, extent, length, row, shown, signed } from "./data.js";
import { find, html, say } from "./dom.js";

/** The chosen agent: the value of each action, and Q_tot if it alone had taken this action. */
export function agentPanel(episode) {
  const steps = length(episode);
  let built;
  return {
    moveTo(t, agent) {
      if (built?.agent !== agent) built = buildActions(episode, agent);
      const moment = Math.min(t, steps - 1);
      say(find("agent-title"), `What if agent ${agent} did something else`);
      const digits = digitsFor(built.scale.change[1] - built.scale.change[0]);
      const alive = acts(episode, moment, agent);
      const last = t >= steps ? `The last decision, at step ${moment}. ` : "";
      say(find("agent-hint"), last + hintOf(episode, moment, agent, alive, digits));
      showActions(episode, built, moment);
    },
  };
}

/** The table's rows for an agent, and the bounds of their bars. */
function buildActions(episode, agent) {
  const rows = episode.actions[agent].map((name) => {
    const value = bar();
    const total = bar();
    const change = html("small", {});
    const number = (content) => html("td", { class: "number" }, content);
    const long = (content) => html("td", { class: "long" }, content);
    const cells = [number(value.text), long(value.track), number(total.text), number(change)];
    const head = html("th", { scope: "row" }, name);
    return { line: html("tr", {}, head, ...cells, long(total.track)), value, total, change };
  });
  const ends = { value: axis(), change: axis() };
  const titles = ["action", "value", ends.value.line, "Q_tot then", "change", ends.change.line];
  const heads = titles.map((title) => html("th", { scope: "col" }, title));
  const body = html("tbody", {}, ...rows.map(({ line }) => line));
  find("actions").replaceChildren(html("thead", {}, html("tr", {}, ...heads)), body);
  return { agent, rows, ends, scale: scales(episode, agent) };
}

function showActions(episode, { agent, rows, ends, scale }, t) {
  const now = at(episode.q_tot, t);
  const taken = at(episode.chosen, t, agent);
  const [low, high] = scale.value;
  const [worst, best] = roomFor(scale.change, changesNow(episode, t, agent));
  const digits = digitsFor(high - low);
  const digitsOfTotal = digitsFor(scale.change[1] - scale.change[0]);
  showAxis(ends.value, low, high, digits);
  showAxis(ends.change, worst, best, digitsOfTotal);
  rows.forEach(({ line, value, total, change }, j) => {
    const may = at(episode.avail, t, agent, j);
    line.className = may ? (j === taken ? "taken" : "may") : "cannot";
    line.setAttribute("aria-current", String(j === taken));
    const q = at(episode.q, t, agent, j);
    const other = at(episode.what_if, t, agent, j);
    say(value.text, may ? shown(q, digits) : "");
    say(total.text, may ? shown(other, digitsOfTotal) : "not available");
    const gap = difference(other, now, digitsOfTotal);
    say(change, !may ? "" : j === taken ? "chosen" : signed(gap, digitsOfTotal));
    place(value.fill, may ? q : 0, low, high);
    place(total.fill, may ? other - now : 0, worst, best);
  });
}

function hintOf(episode, t, agent, alive, digits) {
  if (!alive) return "The agent is dead: its only action is no-op.";
  const values = Array.from(row(episode.q, t, agent));
  const may = values.map((_, j) => at(episode.avail, t, agent, j) > 0);
  const count = may.filter(Boolean).length;
  if (count === 1) return "Only one action is available.";
  const totals = Array.from(row(episode.what_if, t, agent)).filter((_, j) => may[j]);
  const [low, high] = extent(totals);
  const most = shown(difference(high, low, digits), digits);
  return `If the others keep their actions, this agent changes Q_tot by at most ${most}.`;
}

function bar() {
  const fill = html("i", { class: "fill" });
  return { text: html("span", {}), fill, track: html("span", { class: "meter two" }, fill) };
}

/** The numbers at both ends of the bars of a column. */
function axis() {
  const [low, high] = [html("span", {}), html("span", {})];
  return { low, high, line: html("span", { class: "ends" }, low, high) };
}

function showAxis(ends, low, high, digits) {
  say(ends.low, shown(low, digits));
  say(ends.high, shown(high, digits));
}

/** Draw a bar from 0 to a value, on a track from low to high. */
function place(fill, value, low, high) {
  const part = (x) => (100 * (x - low)) / (high - low);
  const ends = [part(0), part(Math.min(high, Math.max(low, value)))].sort((a, b) => a - b);
  fill.style.left = `${ends[0]}%`;
  fill.style.width = `${Math.max(value === 0 ? 0 : 0.8, ends[1] - ends[0])}%`;
}

/** The bounds of an agent's values, and of its changes of Q_tot, over the episode. */
function scales(episode, agent) {
  const values = [0];
  const changes = [0];
  for (let t = 0; t < length(episode); t++) {
    values.push(...valuesNow(episode, t, agent));
    changes.push(...changesNow(episode, t, agent));
  }
  const roomy = ([low, high]) => (high - low < 1e-6 ? [low - 1, high + 1] : [low, high]);
  return { value: roomy(extent(values)), change: roomy(extent(changes)) };
}

/** What each available action of an agent would change in Q_tot, at a step. */
function changesNow(episode, t, agent) {
  const now = at(episode.q_tot, t);
  const available = row(episode.avail, t, agent);
  return Array.from(row(episode.what_if, t, agent), (q, j) => (available[j] ? q - now : NaN));
}

/** Bounds for the changes of a moment, at least a fixed part of the episode's bounds. */
function roomFor([low, high], changes) {
  const [least, most] = extent([0, ...changes]);
  return [Math.min(least, LEAST * low), Math.max(most, LEAST * high)];
}
