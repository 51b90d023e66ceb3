// All beds at once. A tile that must move waits while somebody is using the tiles, and shows where it goes.

import { arrange, follow } from "./patch.js";
import { offerTheme, store } from "./theme.js";

const IN_USE_MS = 4000;
const MOVE_MS = 450;
const tiles = document.getElementById("tiles"), button = document.getElementById("order");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const number = (id) => Number(id.slice(1));
let byNeed = [...tiles.children].map((tile) => tile.id);
let used = -Infinity;

document.documentElement.classList.add("scripted");
for (const sign of ["pointermove", "pointerdown", "keydown", "focusin"]) {
  tiles.addEventListener(sign, () => { used = performance.now(); }, { passive: true });
}

function wanted() {
  return store.get("edgeward-order") === "bed" ? [...byNeed].sort((a, b) => number(a) - number(b)) : byNeed;
}

function reorder(atOnce = false) {
  if (!atOnce && performance.now() - used < IN_USE_MS) return;
  const order = wanted(), now = [...tiles.children];
  if (order.length !== now.length || order.every((id, k) => id === now[k].id)) return;
  const focused = document.activeElement;
  const before = new Map(now.map((tile) => [tile, tile.getBoundingClientRect()]));
  arrange(tiles, order.map((id) => document.getElementById(id)));
  if (tiles.contains(focused)) focused.focus({ preventScroll: true });
  if (calm.matches) return;
  for (const [tile, from] of before) {
    const to = tile.getBoundingClientRect(), x = from.left - to.left, y = from.top - to.top;
    if (x || y) tile.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], { duration: MOVE_MS, easing: "ease-in-out" });
  }
}

function showOrder() {
  const beds = store.get("edgeward-order") === "bed";
  button.textContent = beds ? "By need" : "By bed";
  button.setAttribute("aria-label", beds ? "Sort the tiles by need" : "Sort the tiles by bed");
}
button.addEventListener("click", () => {
  store.set("edgeward-order", store.get("edgeward-order") === "bed" ? null : "bed");
  showOrder();
  reorder(true);
});

follow("/events", (datum) => {
  if (datum.order) byNeed = datum.order;
  reorder();
});
setInterval(reorder, 1000);
showOrder();
offerTheme(document.getElementById("theme"), () => {});
