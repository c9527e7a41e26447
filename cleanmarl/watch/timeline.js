// The moment in words, and the events above the time line.

import { at, length, shown } from "./data.js";
import { find, svg } from "./dom.js";
import { deaths } from "./scene.js";

export function momentText(episode, t) {
  const steps = length(episode);
  if (t < steps) {
    const before = t > 0 ? `, last reward ${shown(at(episode.reward, t - 1))}` : "";
    return `step ${t} of ${steps}${before}`;
  }
  const how = [outcome(episode), episode.truncated ? "time limit" : ""].filter(Boolean);
  const reward = `reward ${shown(episode.results.ep_reward)}`;
  return `end, after ${steps} steps: ${[...how, reward].join(", ")}`;
}

/** Whether a battle was won, or whether another task succeeded. */
export function outcome({ results }) {
  if (results.battle_won !== undefined) return results.battle_won ? "won" : "lost";
  if (results.success !== undefined) return results.success ? "success" : "no success";
  return "";
}

/** Draw each step's reward and deaths above the time line. */
export function drawEvents(episode) {
  const steps = length(episode);
  const width = find("track").clientWidth;
  const inset = 9; // half of the slider's thumb
  const x = (t) => inset + (t / steps) * (width - 2 * inset);
  const picture = find("events");
  picture.setAttribute("viewBox", `0 0 ${width} 30`);
  const largest = Math.max(...episode.reward.values.map(Math.abs), 1e-9);
  const thick = Math.max(1, Math.min(6, (0.6 * width) / steps));
  const bars = Array.from(episode.reward.values, (reward, t) => {
    const height = (16 * Math.abs(reward)) / largest;
    const bar = { x: x(t + 1) - thick / 2, y: 30 - height, width: thick, height };
    return svg("rect", { ...bar, class: reward < 0 ? "loss" : "gain" });
  });
  const crosses = deaths(episode).map(({ t, unit }) => {
    const side = unit.ally ? "ally" : "enemy";
    const [cx, cy] = [x(t), unit.ally ? 4 : 11];
    const d = `M${cx - 2.5} ${cy - 2.5}l5 5m0 -5l-5 5`;
    const cross = svg("path", { d, class: `death ${side}` });
    cross.append(svg("title", {}, `${side} ${unit.kind} ${unit.index} dies`));
    return cross;
  });
  picture.replaceChildren(...bars, ...crosses);
}
