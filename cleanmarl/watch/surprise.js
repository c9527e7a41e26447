// The moments of an episode that a reader would look for.

import { at, length, shown, signed } from "./data.js";
import { deaths } from "./scene.js";

/**
 * The surprises of an episode in their order: [{ t, agent, text }]; agent is absent if all matter.
 *
 * The TD error is r + gamma Q_tot(next) - Q_tot; nothing follows the last step.
 */
export function surprises(episode, gamma) {
  const choice = largestRegret(episode) ?? largestStake(episode);
  const found = [largestError(episode, gamma), choice];
  const lost = deaths(episode).filter(({ unit }) => unit.ally)
    .toSorted((one, other) => one.t - other.t)[0];
  if (lost) {
    const { index, kind } = lost.unit;
    found.push({ t: lost.t, agent: index, text: `First lost unit: ${kind} ${index}` });
  }
  return found.filter(Boolean).toSorted((one, other) => one.t - other.t);
}

/** The last step does not count if its target continues beyond the time limit. */
export function errorAt(episode, gamma, t) {
  const last = t === length(episode) - 1;
  if (last && episode.bootstrapped) return NaN;
  const next = last ? 0 : at(episode.q_tot, t + 1);
  return at(episode.reward, t) + gamma * next - at(episode.q_tot, t);
}

function largestError(episode, gamma) {
  let best;
  for (let t = 0; t < length(episode); t++) {
    const error = errorAt(episode, gamma, t);
    if (Number.isFinite(error) && !(Math.abs(error) <= Math.abs(best?.error))) best = { t, error };
  }
  return best && { t: best.t, text: `Largest TD error: ${signed(best.error)}` };
}

/**
 * How much Q_tot one agent alone could have gained by another action.
 *
 * A monotonic mixer leaves none to greedy agents: then it is undefined.
 */
function largestRegret(episode) {
  const { t, agent, action, gain } = largestChange(episode, 1);
  if (Number(shown(gain)) <= 0) return undefined;
  return { t, agent, text: `Largest regret: agent ${agent}, ${action} has ${signed(gain)}` };
}

/** The choice of one agent on which most depends: another action would have cost most. */
function largestStake(episode) {
  const { t, agent, action, gain } = largestChange(episode, -1);
  if (Number(shown(gain)) <= 0) return undefined;
  const choice = `agent ${agent}, ${action} has −${shown(gain)}`;
  return { t, agent, text: `Choice with most at stake: ${choice}` };
}

/** The change of one agent's action after which Q_tot rises (sign 1) or falls (-1) most. */
function largestChange(episode, sign) {
  let best = { gain: -Infinity };
  for (let t = 0; t < length(episode); t++) {
    episode.agents.forEach((_, agent) => {
      episode.actions[agent].forEach((action, j) => {
        if (!at(episode.avail, t, agent, j)) return;
        const gain = sign * (at(episode.what_if, t, agent, j) - at(episode.q_tot, t));
        if (gain > best.gain) best = { gain, t, agent, action };
      });
    });
  }
  return best;
}
