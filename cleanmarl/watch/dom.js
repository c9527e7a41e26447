// Elements, made and changed without any library.

const SVG = "http://www.w3.org/2000/svg";

export function find(id) {
  return document.getElementById(id);
}

/** An HTML element: attributes, then children (elements or text). */
export function html(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined));
  return element;
}

/** Change a text only if it differs, so that the browser need not lay it out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Ten colours, none near the enemies' orange; dashes mark the next ten. */
const HUES = 10;
const DASHES = ["none", "6 3", "2 2", "8 3 2 3", "1 3"];

export function look(agent) {
  const dashes = DASHES[Math.floor(agent / HUES) % DASHES.length];
  return { colour: `var(--agent-${agent % HUES})`, dashes };
}

/** An agent's colour, to draw on a canvas. */
export function hueOf(agent) {
  return colour(`agent-${agent % HUES}`);
}

/** A colour of the style sheet, to draw on a canvas. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Resize a canvas to be sharp on this screen; returns its context, in CSS pixels. */
export function pen(canvas, width, height) {
  if (canvas.recorder) return canvas.recorder;
  const scale = globalThis.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
