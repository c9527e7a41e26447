// Which part of a scene is shown: zoom by wheel, pinch, keys and buttons; follow who is chosen.

import { html } from "./dom.js";

const MOST = 12; // times larger

/** What all scenes of the page share: how much larger, and where the middle is. */
export function makeLens(redraw) {
  // `middle` is in units of the scene; null means: all of it, or whoever is followed
  const lens = { zoom: 1, middle: null, follow: true, dragged: false };
  lens.changed = () => {
    document.body.classList.toggle("zoomed", lens.zoom > 1);
    redraw();
  };
  lens.by = (factor) => {
    lens.zoom = Math.min(MOST, Math.max(1, lens.zoom * factor));
    if (lens.zoom === 1) lens.reset();
    else lens.changed();
  };
  lens.reset = () => {
    Object.assign(lens, { zoom: 1, middle: null, follow: true });
    lens.changed();
  };
  return lens;
}

/**
 * Scales from a scene to its canvas; y grows to the north.
 *
 * `box` is all of the scene, `eye` the place [x, y] of the one that is followed, if there is one,
 * and `widest` the largest number of pixels of a cell without zoom.
 */
export function viewOf(canvas, box, lens, eye, widest = Infinity) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const fit = Math.min(width / box.width, height / box.height, widest);
  const cell = fit * lens.zoom;
  const whole = [box.left + box.width / 2, box.bottom + box.height / 2];
  let middle = whole;
  if (lens.zoom > 1) middle = (lens.follow && eye) || lens.middle || whole;
  const x = (east) => width / 2 + (east - middle[0]) * cell;
  const y = (north) => height / 2 - (north - middle[1]) * cell;
  return { cell, width, height, x, y, middle };
}

/** Wheel, pinch and drag on a canvas; `view()` is what it shows now. */
export function listenToLens(canvas, lens, view) {
  const fingers = new Map();
  let apart = 0;
  canvas.addEventListener("wheel", (event) => {
    if (lens.zoom === 1 && event.deltaY > 0) return; // all is shown: the page scrolls
    event.preventDefault();
    lens.by(Math.exp(-event.deltaY / 400));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    lens.dragged = false;
    apart = distance(fingers);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (fingers.size > 1) {
      const now = distance(fingers);
      if (apart > 0 && now > 0) lens.by(now / apart);
      apart = now;
    } else if (lens.zoom > 1) {
      drag(lens, view(), event.clientX - before[0], event.clientY - before[1]);
    }
  });
  for (const end of ["pointerup", "pointercancel", "pointerleave"]) {
    canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }
}

function distance(fingers) {
  if (fingers.size < 2) return 0;
  const [[x0, y0], [x1, y1]] = fingers.values();
  return Math.hypot(x1 - x0, y1 - y0);
}

/** Move the scene under the pointer; then nobody is followed until someone is chosen. */
function drag(lens, view, dx, dy) {
  if (!view || Math.abs(dx) + Math.abs(dy) === 0) return;
  lens.middle = [view.middle[0] - dx / view.cell, view.middle[1] + dy / view.cell];
  lens.follow = false;
  lens.dragged = true; // the click that ends it chooses nobody
  lens.changed();
}

/** The buttons of a scene: closer, farther, all. */
export function lensButtons(lens) {
  const button = (sign, name, onclick) =>
    html("button", { type: "button", "aria-label": name, title: name, onclick }, sign);
  return html(
    "div",
    { class: "lens", role: "group", "aria-label": "Zoom" },
    button("+", "Closer", () => lens.by(1.5)),
    button("−", "Farther", () => lens.by(1 / 1.5)),
    button("⤢", "Show all", () => lens.reset()),
  );
}
