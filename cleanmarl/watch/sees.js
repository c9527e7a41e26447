// What the chosen agent observes.

import { row, shown } from "./data.js";
import { find, html, say } from "./dom.js";

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

/**
 * Tables of entries such as "enemy 0: distance", one for each kind of unit.
 *
 * Entries with other names, such as "target", are in a table of their own.
 */
function namedTables(names, values) {
  const kinds = new Map();
  const others = [];
  names.forEach((name, k) => {
    const [unit, entry] = name.split(": ");
    if (entry === undefined) {
      const head = html("th", { scope: "row" }, name);
      others.push(html("tr", {}, head, numberCell(shown(values[k]))));
      return;
    }
    const kind = unit.replace(/ \d+$/, "");
    if (!kinds.has(kind)) kinds.set(kind, new Map());
    const units = kinds.get(kind);
    if (!units.has(unit)) units.set(unit, new Map());
    units.get(unit).set(entry, values[k]);
  });
  const tables = [...kinds.values()].map(unitTable);
  if (others.length) {
    tables.unshift(html("table", { class: "sees" }, html("tbody", {}, ...others)));
  }
  return tables;
}

/** A row for each unit and a column for each entry; entries "is ..." are one column. */
function unitTable(units) {
  const entries = [...units.values().next().value.keys()];
  const plain = entries.filter((entry) => !entry.startsWith("is "));
  const types = entries.filter((entry) => entry.startsWith("is "));
  const rows = [...units].map(([unit, of]) => {
    const cells = plain.map((entry) => numberCell(cellOf(entry, of.get(entry))));
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

function numberCell(text) {
  return html("td", { class: "number" }, text);
}

function cellOf(entry, value) {
  if (entry.startsWith("can ") || entry.startsWith("in ")) return value ? "yes" : "no";
  return shown(value);
}

function numbers(values) {
  const cells = Array.from(values, (value, k) => html("li", { value: k }, shown(value)));
  return html("ol", { class: "numbers", start: 0 }, ...cells);
}
