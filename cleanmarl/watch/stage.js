// The scenes of the episode: one, or two side by side.

import { nameOf, NAMES, TEAM_HUES } from "./compare.js";
import { at, length } from "./data.js";
import { find, html, say } from "./dom.js";
import { lensButtons, listenToLens, makeLens } from "./lens.js";
import { legend, makeScene } from "./scene.js";
import { outcome } from "./timeline.js";

/**
 * A place for the scene of each team; `choose(agent, team)` is called by a click.
 *
 * Returns `open(episodes)`, `layOut()`, `draw(time, agent)`, `describe(t, text)` and `lens`.
 */
export function makeStage(teams, choose) {
  const places = teams.map((_, i) => placeFor(teams, i, choose));
  let episodes = [];
  let scenes = [];
  let now = 0;
  let chosen = 0;
  const draw = () =>
    scenes.forEach((scene, i) => scene?.draw(Math.min(now, length(episodes[i])), chosen));
  const lens = makeLens(draw);
  places.forEach(({ canvas }, i) => {
    canvas.after(lensButtons(lens));
    listenToLens(canvas, lens, () => scenes[i]?.shown);
    canvas.addEventListener("click", (event) => {
      if (lens.dragged) return;
      const time = Math.min(now, length(episodes[i]));
      const agent = scenes[i]?.agentAt(event.offsetX, event.offsetY, time);
      lens.follow ||= agent !== undefined || scenes[i]?.followed !== undefined;
      if (agent !== undefined) choose(agent, i);
      else draw();
    });
  });
  return {
    lens,
    get scenes() {
      return scenes;
    },
    async open(asked) {
      episodes = asked;
      scenes = await Promise.all(asked.map((one, i) => makeScene(places[i].canvas, one, lens)));
      shareView(scenes);
    },
    layOut() {
      scenes.forEach((scene, i) => layOutPlace(places[i], scene, episodes[i]));
      say(find("legend"), legend(episodes[0]));
    },
    draw(time, agent) {
      now = time;
      chosen = agent;
      draw();
    },
    describe(t, text, team) {
      scenes.forEach((scene, i) => {
        places[i].button?.setAttribute("aria-pressed", String(i === team));
        say(places[i].end, t < length(episodes[i]) ? "" : endText(episodes[i], scene));
        if (!scene) return;
        const name = teams.length > 1 ? `${NAMES[i]}, ` : "";
        const words = wordsFor(scene, episodes[i], t);
        places[i].canvas.setAttribute("aria-label", `${name}${text}. ${words}`);
      });
    },
  };
}

/** The first place is in the page; the second one is made here. */
function placeFor(teams, i, choose) {
  if (i > 0) {
    const canvas = html("canvas", { id: "scene-b", class: "scene", role: "img", tabindex: -1 });
    const missing = html("p", { id: "missing-b", class: "missing", hidden: true });
    const end = html("p", { class: "end" });
    find("scenes").append(html("div", { class: "place" }, canvas, end, missing));
  }
  const place = find("scenes").children[i];
  const found = { canvas: place.querySelector("canvas"), missing: place.querySelector(".missing") };
  found.end = place.querySelector(".end");
  if (teams.length > 1) {
    const chip = html("b", { class: "chip" }, NAMES[i]);
    chip.style.background = TEAM_HUES[i];
    const title = "Show this team in the panels";
    const options = { type: "button", class: "team", title, onclick: () => choose(undefined, i) };
    found.button = html("button", options, chip, ` ${nameOf(teams, i)}`);
    place.prepend(found.button);
  }
  return found;
}

/** A scene in words; where it says nothing of what the agents do, their actions. */
function wordsFor(scene, episode, t) {
  const words = scene.describe(Math.min(t, length(episode)));
  if (episode.scene.units || t >= length(episode)) return words;
  const does = episode.agents.map((name, i) =>
    `${name} takes ${episode.actions[i][at(episode.chosen, t, i)]}`
  );
  return `${words} ${does.join("; ")}.`;
}

/** The end of an episode: who won, and what was left. */
function endText(episode, scene) {
  const how = outcome(episode) || (episode.truncated ? "time limit" : "end");
  const left = scene?.left();
  return how[0].toUpperCase() + how.slice(1) + (left ? `: ${left}` : "");
}

function layOutPlace({ canvas, missing }, scene, episode) {
  canvas.hidden = !scene;
  canvas.nextElementSibling.hidden = !scene;
  missing.hidden = Boolean(scene);
  if (scene) canvas.style.aspectRatio = String(Math.min(2.6, Math.max(1.25, scene.shape)));
  else say(missing, `No scene: ${episode.scene.missing}.`);
}

/** Two battles show the same part of the map. */
function shareView(scenes) {
  if (scenes.length < 2 || !scenes.every((scene) => scene?.box)) return;
  const [one, other] = scenes.map((scene) => scene.box);
  const left = Math.min(one.left, other.left);
  const bottom = Math.min(one.bottom, other.bottom);
  const width = Math.max(one.left + one.width, other.left + other.width) - left;
  const height = Math.max(one.bottom + one.height, other.bottom + other.height) - bottom;
  for (const scene of scenes) {
    scene.box = { left, bottom, width, height };
    scene.shape = width / height;
  }
}
