// The head of the page: each run in one line, and the episodes.

import { nameOf, NAMES } from "./compare.js";
import { shown } from "./data.js";
import { find, html, say } from "./dom.js";
import { outcome } from "./timeline.js";

/** Name one or two runs, and offer their episodes. */
export function showHeader(teams, openEpisode) {
  const { env, script, step } = teams[0];
  say(find("env"), env);
  document.title = `${env}, ${[...new Set(teams.map((team) => team.script))].join(" and ")}`;
  if (teams.length > 1) {
    const lines = teams.map((team, i) =>
      html("span", {}, `${NAMES[i]}: ${nameOf(teams, i)} · ${played(team)}`)
    );
    find("about").replaceChildren(...lines);
  } else {
    const made = `${script}, after ${step.toLocaleString("en")} steps`;
    say(find("about"), `${made} · ${played(teams[0])}`);
  }
  const buttons = teams[0].episodes.map((_, i) => {
    const text = teams.length > 1 ? resultsOfBoth(teams, i) : resultOf(teams[0].episodes[i]);
    const name = teams.length > 1 ? `episode ${teams[0].episodes[i].name}` : undefined;
    const title = html("b", {}, name ?? teams[0].episodes[i].name);
    const small = html("small", {}, text);
    return html("button", { type: "button", onclick: () => openEpisode(i) }, title, small);
  });
  find("episodes").replaceChildren(...buttons);
}

/** The greedy episodes of a run, and their results. */
function played({ returns, evaluation }) {
  const percent = (x) => `${shown(100 * x, 0)}%`;
  const { mean, low, high } = evaluation.battle_won ?? evaluation.success ?? {};
  const what = evaluation.battle_won ? "won" : "successful";
  const interval = low === undefined ? "" : ` (${percent(low)} to ${percent(high)})`;
  const rate = mean === undefined ? "" : `, ${percent(mean)} ${what}${interval}`;
  const reward = `, reward ${shown(evaluation.ep_reward.mean)}`;
  const one = returns.length === 1;
  const count = one ? "one greedy episode" : `${returns.length} greedy episodes`;
  const alike = !one && evaluation.ep_reward.low === undefined ? ", all alike" : "";
  return `${count}${rate}${reward}${alike}`;
}

function resultOf(episode) {
  const { ep_reward, ep_length } = episode.results;
  const how = [outcome(episode), `${shown(ep_reward)} in ${ep_length} steps`];
  return how.filter(Boolean).join(", ");
}

function resultsOfBoth(teams, number) {
  const ends = teams.map(({ episodes }, i) => {
    const how = [outcome(episodes[number]), shown(episodes[number].results.ep_reward)];
    return `${NAMES[i]} ${how.filter(Boolean).join(" ")}`;
  });
  return ends.join(", ");
}
