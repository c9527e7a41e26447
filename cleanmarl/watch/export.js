// Pictures of the scene and of the panels: SVG and PNG.

import { find, svg } from "./dom.js";
import { SvgPen } from "./svg_pen.js";

const STYLED = [
  "fill",
  "stroke",
  "stroke-width",
  "stroke-dasharray",
  "stroke-linejoin",
  "font-size",
  "font-weight",
  "font-family",
  "opacity",
  "visibility",
];

/** Draw a canvas once more, as SVG; `draw()` draws it. */
export function svgOfCanvas(canvas, draw) {
  const recorder = new SvgPen(canvas.clientWidth, canvas.clientHeight);
  canvas.recorder = recorder;
  try {
    draw();
  } finally {
    delete canvas.recorder;
    draw();
  }
  return recorder.picture;
}

/** A chart with its style, so that it looks the same elsewhere. */
export function svgOfChart(chart) {
  const copy = chart.cloneNode(true);
  const copies = [copy, ...copy.querySelectorAll("*")];
  [chart, ...chart.querySelectorAll("*")].forEach((element, i) => {
    const style = getComputedStyle(element);
    for (const name of STYLED) copies[i].style.setProperty(name, style.getPropertyValue(name));
  });
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const ground = svg("rect", { width: "100%", height: "100%" });
  ground.style.fill = getComputedStyle(find("stage")).backgroundColor;
  copy.prepend(ground);
  return copy;
}

/** A panel of text and tables, as HTML within SVG: browsers show it, drawing programs do not. */
export function svgOfPanel(panel) {
  const { width, height } = panel.getBoundingClientRect();
  const copy = panel.cloneNode(true);
  for (const menu of copy.querySelectorAll(".takes")) menu.remove();
  const canvases = [...panel.querySelectorAll("canvas")];
  [...copy.querySelectorAll("canvas")].forEach((canvas, i) => {
    const image = document.createElement("img");
    image.src = canvases[i].toDataURL();
    image.style.width = "100%";
    canvas.replaceWith(image);
  });
  const style = document.createElement("style");
  style.textContent = [...document.styleSheets]
    .flatMap((sheet) => [...sheet.cssRules])
    .map((rule) => rule.cssText)
    .join("\n");
  const body = document.createElement("body");
  body.style.display = "block";
  body.append(style, copy);
  const size = { width, height, viewBox: `0 0 ${width} ${height}` };
  const picture = svg("svg", { ...size, xmlns: "http://www.w3.org/2000/svg" });
  const root = document.documentElement;
  picture.style.colorScheme = getComputedStyle(root).colorScheme;
  const inside = svg("foreignObject", { width: "100%", height: "100%" });
  inside.append(body);
  picture.append(inside);
  return picture;
}

export function textOfSvg(picture) {
  return new XMLSerializer().serializeToString(picture);
}

/** A PNG file of an SVG picture, twice as large. */
export async function pngOf(picture) {
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(textOfSvg(picture))}`;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = 2 * Number(picture.getAttribute("width"));
  canvas.height = 2 * Number(picture.getAttribute("height"));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}
