// The page: which episode, which moment, which agent; playing, keys and the address.

import { agentPanel } from "./actions.js";
import { teamPanel } from "./agents.js";
import { listen } from "./charts.js";
import { mostDifferent, NAMES, partingText } from "./compare.js";
import { at, length, unpack } from "./data.js";
import { find, say } from "./dom.js";
import { showHeader } from "./header.js";
import { mixerPanel } from "./mixing.js";
import { valuePanel, whoPanel } from "./over_time.js";
import { summaryPanel } from "./run.js";
import { markScrollers } from "./scroll.js";
import { observationPanel } from "./sees.js";
import { makeStage } from "./stage.js";
import { surprises } from "./surprise.js";
import { offerToTake } from "./take.js";
import { offerPresentation, offerTheme } from "./theme.js";
import { drawEvents, momentText } from "./timeline.js";
import { offerTour } from "./tour.js";

const PLAY = "M5 3l12 7-12 7z";
const PAUSE = "M5 3h4v14H5zM11 3h4v14h-4z";
const EASE = 0.82; // share of a step's time in which the units move

const data = await unpack(find("content").textContent);
const teams = data.teams ?? [data]; // one, or two that are compared
const state = { team: 0, episode: 0, t: 0, agent: 0, part: 0, playing: false, loop: false };
const stage = makeStage(teams, choose);
let panels = [];
let clock = 0;
let hint = "";

/** The episode of the team whose values the panels show. */
function shownEpisode() {
  return teams[state.team].episodes[state.episode];
}

/** The episode of each team. */
function shownEpisodes() {
  return teams.map(({ episodes }) => episodes[state.episode]);
}

/** The steps of the episode; of two, the longer one counts. */
function lastStep() {
  return Math.max(...shownEpisodes().map(length));
}

/** Take the moment from the address: #episode=best&t=17&agent=2, of two teams also &team=B */
function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const { episodes } = teams[0];
  const place = episodes.findIndex((episode) => episode.name === asked.get("episode"));
  const usual = teams.length > 1 ? mostDifferent(teams) : episodes.length - 1;
  state.episode = place >= 0 ? place : usual;
  state.team = Math.max(0, NAMES.slice(0, teams.length).indexOf(asked.get("team")));
  const whole = (name, most) =>
    Math.min(most, Math.max(0, Number.parseInt(asked.get(name), 10) || 0));
  state.t = whole("t", lastStep());
  state.agent = whole("agent", shownEpisode().agents.length - 1);
  return state.episode;
}

function writeAddress() {
  const team = teams.length > 1 ? `&team=${NAMES[state.team]}` : "";
  const address = `#episode=${shownEpisode().name}&t=${state.t}&agent=${state.agent}${team}`;
  if (location.hash !== address) history.replaceState(null, "", address);
}

async function openEpisode(number) {
  state.episode = number;
  state.t = Math.min(state.t, lastStep());
  state.part = 0;
  for (const [i, button] of [...find("episodes").children].entries()) {
    button.setAttribute("aria-pressed", String(i === number));
  }
  find("time").max = lastStep();
  await stage.open(shownEpisodes());
  build();
}

/** Build all panels: for a new episode, or a new width. */
function build() {
  const episode = shownEpisode();
  stage.layOut();
  hint = teamHint(episode);
  panels = [
    teamPanel(episode, choose, otherEpisode()),
    agentPanel(episode),
    valuePanel(shownEpisodes(), teams, go),
    whoPanel(episode, lastStep(), go),
    mixerPanel(episode),
    observationPanel(episode),
  ];
  drawEvents(shownEpisodes());
  summaryPanel(teams, state.team, episode);
  if (teams.length > 1) {
    document.body.dataset.team = NAMES[state.team];
    find("parting").replaceChildren(...partingText(shownEpisodes(), go));
  }
  update();
}

/** The episode of the team that the panels do not show. */
function otherEpisode() {
  const other = 1 - state.team;
  return teams[other] && { episode: teams[other].episodes[state.episode], name: NAMES[other] };
}

function teamHint(episode) {
  const bars =
    "Bars compare the values of available actions; dots are unavailable; the dark bar is taken.";
  const rise = "if the agent’s value rises by 0.01, Q_tot rises by 0.01 × weight (∂Q_tot/∂q).";
  const weight = episode.sums ? "it is 1, because Q_tot is the plain sum of the values." : rise;
  return `${bars} Weight: ${weight}`;
}

/** Show the current moment in all panels. */
function update() {
  const text = momentText(shownEpisodes(), state.t);
  find("time").value = state.t;
  find("time").setAttribute("aria-valuetext", text);
  find("now").setAttribute("aria-live", state.playing ? "off" : "polite");
  say(find("now"), text);
  find("back").disabled = state.t === 0;
  find("forth").disabled = state.t === lastStep();
  find("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  find("playing").setAttribute("d", state.playing ? PAUSE : PLAY);
  const own = Math.min(state.t, length(shownEpisode())); // one team's episode may be shorter
  for (const panel of panels) panel.moveTo(own, state.agent, state.t);
  const over = own === length(shownEpisode());
  say(find("team-hint"), over ? `The last decision, at step ${own - 1}. ${hint}` : hint);
  markScrollers();
  say(find("note"), "");
  stage.describe(state.t, text, state.team);
  draw();
  if (!state.playing) writeAddress();
}

function draw() {
  stage.draw(state.t + state.part, state.agent);
}

function go(t) {
  state.t = Math.min(lastStep(), Math.max(0, t));
  state.part = 0;
  update();
}

/** Choose an agent, and of two teams one. */
function choose(agent = state.agent, team = state.team) {
  const count = shownEpisode().agents.length;
  state.agent = (agent + count) % count;
  const other = team !== state.team;
  state.team = team;
  if (other) build();
  else update();
}

function play(on) {
  if (on && state.t === lastStep()) state.t = 0;
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
    if (state.t >= lastStep()) state.t = 0; // only a loop comes here
    else state.t = Math.min(lastStep(), state.t + Math.max(1, Math.floor(passed)));
    if (state.t >= lastStep() && !state.loop) state.playing = false;
    update();
  } else {
    state.part = state.t < lastStep() ? Math.min(1, Math.max(0, passed) / EASE) : 0;
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) draw();
  }
  requestAnimationFrame(tick);
}

/** Go to the next surprise of the episode; after the last one, to the first. */
function surprise() {
  const found = surprises(shownEpisode(), gamma());
  const last = found.findIndex(({ text }) => find("note").textContent.startsWith(text));
  const next = found[last + 1] && last >= 0
    ? found[last + 1]
    : found.find(({ t }) => t > state.t) ?? found[0];
  if (!next) return;
  state.agent = next.agent ?? state.agent;
  go(next.t);
  say(find("note"), `${next.text} (step ${next.t}).`);
}

function gamma() {
  return teams[state.team].args.gamma?.[0] ?? 1;
}

/** What the files to take along need of the page. */
const page = {
  episode: shownEpisode,
  agent: () => state.agent,
  gamma,
  t: () => state.t,
  name: () => `${teams[0].env}_${shownEpisode().name}`.replaceAll(/[^\w.-]+/g, "_"),
  draw: update,
  scenes: () => [...document.querySelectorAll(".scene:not([hidden])")],
  async play() {
    Object.assign(state, { t: 0, loop: false });
    play(true);
    while (state.playing) await new Promise((done) => setTimeout(done, 50));
  },
};

const KEYS = {
  s: surprise,
  " ": () => play(!state.playing),
  ArrowLeft: (event) => go(state.t - (event.shiftKey ? 10 : 1)),
  ArrowRight: (event) => go(state.t + (event.shiftKey ? 10 : 1)),
  b: () => go(0),
  e: () => go(lastStep()),
  n: () => choose(state.agent + 1),
  p: () => choose(state.agent - 1),
  "+": () => stage.lens.by(1.5),
  "-": () => stage.lens.by(1 / 1.5),
  t: () => choose(state.agent, (state.team + 1) % teams.length),
  "[": () => openEpisode(Math.max(0, state.episode - 1)),
  "]": () => openEpisode(Math.min(teams[0].episodes.length - 1, state.episode + 1)),
};

function listenToReader() {
  find("play").addEventListener("click", () => play(!state.playing));
  find("back").addEventListener("click", () => go(state.t - 1));
  find("forth").addEventListener("click", () => go(state.t + 1));
  find("time").addEventListener("input", (event) => go(Number(event.target.value)));
  listen(find("events"), (x) => {
    const part = (x - 9) / (find("track").clientWidth - 18);
    go(Math.round(part * lastStep()));
  });
  document.addEventListener("keydown", (event) => {
    const own = event.target.closest("select, summary, button");
    if (own && (event.key === " " || own.tagName === "SELECT")) return;
    if (event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key](event);
  });
  globalThis.addEventListener("hashchange", () => openEpisode(readAddress()));
  find("surprise").addEventListener("click", surprise);
  find("loop").addEventListener("click", () => {
    state.loop = !state.loop;
    find("loop").setAttribute("aria-pressed", String(state.loop));
  });
  offerTheme(build);
  offerPresentation(build);
  offerToTake(page);
  let width = globalThis.innerWidth;
  globalThis.addEventListener("resize", () => {
    if (width === globalThis.innerWidth) return; // a phone hides its address bar
    width = globalThis.innerWidth;
    build();
  });
}

/** Two scenes have the full width, above all panels. */
function layOutForTwo() {
  document.body.classList.add("two");
  const above = ["stage", "note", "parting", "legend"].map(find);
  document.querySelector("main").before(...above);
  find("parting").hidden = false;
}

globalThis.watch = { ...data, state, at, stage };
if (teams.length > 1) layOutForTwo();
showHeader(teams, openEpisode);
listenToReader();
await openEpisode(readAddress());
document.body.dataset.ready = "yes";
offerTour(shownEpisode());
