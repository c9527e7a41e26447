// Tables wider or longer than their place fade at the edge behind which there is more.

const EDGES = ["left", "right", "bottom"];

/** Mark on which sides of each scrolling place there is more. */
export function markScrollers() {
  for (const place of document.querySelectorAll(".scroll")) {
    if (!place.dataset.more) place.addEventListener("scroll", () => mark(place), { passive: true });
    mark(place);
  }
}

function mark(place) {
  const { scrollLeft, scrollTop, clientWidth, clientHeight, scrollWidth, scrollHeight } = place;
  const left = scrollLeft > 1;
  const right = scrollWidth - clientWidth - scrollLeft > 1;
  const bottom = scrollHeight - clientHeight - scrollTop > 1;
  const more = EDGES.filter((_, i) => [left, right, bottom][i]);
  const words = more.join(" ") || "none";
  if (place.dataset.more !== words) place.dataset.more = words;
}
