// The moment in words, and the events above the time line.

import { NAMES, parting } from "./compare.js";
import { at, length, shown } from "./data.js";
import { find, html, look, svg } from "./dom.js";
import { deaths } from "./scene.js";

const LANE = 30; // pixels of a team's events
const INSET = 9; // half of the slider's thumb

/** The moment of one or two episodes in words. */
export function momentText(episodes, t) {
  if (episodes.length > 1) return momentOfBoth(episodes, t);
  const [episode] = episodes;
  const steps = length(episode);
  if (t < steps) {
    const before = t > 0 ? `, last reward ${shown(at(episode.reward, t - 1))}` : "";
    return `step ${t} of ${steps}${before}`;
  }
  return `end, after ${steps} steps: ${endOf(episode)}`;
}

function momentOfBoth(episodes, t) {
  const ends = episodes.flatMap((episode, i) => {
    const steps = length(episode);
    return t < steps ? [] : [`${NAMES[i]} ${endOf(episode)} after ${steps} steps`];
  });
  const steps = Math.max(...episodes.map(length));
  return [t < steps ? `step ${t} of ${steps}` : "end", ...ends].join("; ");
}

function endOf(episode) {
  const how = [outcome(episode), episode.truncated ? "time limit" : ""].filter(Boolean);
  return [...how, `reward ${shown(episode.results.ep_reward)}`].join(", ");
}

/** Whether a battle was won, or whether another task succeeded. */
export function outcome({ results }) {
  if (results.battle_won !== undefined) return results.battle_won ? "won" : "lost";
  if (results.success !== undefined) return results.success ? "success" : "no success";
  return "";
}

/** Draw each step's reward and deaths above the time line, in a lane for each team. */
export function drawEvents(episodes) {
  const steps = Math.max(...episodes.map(length));
  const width = find("track").clientWidth;
  const x = (t) => INSET + (t / steps) * (width - 2 * INSET);
  const picture = find("events");
  const height = LANE * episodes.length;
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  picture.style.height = `${height}px`;
  const sizes = episodes.flatMap(({ reward }) => Array.from(reward.values, Math.abs));
  const largest = Math.max(...sizes, 1e-9);
  const thick = Math.max(1, Math.min(6, (0.6 * width) / steps));
  const lanes = episodes.flatMap((episode, i) => {
    const bottom = LANE * (i + 1);
    return [...bars(episode, x, bottom, thick, largest), ...crosses(episode, x, bottom - LANE)];
  });
  picture.replaceChildren(...lanes, ...marks(episodes, x, height));
  const names = episodes.map((_, i) => laneName(episodes, i));
  picture.setAttribute("aria-label", eventsText(episodes));
  find("lanes").replaceChildren(...names, html("span", {}, "step"));
}

/** The rewards and the deaths of each episode in words. */
function eventsText(episodes) {
  const lanes = episodes.map((episode, i) => {
    const name = episodes.length > 1 ? `${NAMES[i]}: ` : "";
    const rewards = Array.from(episode.reward.values, (reward, t) => [t + 1, reward])
      .filter(([, reward]) => reward !== 0);
    const [most] = rewards.toSorted((one, other) => other[1] - one[1]);
    const count = `${rewards.length} of ${length(episode)} steps have a reward`;
    const largest = most ? `, the largest ${shown(most[1])} at step ${most[0]}` : "";
    const died = deaths(episode).map(({ t, unit }) =>
      `${unit.ally ? "agent" : "enemy"} ${unit.index} dies at step ${t}`
    );
    return `${name}${[count + largest, ...died].join("; ")}`;
  });
  return `${lanes.join(". ")}.`;
}

function bars(episode, x, bottom, thick, largest) {
  return Array.from(episode.reward.values, (reward, t) => {
    const height = (16 * Math.abs(reward)) / largest;
    const bar = { x: x(t + 1) - thick / 2, y: bottom - height, width: thick, height };
    return svg("rect", { ...bar, class: reward < 0 ? "loss" : "gain" });
  });
}

function crosses(episode, x, top) {
  return deaths(episode).map(({ t, unit }) => {
    const side = unit.ally ? "ally" : "enemy";
    const [cx, cy] = [x(t), top + (unit.ally ? 4 : 11)];
    const d = `M${cx - 2.5} ${cy - 2.5}l5 5m0 -5l-5 5`;
    const cross = svg("path", { d, class: `death ${side}` });
    if (unit.ally) cross.style.stroke = look(unit.index).colour;
    cross.append(svg("title", {}, `${side} ${unit.kind} ${unit.index} dies`));
    return cross;
  });
}

/** What a lane shows: deaths above rewards, and of two teams the team. */
function laneName(episodes, i) {
  const name = episodes.length > 1 ? html("b", {}, `${NAMES[i]} `) : "";
  const above = html("span", {}, name, deaths(episodes[i]).length ? "deaths" : "");
  return html("span", {}, above, html("span", {}, "reward"));
}

/** The step at which the choices of two teams part. */
function marks(episodes, x, height) {
  const found = episodes.length > 1 ? parting(episodes) : undefined;
  if (!found) return [];
  const place = { x1: x(found.t), x2: x(found.t), y1: 0, y2: height };
  const line = svg("line", { ...place, class: "parting" });
  line.append(svg("title", {}, `The choices of A and B part at step ${found.t}`));
  return [line];
}
