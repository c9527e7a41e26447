// The page: which episode, which moment, which agent; playing, keys and the address.

import { listen } from "./charts.js";
import { at, length, shown, unpack } from "./data.js";
import { find, html, say, svg } from "./dom.js";
import {
  agentPanel,
  mixerPanel,
  observationPanel,
  summaryPanel,
  teamPanel,
  valuePanel,
  whoPanel,
} from "./panels.js";
import { deaths, legend, makeScene } from "./scene.js";

const PLAY = "M5 3l12 7-12 7z";
const PAUSE = "M5 3h4v14H5zM11 3h4v14h-4z";
const EASE = 0.82; // share of a step's time in which the units move

const data = await unpack(find("content").textContent);
const state = { episode: 0, t: 0, agent: 0, part: 0, playing: false };
let scene = null;
let panels = [];
let clock = 0;

function shownEpisode() {
  return data.episodes[state.episode];
}

/** Take episode, step and agent from the address: #episode=best&t=17&agent=2 */
function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const place = data.episodes.findIndex((episode) => episode.name === asked.get("episode"));
  const best = data.episodes.length - 1;
  const episode = place >= 0 ? place : best;
  const whole = (name, most) =>
    Math.min(most, Math.max(0, Number.parseInt(asked.get(name), 10) || 0));
  state.t = whole("t", length(data.episodes[episode]));
  state.agent = whole("agent", data.episodes[episode].agents.length - 1);
  return episode;
}

function writeAddress() {
  const address = `#episode=${shownEpisode().name}&t=${state.t}&agent=${state.agent}`;
  if (location.hash !== address) history.replaceState(null, "", address);
}

async function openEpisode(number) {
  state.episode = number;
  const episode = shownEpisode();
  state.t = Math.min(state.t, length(episode));
  state.part = 0;
  for (const [i, button] of [...find("episodes").children].entries()) {
    button.setAttribute("aria-pressed", String(i === number));
  }
  find("time").max = length(episode);
  scene = await makeScene(find("scene"), episode);
  build();
}

/** Build all panels: for a new episode, or a new width. */
function build() {
  const episode = shownEpisode();
  find("scene").hidden = !scene;
  find("missing").hidden = Boolean(scene);
  if (scene) find("scene").style.aspectRatio = String(Math.min(2.6, Math.max(1.25, scene.shape)));
  else say(find("missing"), `No scene: ${episode.scene.missing}.`);
  say(find("legend"), legend(episode));
  say(find("team-hint"), teamHint(episode));
  panels = [
    teamPanel(episode, chooseAgent),
    agentPanel(episode),
    valuePanel(episode, data.args, go),
    whoPanel(episode, go),
    mixerPanel(episode),
    observationPanel(episode),
  ];
  drawEvents(episode);
  summaryPanel(data, episode);
  update();
}

function teamHint(episode) {
  const bars =
    "Bars compare the values of available actions; dots are unavailable; the dark bar is taken.";
  return episode.sums ? bars : `${bars} Weight is ∂Q_tot/∂q: how Q_tot changes with the value.`;
}

/** Show the current moment in all panels. */
function update() {
  const episode = shownEpisode();
  const steps = length(episode);
  const text = momentText(episode, state.t);
  find("time").value = state.t;
  find("time").setAttribute("aria-valuetext", text);
  find("now").setAttribute("aria-live", state.playing ? "off" : "polite");
  say(find("now"), text);
  find("back").disabled = state.t === 0;
  find("forth").disabled = state.t === steps;
  find("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  find("playing").setAttribute("d", state.playing ? PAUSE : PLAY);
  for (const panel of panels) panel.moveTo(state.t, state.agent);
  if (scene) find("scene").setAttribute("aria-label", `${text}. ${scene.describe(state.t)}`);
  draw();
  if (!state.playing) writeAddress();
}

function draw() {
  scene?.draw(state.t + state.part, state.agent);
}

function momentText(episode, t) {
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
function outcome({ results }) {
  if (results.battle_won !== undefined) return results.battle_won ? "won" : "lost";
  if (results.success !== undefined) return results.success ? "success" : "no success";
  return "";
}

function go(t) {
  state.t = Math.min(length(shownEpisode()), Math.max(0, t));
  state.part = 0;
  update();
}

function chooseAgent(agent) {
  const count = shownEpisode().agents.length;
  state.agent = (agent + count) % count;
  update();
}

function play(on) {
  const end = length(shownEpisode());
  if (on && state.t === end) state.t = 0;
  state.part = 0;
  state.playing = on;
  clock = performance.now();
  if (on) requestAnimationFrame(tick);
  update();
}

/** Draw a frame while playing: units move in each frame, panels change once a step. */
function tick(now) {
  if (!state.playing) return;
  const rate = Number(find("speed").value); // steps a second
  const passed = ((now - clock) * rate) / 1000;
  if (passed >= 1) {
    clock = now;
    state.part = 0;
    state.t = Math.min(length(shownEpisode()), state.t + Math.max(1, Math.floor(passed)));
    if (state.t >= length(shownEpisode())) state.playing = false;
    update();
  } else {
    state.part = state.t < length(shownEpisode()) ? Math.min(1, Math.max(0, passed) / EASE) : 0;
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) draw();
  }
  requestAnimationFrame(tick);
}

/** Draw each step's reward and deaths above the time line. */
function drawEvents(episode) {
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

function showHeader() {
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

const KEYS = {
  " ": () => play(!state.playing),
  ArrowLeft: (event) => go(state.t - (event.shiftKey ? 10 : 1)),
  ArrowRight: (event) => go(state.t + (event.shiftKey ? 10 : 1)),
  Home: () => go(0),
  End: () => go(length(shownEpisode())),
  ArrowUp: () => chooseAgent(state.agent - 1),
  ArrowDown: () => chooseAgent(state.agent + 1),
  "[": () => openEpisode(Math.max(0, state.episode - 1)),
  "]": () => openEpisode(Math.min(data.episodes.length - 1, state.episode + 1)),
};

function listenToReader() {
  find("play").addEventListener("click", () => play(!state.playing));
  find("back").addEventListener("click", () => go(state.t - 1));
  find("forth").addEventListener("click", () => go(state.t + 1));
  find("time").addEventListener("input", (event) => go(Number(event.target.value)));
  find("scene").addEventListener("click", (event) => {
    const agent = scene?.agentAt(event.offsetX, event.offsetY, state.t + state.part);
    if (agent !== undefined) chooseAgent(agent);
  });
  listen(find("events"), (x) => {
    const part = (x - 9) / (find("track").clientWidth - 18);
    go(Math.round(part * length(shownEpisode())));
  });
  document.addEventListener("keydown", (event) => {
    const own = event.target.closest("select, summary, button");
    if (own && (event.key === " " || own.tagName === "SELECT")) return;
    if (event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key](event);
  });
  globalThis.addEventListener("hashchange", () => openEpisode(readAddress()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", build);
  let width = globalThis.innerWidth;
  globalThis.addEventListener("resize", () => {
    if (width === globalThis.innerWidth) return; // a phone hides its address bar
    width = globalThis.innerWidth;
    build();
  });
}

globalThis.watch = { ...data, state, at };
showHeader();
listenToReader();
await openEpisode(readAddress());
document.body.dataset.ready = "yes";
