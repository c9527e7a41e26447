// Tables and texts beside the scene. Each is built once per episode and updated at every step.

import { dots, lineChart } from "./charts.js";
import { at, digitsFor, extent, length, row, shown, signed } from "./data.js";
import { colour, find, html, look, pen, say, svg } from "./dom.js";
import { deaths } from "./scene.js";

/** Bars scale with the differences of a moment, at least with this part of the largest. */
const LEAST = 0.2;

/** Whether an agent can act at a step; a dead agent cannot. */
function acts(episode, t, agent) {
  const { units, moving } = episode.scene;
  if (!units) return true;
  const u = units.findIndex((unit) => unit.ally && unit.index === agent);
  return at(moving.alive, t, u) > 0;
}

function healthOf(episode, t, agent) {
  const { units, moving } = episode.scene;
  if (!units) return undefined;
  const u = units.findIndex((unit) => unit.ally && unit.index === agent);
  const health = at(moving.hp, t, u);
  const shield = units[u].max_shield ? at(moving.shield, t, u) : 0;
  return { health, shield, full: units[u].max_hp, part: health / units[u].max_hp };
}

/** All agents: the values of their actions, their choices and their weights. */
export function teamPanel(episode, choose) {
  const steps = length(episode);
  const spreads = episode.agents.map((_, i) => widest(episode, i));
  const digits = digitsFor(Math.max(...spreads));
  const largest = Math.max(1e-6, ...episode.slope.values);
  const battle = Boolean(episode.scene.units);
  const head = ["agent", "action values", "action", "weight"];
  const table = find("agents");
  const cells = head.map((name) => html("th", { scope: "col" }, name));
  const rows = episode.agents.map((name, i) => agentRow(episode, name, i, battle, choose));
  table.replaceChildren(
    html("thead", {}, html("tr", {}, ...cells)),
    html("tbody", {}, ...rows.map((parts) => parts.line)),
  );
  return {
    moveTo(t, chosen) {
      bringIntoView(rows[chosen].line);
      rows.forEach((parts, i) => {
        const over = t >= steps;
        const alive = acts(episode, t, i);
        parts.line.classList.toggle("chosen", i === chosen);
        parts.line.classList.toggle("dead", !alive);
        parts.button.setAttribute("aria-pressed", String(i === chosen));
        if (battle) showHealth(parts, healthOf(episode, t, i), alive);
        const moment = Math.min(t, steps - 1);
        drawValues(parts.bars, episode, moment, i, spreads[i], over);
        const action = at(episode.chosen, moment, i);
        const value = at(episode.q, moment, i, action);
        say(parts.action, over ? "–" : episode.actions[i][action]);
        say(parts.value, over ? "" : shown(value, digits));
        const slope = at(episode.slope, moment, i);
        say(parts.weight, over ? "" : shown(slope));
        parts.weightBar.style.width = over ? "0" : `${(100 * slope) / largest}%`;
      });
    },
  };
}

/** Scroll a long table, but not the page, to one of its rows. */
function bringIntoView(line) {
  const box = line.closest(".scroll");
  const top = line.offsetTop;
  if (top < box.scrollTop) box.scrollTop = top;
  const below = top + line.offsetHeight - box.clientHeight;
  if (below > box.scrollTop) box.scrollTop = below;
}

function agentRow(episode, name, i, battle, choose) {
  const { colour: hue } = look(i);
  const health = html("i", { class: "fill" });
  const healthText = html("span", { class: "hidden" });
  const bars = episode.actions[i].map((action, j) => {
    const rest = svg("rect", { x: j * 9, width: 7, rx: 1 });
    rest.append(svg("title", {}, action));
    return rest;
  });
  const size = 9 * bars.length - 2;
  const picture = svg("svg", { viewBox: `0 0 ${size} 30`, class: "bars", "aria-hidden": "true" });
  picture.style.maxWidth = `${Math.max(64, 1.3 * size)}px`;
  picture.append(svg("line", { x1: 0, x2: size, y1: 29.5, y2: 29.5, class: "grid" }), ...bars);
  const chip = html("b", { class: "chip" }, String(i));
  chip.style.background = hue;
  const button = html(
    "button",
    { type: "button", onclick: () => choose(i) },
    chip,
    ` ${label(name, i)}`,
  );
  const action = html("span", { class: "does" });
  const value = html("small", {});
  const weight = html("span", { class: "number" });
  const weightBar = html("i", { class: "fill" });
  weightBar.style.background = hue;
  const first = html("th", { scope: "row" }, button);
  if (battle) first.append(html("span", { class: "meter" }, health), healthText);
  const line = html(
    "tr",
    { onclick: () => choose(i) },
    first,
    html("td", { class: "values" }, picture),
    html("td", {}, action, " ", value),
    html("td", { class: "weighs" }, weight, html("span", { class: "meter" }, weightBar)),
  );
  return { line, button, health, healthText, bars, action, value, weight, weightBar };
}

/** "marine 0" without its number, which is shown beside it. */
function label(name, i) {
  return name.replace(new RegExp(` ${i}$`), "");
}

function showHealth(parts, { health, shield, full, part }, alive) {
  parts.health.style.width = `${100 * (alive ? part : 0)}%`;
  const text = shield
    ? `health ${shown(health, 0)} of ${full}, shield ${shown(shield, 0)}`
    : undefined;
  say(parts.healthText, alive ? (text ?? `health ${shown(health, 0)} of ${full}`) : "dead");
  parts.button.title = parts.healthText.textContent;
}

function valuesNow(episode, t, i) {
  const available = row(episode.avail, t, i);
  return Array.from(row(episode.q, t, i), (value, j) => (available[j] ? value : NaN));
}

/** The largest difference between available actions of an agent, in the whole episode. */
function widest(episode, i) {
  let most = 0;
  for (let t = 0; t < length(episode); t++) {
    const values = valuesNow(episode, t, i).filter(Number.isFinite);
    if (values.length > 1) most = Math.max(most, Math.max(...values) - Math.min(...values));
  }
  return most;
}

/**
 * Bars for available actions, from the worst value up; dots for unavailable actions.
 *
 * The best action has the full height, unless all values are nearly equal for this agent.
 */
function drawValues(bars, episode, t, i, widest, over) {
  const values = valuesNow(episode, t, i);
  const [low, high] = extent(values);
  const spread = Math.max(high - low, LEAST * widest, 1e-6);
  const chosen = at(episode.chosen, t, i);
  bars.forEach((bar, j) => {
    const available = Number.isFinite(values[j]) && !over;
    const height = available ? 4 + (24 * (values[j] - low)) / spread : 2;
    bar.setAttribute("y", 29 - height);
    bar.setAttribute("height", height);
    bar.setAttribute("class", available ? (j === chosen ? "taken" : "may") : "cannot");
  });
}

/** The chosen agent: the value of each action, and Q_tot if it alone had taken this action. */
export function agentPanel(episode) {
  const steps = length(episode);
  let built;
  return {
    moveTo(t, agent) {
      if (built?.agent !== agent) built = buildActions(episode, agent);
      const over = t >= steps;
      const moment = Math.min(t, steps - 1);
      say(find("agent-title"), `What if agent ${agent} did something else`);
      say(find("agent-hint"), hintOf(episode, moment, agent, acts(episode, t, agent), over));
      showActions(episode, built, moment, over);
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
  const titles = ["action", "value", "", "Q_tot then", "", ""];
  const heads = titles.map((title) => html("th", { scope: "col" }, title));
  const body = html("tbody", {}, ...rows.map(({ line }) => line));
  find("actions").replaceChildren(html("thead", {}, html("tr", {}, ...heads)), body);
  return { agent, rows, scale: scales(episode, agent) };
}

function showActions(episode, { agent, rows, scale }, t, over) {
  const now = at(episode.q_tot, t);
  const taken = at(episode.chosen, t, agent);
  const [low, high] = scale.value;
  const [worst, best] = roomFor(scale.change, changesNow(episode, t, agent));
  const digits = digitsFor(high - low);
  const digitsOfTotal = digitsFor(scale.change[1] - scale.change[0]);
  rows.forEach(({ line, value, total, change }, j) => {
    const may = at(episode.avail, t, agent, j) && !over;
    line.className = may ? (j === taken ? "taken" : "may") : "cannot";
    line.setAttribute("aria-current", String(j === taken && !over));
    const q = at(episode.q, t, agent, j);
    const other = at(episode.what_if, t, agent, j);
    say(value.text, may ? shown(q, digits) : "");
    say(total.text, may ? shown(other, digitsOfTotal) : "not available");
    const difference = j === taken ? "chosen" : signed(other - now, digitsOfTotal);
    say(change, may ? difference : "");
    place(value.fill, may ? q : 0, low, high);
    place(total.fill, may ? other - now : 0, worst, best);
  });
}

function hintOf(episode, t, agent, alive, over) {
  if (over) return "The episode is over.";
  if (!alive) return "The agent is dead: its only action is no-op.";
  const values = Array.from(row(episode.q, t, agent));
  const may = values.map((_, j) => at(episode.avail, t, agent, j) > 0);
  const count = may.filter(Boolean).length;
  if (count === 1) return "Only one action is available.";
  const totals = Array.from(row(episode.what_if, t, agent)).filter((_, j) => may[j]);
  const [low, high] = extent(totals);
  const most = shown(high - low, digitsFor(high - low));
  return `If the others keep their actions, this agent changes Q_tot by at most ${most}.`;
}

function bar() {
  const fill = html("i", { class: "fill" });
  return { text: html("span", {}), fill, track: html("span", { class: "meter two" }, fill) };
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
  const height = (episode.agents.length + 1) * high + 8;
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
}

/** What the chosen agent observes. */
export function observationPanel(episode) {
  const panel = find("observation");
  return {
    moveTo(t, agent) {
      say(find("sees-title"), `What agent ${agent} sees`);
      const values = row(episode.obs, t, agent);
      const names = episode.observation?.[agent];
      const content = names ? namedTables(names, values) : [numbers(values)];
      panel.replaceChildren(...content);
    },
  };
}

/** Tables of entries such as "enemy 0: distance", one for each kind of unit. */
function namedTables(names, values) {
  const kinds = new Map();
  names.forEach((name, k) => {
    const [unit, entry] = name.split(": ");
    const kind = unit.replace(/ \d+$/, "");
    if (!kinds.has(kind)) kinds.set(kind, new Map());
    const units = kinds.get(kind);
    if (!units.has(unit)) units.set(unit, new Map());
    units.get(unit).set(entry, values[k]);
  });
  return [...kinds.values()].map(unitTable);
}

/** A row for each unit and a column for each entry; entries "is ..." are one column. */
function unitTable(units) {
  const entries = [...units.values().next().value.keys()];
  const plain = entries.filter((entry) => !entry.startsWith("is "));
  const types = entries.filter((entry) => entry.startsWith("is "));
  const rows = [...units].map(([unit, of]) => {
    const cells = plain.map((entry) =>
      html("td", { class: "number" }, cellOf(entry, of.get(entry)))
    );
    const type = types.find((entry) => of.get(entry) === 1)?.slice(3) ?? "–";
    if (types.length) cells.push(html("td", {}, type));
    const known = [...of.values()].some((value) => value > 0);
    const name = html("th", { scope: "row" }, unit);
    return html("tr", { class: known ? "" : "unseen" }, name, ...cells);
  });
  const table = html("table", { class: "sees" }, html("tbody", {}, ...rows));
  if (plain.length) {
    const titles = ["", ...plain, ...(types.length ? ["kind"] : [])];
    const heads = titles.map((title) => html("th", { scope: "col" }, title));
    table.prepend(html("thead", {}, html("tr", {}, ...heads)));
  }
  return table;
}

function cellOf(entry, value) {
  if (entry.startsWith("can ") || entry.startsWith("in ")) return value ? "yes" : "no";
  return shown(value);
}

function numbers(values) {
  const cells = Array.from(values, (value, k) => html("li", { value: k }, shown(value)));
  return html("ol", { class: "numbers", start: 0 }, ...cells);
}

/** Facts of the run, the same at every step. */
export function summaryPanel(data, episode) {
  const named = new Map(data.episodes.map((one) => [one.number, one.name]));
  const parts = [];
  const count = data.returns.length;
  const facts = Object.entries(data.evaluation).map(([name, { mean, low, high }]) => {
    const [title, digits] = METRICS[name] ?? [name, 2];
    const share = name === "battle_won" || name === "success";
    const text = (x) => (share ? `${shown(100 * x, 0)}%` : shown(x, digits));
    return html(
      "li",
      {},
      html("b", {}, text(mean)),
      ` ${title} `,
      html("small", {}, `95% interval ${text(low)} to ${text(high)}`),
    );
  });
  parts.push(
    html("h3", {}, count === 1 ? "One greedy episode" : `${count} greedy episodes`),
    html("ul", { class: "facts" }, ...facts),
  );
  if (new Set(data.returns).size > 1) parts.push(dots(data.returns, named, 420));
  parts.push(
    html("h3", {}, "Actions of each agent in all episodes"),
    countTable(data.counts, episode),
  );
  const changed = Object.entries(data.args).filter(([, [value, known]]) => value !== known);
  parts.push(html("h3", {}, "Made with"), html("pre", {}, data.made.command));
  parts.push(
    html("p", { class: "hint" }, `Commit ${data.made.commit || "unknown"}. ${data.made.versions}.`),
  );
  parts.push(argumentTable("Arguments that are not the defaults", changed, true));
  parts.push(argumentTable("All arguments", Object.entries(data.args), false));
  find("run").replaceChildren(...parts);
}

/** The name of an action of all agents: "attack enemy 3", or "heal or attack 3" if they differ. */
function sharedName(episode, j) {
  const names = [...new Set(episode.actions.map((own) => own[j]))];
  if (names.length === 1) return names[0];
  const verbs = new Set(names.map((name) => name.split(" ")[0]).filter((verb) => verb !== "no"));
  const number = names.map((name) => name.split(" ")[2]).find((word) => word !== undefined);
  return `${[...verbs].join(" or ")} ${number ?? ""}`;
}

const METRICS = {
  ep_reward: ["reward", 2],
  ep_length: ["steps", 1],
  battle_won: ["of the battles won", 2],
  success: ["of the episodes successful", 2],
};

function countTable(counts, episode) {
  const total = episode.agents.map((_, i) => row(counts, i).reduce((sum, n) => sum + n, 0));
  const every = episode.actions[0].map((_, j) => j);
  const used = every.filter((j) => total.some((_, i) => at(counts, i, j)));
  const titles = used.map((j) => html("th", { scope: "col" }, sharedName(episode, j)));
  const head = html("tr", {}, html("th", {}, "agent"), ...titles);
  const rows = episode.agents.map((agent, i) => {
    const cells = used.map((j) => shareCell(at(counts, i, j) / total[i]));
    return html("tr", {}, html("th", { scope: "row" }, agent), ...cells);
  });
  const parts = [html("thead", {}, head), html("tbody", {}, ...rows)];
  return html("div", { class: "scroll" }, html("table", { class: "counts" }, ...parts));
}

function shareCell(part) {
  const text = part ? `${shown(100 * part, part < 0.01 ? 1 : 0)}%` : "";
  const cell = html("td", { class: "number share" }, text);
  cell.style.setProperty("--part", part.toFixed(3));
  return cell;
}

function argumentTable(title, entries, open) {
  const rows = entries.map(([name, [value]]) => {
    const cell = html("td", {}, value === "" ? "–" : String(value));
    return html("tr", {}, html("th", { scope: "row" }, name), cell);
  });
  const content = rows.length
    ? html("table", { class: "args" }, html("tbody", {}, ...rows))
    : html("p", {}, "none");
  return html("details", { open }, html("summary", {}, `${title} (${rows.length})`), content);
}
