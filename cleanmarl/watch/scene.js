// The scene: a battle, things in their places, or pictures.

import { Battle } from "./battle.js";
import { at, length } from "./data.js";
import { Field } from "./field.js";
import { pictures } from "./pictures.js";
import { glyph } from "./units.js";

/**
 * The scene of an episode: `draw(time, agent)`, `agentAt(x, y, time)`, `describe(t)`, `left()`.
 *
 * `lens` says how much of it is shown; `shown` is the last view.
 */
export function makeScene(canvas, episode, lens) {
  if (episode.scene.units) return new Battle(canvas, episode, lens);
  if (episode.scene.field) return new Field(canvas, episode, lens);
  if (episode.scene.pictures) return pictures(canvas, episode, lens);
  return null;
}

/** The legend below the scene. */
export function legend(episode) {
  const { units, field, things } = episode.scene;
  if (units) return battleLegend(units);
  if (field) return fieldLegend(field, things, episode.scene.moving);
  const full = (name, i) => (name.includes(String(i)) ? name : `${i} ${name}`);
  const agents = episode.agents.map(full);
  const names = `Agents: ${agents.join(", ")}. Actions: ${episode.actions[0].join(", ")}.`;
  if (!episode.scene.pictures) return names;
  const unknown =
    "The picture is the environment’s own: it does not say which figure is which agent.";
  return `${unknown} ${names}`;
}

function battleLegend(units) {
  const kinds = [...new Set(units.map((unit) => unit.kind))];
  const glyphs = kinds.map((kind) => `${glyph(kind)} ${kind}`).join(", ");
  const shields = units.some((unit) => unit.max_shield > 0);
  const rings = shields ? "rings: health, and shield around it" : "ring: health";
  const circles = "large circle: what the chosen agent sees, small: what it can target";
  const sides = "discs are agents in the colours of the table, hexagons enemies";
  return [glyphs, sides, rings, circles].join(" · ");
}

function fieldLegend(field, things, moving) {
  const kinds = new Set(things.map((thing) => thing.kind));
  const levels = moving.level.values.some((level) => level > 0) && !kinds.has("shelf");
  const marks = {
    food: "green squares are food",
    landmark: "diamonds are landmarks",
    shelf: "squares are shelves, green if they are asked for",
    goal: "G marks goals",
  };
  const others = [...kinds].filter((kind) => kind !== "agent");
  const letter = (kind) => `${kind.slice(0, 1).toUpperCase()} marks a ${kind}`;
  const parts = others.map((kind) => marks[kind] ?? letter(kind));
  if (levels) parts.push("a digit inside is a level");
  const seen = `the dashed square is what the chosen agent sees, ${field.sight} cells each way`;
  if (field.sight !== null && field.grid) parts.push(seen);
  return ["discs are agents in the colours of the table", ...parts].join(" · ");
}

/** The deaths of an episode: [{ t, unit }]. */
export function deaths(episode) {
  const { units, moving } = episode.scene;
  if (!units) return [];
  const found = [];
  units.forEach((unit, u) => {
    for (let t = 1; t <= length(episode); t++) {
      if (at(moving.alive, t - 1, u) && !at(moving.alive, t, u)) found.push({ t, unit });
    }
  });
  return found;
}
