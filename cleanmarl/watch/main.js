// The page: which episode, which moment, which agent; playing, keys and the address.

import { agentPanel } from "./actions.js";
import { teamPanel } from "./agents.js";
import { listen } from "./charts.js";
import { at, length, unpack } from "./data.js";
import { find, say } from "./dom.js";
import { showHeader } from "./header.js";
import { mixerPanel } from "./mixing.js";
import { valuePanel, whoPanel } from "./over_time.js";
import { summaryPanel } from "./run.js";
import { legend, makeScene } from "./scene.js";
import { observationPanel } from "./sees.js";
import { drawEvents, momentText } from "./timeline.js";

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
showHeader(data, openEpisode);
listenToReader();
await openEpisode(readAddress());
document.body.dataset.ready = "yes";
