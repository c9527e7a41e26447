// The head of the page: the run in one line, and its episodes.

import { shown } from "./data.js";
import { find, html, say } from "./dom.js";
import { outcome } from "./timeline.js";

/** Name the run, and offer its episodes. */
export function showHeader(data, openEpisode) {
  const { env, script, step, returns, evaluation } = data;
  say(find("env"), env);
  document.title = `${env}, ${script}`;
  const percent = (x) => `${shown(100 * x, 0)}%`;
  const { mean, low, high } = evaluation.battle_won ?? evaluation.success ?? {};
  const what = evaluation.battle_won ? "won" : "successful";
  const rate = mean === undefined
    ? ""
    : `, ${percent(mean)} ${what} (${percent(low)} to ${percent(high)})`;
  const reward = `, reward ${shown(evaluation.ep_reward.mean)}`;
  const played = returns.length === 1 ? "one greedy episode" : `${returns.length} greedy episodes`;
  const alike = returns.length > 1 && data.episodes.length === 1 ? ", all identical" : "";
  say(
    find("about"),
    `${script}, after ${step.toLocaleString("en")} steps · ${played}${rate}${reward}${alike}`,
  );
  const buttons = data.episodes.map((episode, i) => {
    const { ep_reward, ep_length } = episode.results;
    const how = [outcome(episode), `${shown(ep_reward)} in ${ep_length} steps`];
    const text = html("small", {}, how.filter(Boolean).join(", "));
    return html(
      "button",
      { type: "button", onclick: () => openEpisode(i) },
      html("b", {}, episode.name),
      text,
    );
  });
  find("episodes").replaceChildren(...buttons);
}
