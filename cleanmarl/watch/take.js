// What a reader takes along: pictures, numbers, a link, a video.

import { csvOf, TABLES } from "./csv.js";
import { find, html, say } from "./dom.js";
import { pngOf, svgOfCanvas, svgOfChart, svgOfPanel, textOfSvg } from "./export.js";

/** Save a file; the browser asks where, or puts it among its downloads. */
function save(name, content, type) {
  const link = html("a", { download: name });
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * Offer everything: `page` has `episode()`, `agent()`, `gamma()`, `name()` (for files), `draw()`,
 * `scenes()` (the canvases) and `play(done)`.
 */
export function offerToTake(page) {
  for (const panel of ["value", "who", "sees", "team", "agent", "mixer"]) {
    const button = (kind, take) => {
      const title = `${find(`${panel}-title`).textContent || "this panel"} as ${kind}`;
      return html("button", { type: "button", title, onclick: take }, kind);
    };
    const takes = html(
      "span",
      { class: "takes", role: "group", "aria-label": "Take this panel along" },
      button("PNG", () => takePicture(page, panel, "png")),
      button("SVG", () => takePicture(page, panel, "svg")),
      button("CSV", () => {
        const rows = TABLES[panel](page.episode(), page.agent(), page.gamma());
        save(`${page.name()}_${panel}.csv`, csvOf(rows), "text/csv");
      }),
    );
    find(`${panel}-title`).before(takes);
  }
  find("scene-png").addEventListener("click", () => takePicture(page, "scene", "png"));
  find("scene-svg").addEventListener("click", () => takePicture(page, "scene", "svg"));
  find("video").addEventListener("click", () => takeVideo(page));
  find("print").addEventListener("click", () => globalThis.print());
  find("link").addEventListener("click", copyLink);
  find("take").addEventListener("click", ({ target }) => {
    if (target.closest("button")) find("take").open = false;
  });
}

async function takePicture(page, part, kind) {
  const pictures = part === "scene"
    ? page.scenes().map((canvas) => svgOfCanvas(canvas, page.draw))
    : [pictureOf(page, part, kind)];
  for (const [i, picture] of pictures.entries()) {
    const more = pictures.length > 1 ? "_AB"[i + 1] : "";
    const name = `${page.name()}_t${page.t()}_${part}${more}.${kind}`;
    if (kind === "svg") save(name, textOfSvg(picture), "image/svg+xml");
    else save(name, await pngOf(picture), "image/png");
  }
}

/** As SVG, a chart or the picture of the weights is drawn; other panels are text. */
function pictureOf(page, part, kind) {
  const panel = find(part);
  const chart = panel.querySelector("figure svg");
  const canvas = panel.querySelector("canvas:not([hidden])");
  if (kind === "svg" && chart) return svgOfChart(chart);
  if (kind === "svg" && canvas) return svgOfCanvas(canvas, page.draw);
  return svgOfPanel(panel);
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    say(find("note"), "The link to this moment is copied.");
  } catch {
    say(find("note"), `This browser copies nothing by itself: ${location.href}`);
  }
}

/** Film the scene while the episode plays from its first step. */
async function takeVideo(page) {
  const [canvas] = page.scenes();
  const types = ["video/mp4", "video/webm"];
  const type = types.find((one) => globalThis.MediaRecorder?.isTypeSupported(one));
  if (!canvas || !type) {
    say(find("note"), "This browser cannot record a video.");
    return;
  }
  const recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: type });
  const parts = [];
  recorder.ondataavailable = ({ data: part }) => parts.push(part);
  recorder.onstop = () => {
    save(`${page.name()}.${type.slice(6)}`, new Blob(parts), type);
    say(find("note"), "The video is saved.");
  };
  say(find("note"), "Recording: the episode plays once.");
  recorder.start();
  await page.play();
  recorder.stop();
}
