// The table of all agents: the values of their actions, their choices and their weights.

import { acts, healthOf, LEAST, valuesNow } from "./agent.js";
import { at, digitsFor, extent, length, shown } from "./data.js";
import { find, html, look, say, svg } from "./dom.js";

const WEIGHT = "∂Q_tot/∂q: by how much Q_tot rises if the agent’s value rises by 1";

/**
 * All agents: the values of their actions, their choices and their weights.
 *
 * `other` is the episode of another team, and its name: its choices stand below.
 */
export function teamPanel(episode, choose, other) {
  const steps = length(episode);
  const spreads = episode.agents.map((_, i) => widest(episode, i));
  const digits = digitsFor(Math.max(...spreads));
  const largest = Math.max(1e-6, ...episode.slope.values);
  const battle = Boolean(episode.scene.units);
  const weight = html("span", { title: WEIGHT }, "weight");
  const head = ["agent", "action values", "action, its value", weight];
  const table = find("agents");
  const cells = head.map((name) => html("th", { scope: "col" }, name));
  const rows = episode.agents.map((name, i) => agentRow(episode, name, i, battle, choose));
  table.replaceChildren(
    html("thead", {}, html("tr", {}, ...cells)),
    html("tbody", {}, ...rows.map((parts) => parts.line)),
  );
  return {
    moveTo(t, chosen, now) {
      bringIntoView(rows[chosen].line);
      rows.forEach((parts, i) => {
        const moment = Math.min(t, steps - 1); // after the end, the last decision stays
        const alive = acts(episode, t, i);
        parts.line.classList.toggle("chosen", i === chosen);
        parts.line.classList.toggle("dead", !alive);
        parts.button.setAttribute("aria-pressed", String(i === chosen));
        if (battle) showHealth(parts, healthOf(episode, t, i), alive);
        drawValues(parts, episode, moment, i, spreads[i]);
        const action = at(episode.chosen, moment, i);
        const value = at(episode.q, moment, i, action);
        say(parts.action, episode.actions[i][action]);
        say(parts.value, shown(value, digits));
        if (other) showOther(parts.other, other, now, i, action);
        const slope = at(episode.slope, moment, i);
        say(parts.weight, shown(slope));
        parts.weightBar.style.width = `${(100 * slope) / largest}%`;
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
  const frame = { viewBox: `0 0 ${size} 30`, preserveAspectRatio: "xMinYMax" };
  const picture = svg("svg", { ...frame, class: "bars", role: "img" });
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
  const other = html("span", { class: "other" });
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
    html("td", {}, action, " ", value, other),
    html("td", { class: "weighs" }, weight, html("span", { class: "meter" }, weightBar)),
  );
  const parts = { line, button, health, healthText, bars, picture };
  return { ...parts, action, value, other, weight, weightBar };
}

/** What the other team's agent does at this moment. */
function showOther(place, { episode, name }, t, i, action) {
  const over = t >= length(episode);
  const choice = over ? undefined : at(episode.chosen, t, i);
  say(place, over ? `${name}: over` : `${name}: ${episode.actions[i][choice]}`);
  place.classList.toggle("differs", !over && choice !== action);
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
function drawValues({ bars, picture }, episode, t, i, widest) {
  const values = valuesNow(episode, t, i);
  const [low, high] = extent(values);
  const spread = Math.max(high - low, LEAST * widest, 1e-6);
  const chosen = at(episode.chosen, t, i);
  const words = episode.actions[i].flatMap((action, j) =>
    Number.isFinite(values[j]) ? [`${action} ${shown(values[j])}`] : []
  );
  picture.setAttribute("aria-label", `Values of available actions: ${words.join(", ")}`);
  bars.forEach((bar, j) => {
    const available = Number.isFinite(values[j]);
    const height = available ? 4 + (24 * (values[j] - low)) / spread : 2;
    bar.setAttribute("y", 29 - height);
    bar.setAttribute("height", height);
    bar.setAttribute("class", available ? (j === chosen ? "taken" : "may") : "cannot");
  });
}
