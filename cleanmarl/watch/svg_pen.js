// A canvas context that writes SVG instead: what the page uses of it, and no more.

import { svg } from "./dom.js";

const SAVED = [
  "globalAlpha",
  "fillStyle",
  "strokeStyle",
  "lineWidth",
  "font",
  "textAlign",
  "textBaseline",
  "dashes",
];
const ANCHORS = { left: "start", start: "start", center: "middle", right: "end", end: "end" };

export class SvgPen {
  constructor(width, height) {
    const size = { width, height, viewBox: `0 0 ${width} ${height}` };
    this.picture = svg("svg", { ...size, xmlns: "http://www.w3.org/2000/svg" });
    Object.assign(this, { globalAlpha: 1, fillStyle: "#000", strokeStyle: "#000", lineWidth: 1 });
    Object.assign(this, { font: "10px sans-serif", textAlign: "start" });
    this.textBaseline = "alphabetic";
    this.dashes = [];
    this.stack = [];
    this.path = [];
  }

  save() {
    this.stack.push(SAVED.map((name) => this[name]));
  }

  restore() {
    this.stack.pop()?.forEach((value, i) => {
      this[SAVED[i]] = value;
    });
  }

  setLineDash(dashes) {
    this.dashes = dashes;
  }

  beginPath() {
    this.path = [];
  }

  moveTo(x, y) {
    this.path.push(`M${round(x)} ${round(y)}`);
  }

  lineTo(x, y) {
    this.path.push(`${this.path.length ? "L" : "M"}${round(x)} ${round(y)}`);
  }

  closePath() {
    this.path.push("Z");
  }

  arc(x, y, radius, from, to) {
    this.ellipse(x, y, radius, radius, 0, from, to);
  }

  ellipse(x, y, rx, ry, _, from, to) {
    const place = (angle) =>
      `${round(x + rx * Math.cos(angle))} ${round(y + ry * Math.sin(angle))}`;
    const turn = Math.min(2 * Math.PI, to - from);
    const radii = `A${round(rx)} ${round(ry)} 0 0 1`;
    const ends = [1, 2, 3].map((third) => `${radii} ${place(from + (turn * third) / 3)}`);
    this.path.push(`${this.path.length ? "L" : "M"}${place(from)}`, ...ends);
  }

  rect(x, y, width, height) {
    this.path.push(`M${round(x)} ${round(y)}h${round(width)}v${round(height)}h${round(-width)}Z`);
  }

  roundRect(x, y, width, height, radius) {
    const r = Math.min(radius, width / 2, height / 2);
    const [w, h] = [round(width - 2 * r), round(height - 2 * r)];
    const corner = (dx, dy) => `a${round(r)} ${round(r)} 0 0 1 ${round(dx)} ${round(dy)}`;
    const parts = [`h${w}`, corner(r, r), `v${h}`, corner(-r, r), `h${-w}`, corner(-r, -r)];
    this.path.push(`M${round(x + r)} ${round(y)}${parts.join("")}v${-h}${corner(r, -r)}Z`);
  }

  fill() {
    this.add("path", { d: this.path.join(""), fill: this.fillStyle });
  }

  stroke() {
    this.add("path", { d: this.path.join(""), fill: "none", ...this.line() });
  }

  fillRect(x, y, width, height) {
    const place = { x: round(x), y: round(y), width: round(width), height: round(height) };
    this.add("rect", { ...place, fill: this.fillStyle });
  }

  strokeRect(x, y, width, height) {
    const place = { x: round(x), y: round(y), width: round(width), height: round(height) };
    this.add("rect", { ...place, fill: "none", ...this.line() });
  }

  fillText(text, x, y) {
    this.write(text, x, y, { fill: this.fillStyle });
  }

  strokeText(text, x, y) {
    this.write(text, x, y, { fill: "none", ...this.line() });
  }

  drawImage(image, x, y, width, height) {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: image.width, height: image.height });
    canvas.getContext("2d").drawImage(image, 0, 0);
    this.add("image", { x, y, width, height, href: canvas.toDataURL() });
  }

  line() {
    const dashes = this.dashes.length ? this.dashes.join(" ") : undefined;
    const own = { stroke: this.strokeStyle, "stroke-width": this.lineWidth };
    return { ...own, "stroke-dasharray": dashes, "stroke-linejoin": "round" };
  }

  write(text, x, y, ink) {
    const middle = this.textBaseline === "middle" ? "central" : undefined;
    const anchor = ANCHORS[this.textAlign];
    const place = { x: round(x), y: round(y), "text-anchor": anchor, "dominant-baseline": middle };
    this.add("text", { ...place, style: `font: ${this.font}`, ...ink }, text);
  }

  add(tag, attributes, ...children) {
    const opacity = this.globalAlpha < 1 ? round(this.globalAlpha) : undefined;
    this.picture.append(svg(tag, { ...attributes, opacity }, ...children));
  }
}

function round(number) {
  return Math.round(number * 100) / 100;
}
