// Light or dark, whatever the system prefers; and a mode for a lecture.

import { find, say } from "./dom.js";

const KEPT = "cleanmarl-watch-theme";
const DARK = "(prefers-color-scheme: dark)";

/** The rule of the style sheet that holds the dark colours. */
function darkRule() {
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
  return rules.find((rule) =>
    rule.media &&
    [...rule.cssRules].some((own) =>
      own.selectorText === ":root" && own.style.getPropertyValue("--page")
    )
  );
}

/** Whether the page is dark now. */
function isDark(rule) {
  return matchMedia(rule.media.mediaText).matches;
}

function setDark(rule, dark) {
  rule.media.mediaText = dark === undefined ? DARK : dark ? "all" : "not all";
  document.documentElement.style.colorScheme = dark === undefined ? "" : dark ? "dark" : "light";
  say(find("theme"), isDark(rule) ? "Light" : "Dark");
}

/** Let the button switch the colours; `changed()` draws what does not follow by itself. */
export function offerTheme(changed) {
  const rule = darkRule();
  const kept = read();
  setDark(rule, kept === null ? undefined : kept === "dark");
  find("theme").addEventListener("click", () => {
    const dark = !isDark(rule);
    setDark(rule, dark);
    keep(dark ? "dark" : "light");
    changed();
  });
  matchMedia(DARK).addEventListener("change", () => {
    say(find("theme"), isDark(rule) ? "Light" : "Dark");
    changed();
  });
}

function read() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // a browser may forbid to store
  }
}

function keep(name) {
  try {
    localStorage.setItem(KEPT, name);
  } catch {
    // then the page follows the system when it opens again
  }
}

/** Full screen with large type; Escape ends it. */
export function offerPresentation(changed) {
  const show = (on) => {
    document.body.classList.toggle("present", on);
    find("present").setAttribute("aria-pressed", String(on));
    changed();
  };
  const toggle = async () => {
    const on = !document.body.classList.contains("present");
    try {
      if (on) await document.documentElement.requestFullscreen();
      else if (document.fullscreenElement) await document.exitFullscreen();
    } catch {
      // without full screen, the large type is there all the same
    }
    show(on);
  };
  find("present").addEventListener("click", toggle);
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && find("tour").hidden) show(false);
  });
  document.addEventListener("fullscreenchange", () => {
    if (!document.fullscreenElement) show(false);
  });
}
