// One bed: its trends, and the two things that a person may do here. Whatever fails is said.

import { drawAxis, drawFan, drawHistory, drawTrend } from "./curves.js";
import { follow } from "./patch.js";
import { offerTheme, store } from "./theme.js";

const RENEW_MS = { 1: 15000, 4: 30000, 8: 60000, 24: 60000 };
const SEEN_WITHIN_MS = 6000; // by then the device has told what became of it
const byId = (id) => document.getElementById(id);
const page = byId("page"), path = document.body.dataset.path, dialog = byId("suspend"), told = byId("told");
let trend = null, asked = -Infinity, asking = null, stay = page.dataset.stay;

document.documentElement.classList.add("scripted");

// --- trends
function hours() {
  const kept = Number(store.get("edgeward-hours"));
  return RENEW_MS[kept] ? kept : 4;
}

async function fetchTrend() {
  asked = performance.now();
  asking?.abort();
  const mine = asking = new AbortController();
  try {
    const answer = await fetch(`${path}/trend.json?hours=${hours()}`, { cache: "no-store", signal: mine.signal });
    const found = answer.ok ? await answer.json() : null;
    if (mine !== asking || found === null) return;
    trend = { ...found, end: found.t_ms + found.end_in_ms };
    draw();
  } catch { /* the connection is told of elsewhere; the trend says how old it is by its place on the axis */ }
}

function draw() {
  const now = link.serverNow();
  for (const canvas of document.querySelectorAll("canvas.trend")) drawTrend(canvas, trend, now);
  for (const canvas of document.querySelectorAll("canvas.history")) drawHistory(canvas, trend, now);
  for (const canvas of document.querySelectorAll("canvas.fan")) drawFan(canvas, trend, now);
  drawAxis(byId("axis"), trend);
}

function showHours() {
  for (const button of byId("hours").children) button.setAttribute("aria-pressed", String(Number(button.dataset.hours) === hours()));
}
byId("hours").addEventListener("click", (press) => {
  const chosen = press.target.dataset.hours;
  if (!chosen) return;
  store.set("edgeward-hours", chosen);
  showHours();
  fetchTrend();
});

const link = follow(`${path}/events`, () => {
  if (page.dataset.stay !== stay) { // another patient: nothing of the one before stays
    stay = page.dataset.stay;
    trend = null;
    dialog.close();
    fetchTrend();
  }
  draw();
});
setInterval(() => {
  if (link.state() === "live" && performance.now() - asked > RENEW_MS[hours()]) fetchTrend();
}, 1000);
new ResizeObserver(draw).observe(page);
showHours();
fetchTrend();
offerTheme(byId("theme"), draw);

// --- acknowledge and suspend
function tell(words) {
  told.textContent = words;
  told.hidden = !words;
}

document.addEventListener("click", (press) => {
  if (press.target.closest("a.suspend") && dialog.querySelector("form")) {
    press.preventDefault();
    dialog.querySelector("input[name=stay]").value = page.dataset.stay;
    dialog.showModal();
  }
  if (press.target.closest("dialog a")) {
    press.preventDefault();
    dialog.close();
  }
});

document.addEventListener("submit", (submitted) => {
  submitted.preventDefault();
  send(submitted.target);
});

async function send(form) {
  const button = form.querySelector("button");
  if (button.getAttribute("aria-disabled") === "true") return;
  tell("");
  if (link.state() !== "live") {
    tell("Not sent: this page is not live. Go to the monitor.");
    return;
  }
  button.setAttribute("aria-disabled", "true"); // keeps its focus, unlike disabled
  const wish = new FormData(form), why = await post(form, wish);
  if (dialog.contains(form)) dialog.close();
  const done = why === "" && await isSeen(wish);
  button.removeAttribute("aria-disabled");
  if (why !== "") tell(`Not done: ${why}.`);
  else if (!done) tell("Not confirmed: the device has not said that it is done. Try again, or go to the monitor.");
}

// Only what the device itself says afterwards is believed.
async function isSeen(wish) {
  const done = () => {
    const suspended = byId("p-suspension").querySelector("[data-left]") !== null;
    if (wish.get("action") === "suspend") return suspended === (wish.get("minutes") !== "0");
    const open = [...document.querySelectorAll("#p-alerts .note form input[name=alert]")].map((field) => field.value);
    return !wish.getAll("alert").some((id) => open.includes(id));
  };
  for (const until = performance.now() + SEEN_WITHIN_MS; performance.now() < until && !done();) {
    await new Promise((wake) => setTimeout(wake, 100));
  }
  return done();
}

async function post(form, wish) {
  try {
    const answer = await fetch(form.getAttribute("action"), {
      method: "POST", body: new URLSearchParams(wish), headers: { Accept: "application/json" }, signal: AbortSignal.timeout(5000),
    });
    const { done, why } = await answer.json();
    return done ? "" : why || "the device refused it";
  } catch {
    return "the device did not answer; go to the monitor";
  }
}
