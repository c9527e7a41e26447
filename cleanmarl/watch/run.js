// Facts of the run: its evaluation, its actions, its arguments.

import { dots } from "./charts.js";
import { differences, NAMES, textOf } from "./compare.js";
import { at, row, shown } from "./data.js";
import { find, html } from "./dom.js";

/** Facts of the run, the same at every step. */
export function summaryPanel(teams, number, episode) {
  const data = teams[number];
  const named = new Map(data.episodes.map((one) => [one.number, one.name]));
  const parts = teams.length > 1 ? differenceTable(teams) : [];
  const count = data.returns.length;
  const facts = Object.entries(data.evaluation).map(([name, { mean, low, high }]) => {
    const [title, digits] = METRICS[name] ?? [name, 2];
    const share = name === "battle_won" || name === "success";
    const text = (x) => (share ? `${shown(100 * x, 0)}%` : shown(x, digits));
    const interval = low === undefined ? "" : `95% interval ${text(low)} to ${text(high)}`;
    return html("li", {}, html("b", {}, text(mean)), ` ${title} `, html("small", {}, interval));
  });
  parts.push(
    html("h3", {}, count === 1 ? "One greedy episode" : `${count} greedy episodes`),
    html("ul", { class: "facts" }, ...facts),
  );
  if (count > 1 && data.evaluation.ep_reward.low === undefined) {
    const alike = "All have the same reward and length: they count as one, without an interval.";
    parts.push(html("p", { class: "hint" }, alike));
  }
  if (new Set(data.returns).size > 1) parts.push(dots(data.returns, named, 420));
  parts.push(
    html("h3", {}, "Actions of each agent in all episodes"),
    countTable(data.counts, episode),
  );
  const every = Object.entries(data.args);
  const changed = every.filter(([, [value, usual]]) => textOf(value) !== textOf(usual));
  parts.push(...madeWith(data.made));
  parts.push(argumentTable("Arguments that are not the defaults", changed, true));
  parts.push(argumentTable("All arguments", Object.entries(data.args), false));
  find("run").replaceChildren(...parts);
}

/** The command, the commit or else the version, and the versions of others, where known. */
function madeWith({ command, commit, version, versions }) {
  const release = version ? `CleanMARL-QMIX version ${version}.` : "Commit unknown.";
  const facts = [commit ? `Commit ${commit}.` : release, versions ? `${versions}.` : ""];
  const parts = [html("h3", {}, "Made with"), html("p", { class: "hint" }, facts.join(" "))];
  if (command) parts.splice(1, 0, html("pre", {}, command));
  return parts;
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

/** The arguments of two runs that differ. */
function differenceTable(teams) {
  const rows = differences(teams).map(([name, ...values]) => {
    const cells = values.map((value) => html("td", {}, value));
    return html("tr", {}, html("th", { scope: "row" }, name), ...cells);
  });
  const heads = ["argument", ...NAMES].map((name) => html("th", { scope: "col" }, name));
  const head = html("thead", {}, html("tr", {}, ...heads));
  const table = html("table", { class: "args differ" }, head, html("tbody", {}, ...rows));
  const title = html("h3", {}, "Arguments in which A and B differ");
  return [title, rows.length ? html("div", { class: "scroll" }, table) : html("p", {}, "none")];
}

function argumentTable(title, entries, open) {
  const rows = entries.map(([name, [value]]) => {
    const cell = html("td", {}, textOf(value));
    return html("tr", {}, html("th", { scope: "row" }, name), cell);
  });
  const content = rows.length
    ? html("table", { class: "args" }, html("tbody", {}, ...rows))
    : html("p", {}, "none");
  return html("details", { open }, html("summary", {}, `${title} (${rows.length})`), content);
}
