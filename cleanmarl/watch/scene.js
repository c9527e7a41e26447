// The scene: a battle, or pictures of another environment.

import { Battle } from "./battle.js";
import { at, length } from "./data.js";
import { pen } from "./dom.js";
import { glyph } from "./units.js";

/** The scene of an episode: `draw(time, agent)`, `agentAt(x, y)`, `describe(t)`. */
export function makeScene(canvas, episode) {
  if (episode.scene.units) return new Battle(canvas, episode);
  if (episode.scene.pictures) return pictures(canvas, episode);
  return null;
}

async function pictures(canvas, episode) {
  const files = episode.scene.pictures.map((file) =>
    new Blob([file.values], { type: "image/webp" })
  );
  const images = await Promise.all(files.map((file) => createImageBitmap(file)));
  return {
    draw(time) {
      const image = images[Math.min(images.length - 1, Math.floor(time + 0.5))];
      const width = canvas.clientWidth;
      const height = canvas.clientHeight;
      const scale = Math.min(width / image.width, height / image.height);
      const context = pen(canvas, width, height);
      context.imageSmoothingQuality = "high";
      const [w, h] = [image.width * scale, image.height * scale];
      context.drawImage(image, (width - w) / 2, (height - h) / 2, w, h);
    },
    agentAt: () => undefined,
    describe: () => "Picture of the environment.",
    shape: images[0].width / images[0].height,
  };
}

/** The legend below the scene. */
export function legend(episode) {
  if (!episode.scene.units) return "";
  const kinds = [...new Set(episode.scene.units.map((unit) => unit.kind))];
  const glyphs = kinds.map((kind) => `${glyph(kind)} ${kind}`).join(", ");
  const shields = episode.scene.units.some((unit) => unit.max_shield > 0);
  const rings = shields ? "rings: health, and shield around it" : "ring: health";
  const circles = "large circle: what the chosen agent sees, small: what it can target";
  return [glyphs, "discs are agents, hexagons enemies", rings, circles].join(" · ");
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
