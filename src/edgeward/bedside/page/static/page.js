// Wires the connection to the strip and the panels. Everything shown has an age; nothing that is not live looks live.

import { Link } from "./link.js";
import { Notes, beatHeart, showHello, showLatency, showMode, showQuality, showRate } from "./panels.js";
import { Strip } from "./strip.js";
import { offerTheme, store } from "./theme.js";

const byId = (id) => document.getElementById(id);
const root = document.documentElement;
root.classList.add("scripted");
const KINDS = ["hello", "mode", "rate", "quality", "latency", "advisory", "alert", "wave", "beat", "qrs"];

const calm = matchMedia("(prefers-reduced-motion: reduce)");
const strip = new Strip(byId("strip"));
const notes = { alert: new Notes("alerts", "say-now", "Threshold alert"), advisory: new Notes("advisories", "say", "AI advisory") };
let hello = {}, mode = null, rate = null, boot = null, said = "";

const take = {
  sync(datum) {
    if (boot !== null && datum.boot !== boot) strip.clear();
    boot = datum.boot;
    const look = root.dataset.look ?? datum.look;
    root.dataset.look = look;
    if (look !== datum.look) location.reload(); // the device has been updated: its page has too
    mode = rate = null;
    for (const list of Object.values(notes)) list.reset();
  },
  ping() {},
  hello(datum) { hello = datum; strip.setLeads(datum.leads ?? []); showHello(datum); },
  mode(datum, at) {
    mode = { ...datum, at };
    const words = `${datum.title} ${datum.why}`;
    if (words !== said) byId("say").textContent = said = words;
  },
  rate(datum, at) { rate = { ...datum, at }; },
  quality(datum) { strip.setQuality(datum.leads); showQuality(datum.leads); },
  latency(datum) { showLatency(datum, hello.budget_ms); },
  alert(datum, at) { notes.alert.take(datum, at); },
  advisory(datum, at) { notes.advisory.take(datum, at); },
  wave(datum) { strip.push(datum, performance.now()); },
  beat(datum) { strip.addBeat(datum); },
  qrs() { beatHeart(calm.matches); },
};
const link = new Link("/events", KINDS, (kind, datum, at) => take[kind](datum, at));

let lastState = "";
function showState() {
  const now = performance.now(), state = link.state();
  document.body.dataset.link = state;
  showMode(mode, link, now);
  showRate(rate, hello.rate_ttl_ms ?? 5000, now);
  for (const list of Object.values(notes)) list.show(now);
  const veil = byId("veil");
  let words = "";
  if (state === "lost" || state === "silent") words = "NOT LIVE";
  else if (state === "live" && !strip.hasSignal(now)) words = "NO SIGNAL";
  if (veil.textContent !== words) veil.textContent = words;
  veil.hidden = !words;
  if (state !== lastState) {
    if (state === "lost") byId("say-now").textContent = "Connection lost. The page is not live.";
    if (state === "silent") byId("say-now").textContent = "The device is silent. The page is not live.";
    lastState = state;
  }
}
setInterval(showState, 200);
showState();

function sweep(now) {
  requestAnimationFrame(sweep);
  strip.tick(now, link.state() === "live");
}
requestAnimationFrame(sweep);

offerTheme(byId("theme"), () => { strip.stale = true; });

// --- true scale
const dialog = byId("settings"), width = byId("screen-mm");
function screenMm(text) {
  const mm = Number(text);
  return mm >= 40 && mm <= 5000 ? mm : null;
}
function showScale() {
  const mm = screenMm(store.get("edgeward-screen-mm"));
  strip.setScreenMm(mm);
  byId("scale-text").textContent = `25 mm/s · 10 mm/mV · ${mm ? "scale set for this screen" : "nominal mm: set the scale"}`;
}
function showRuler() {
  const mm = screenMm(width.value);
  byId("ruler").style.width = `${100 * (mm ? screen.width / mm : 96 / 25.4)}px`;
}
byId("open-settings").addEventListener("click", () => {
  width.value = store.get("edgeward-screen-mm") ?? "";
  showRuler();
  dialog.showModal();
});
width.addEventListener("input", showRuler);
byId("save-settings").addEventListener("click", () => {
  const mm = screenMm(width.value);
  store.set("edgeward-screen-mm", mm === null ? null : String(mm));
  showScale();
  dialog.close();
});
byId("reset-settings").addEventListener("click", () => { store.set("edgeward-screen-mm", null); showScale(); dialog.close(); });
byId("close-settings").addEventListener("click", () => dialog.close());
showScale();
