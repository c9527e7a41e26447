// A tour of three steps for those who have never seen a mixer; shown once.

import { find, say } from "./dom.js";

const SEEN = "cleanmarl-watch-tour";

/** What each step points to, its title and its text. */
function stepsOf(episode) {
  const sum = "Here the mixer adds the agents’ values: every weight is 1.";
  const mixes = [
    "Training rewards the team, not each agent. So a mixing network joins the values of all",
    "agents into Q_tot, the value of the team. An agent’s weight says how strongly Q_tot follows",
    "its value.",
  ].join(" ");
  const plays = "Bars on the time line are rewards, crosses are deaths. All panels show this step.";
  const acts = [
    "Each agent has a value for every action, and takes the available one with the highest value.",
    "Choose an agent here to see what it sees, and what else it could have done.",
  ].join(" ");
  const expects = "The dashed line is what really came: the nearer Q_tot is, the better it knows.";
  return [
    ["transport", "Play an episode", plays],
    ["team", "Each agent decides alone", acts],
    ["value", "The mixer joins their values", `${episode.sums ? sum : mixes} ${expects}`],
  ];
}

/** Show the tour if this browser has not seen it; the button or the key "?" brings it back. */
export function offerTour(episode) {
  const steps = stepsOf(episode);
  find("help").addEventListener("click", () => start(steps, true));
  document.addEventListener("keydown", ({ key }) => {
    if (key === "?") start(steps, true);
    const tour = find("tour");
    if (key === "Escape" && !tour.hidden) end(tour.contains(document.activeElement));
  });
  if (!seen()) start(steps, false);
}

function seen() {
  try {
    return Boolean(localStorage.getItem(SEEN));
  } catch {
    return false; // a browser may forbid to store
  }
}

function remember() {
  try {
    localStorage.setItem(SEEN, "seen");
  } catch {
    // then the tour comes again
  }
}

/** Open the tour; `focus` is false if the reader has not asked for it. */
function start(steps, focus) {
  const box = find("tour");
  let place = 0;
  const show = () => {
    const [target, title, text] = steps[place];
    point(find(target));
    say(find("tour-title"), title);
    say(find("tour-text"), text);
    say(find("tour-place"), `${place + 1} of ${steps.length}`);
    say(find("tour-next"), place + 1 < steps.length ? "Next" : "Done");
    find("tour-back").disabled = place === 0;
  };
  const move = (by) => {
    place += by;
    if (place < steps.length) show();
    else end(focus);
  };
  find("tour-next").onclick = () => move(1);
  find("tour-back").onclick = () => move(-1);
  find("tour-close").onclick = () => end(focus);
  box.onkeydown = (event) => {
    if (event.key !== "Escape") event.stopPropagation(); // the keys of the page wait
  };
  box.hidden = false;
  show();
  remember();
  if (focus) find("tour-next").focus();
}

/** Frame a part of the page, and bring it into view. */
function point(target) {
  for (const other of document.querySelectorAll(".pointed")) other.classList.remove("pointed");
  if (!target) return;
  target.classList.add("pointed");
  const wide = matchMedia("(min-width: 1081px)").matches;
  target.scrollIntoView({ block: wide ? "nearest" : "start" });
}

function end(focus) {
  find("tour").hidden = true;
  point(undefined);
  if (focus) find("help").focus();
}
