// Everything on the page but the strip: small functions from a datum to its element.

import { ageWords } from "./link.js";

const MARKS = { high: "!!!", medium: "!!", low: "!" };
const ORDER = ["high", "medium", "low"];
const SHOWN_MAX = 6;
const ENDED_KEPT_MS = 600000;
const byId = (id) => document.getElementById(id);
const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

export function showHello(hello) {
  put(byId("place"), [hello.site, hello.bed].filter(Boolean).join(" · ") || "Edgeward");
  byId("simulated").hidden = byId("watermark").hidden = !hello.simulated;
  const bundle = hello.bundle ?? {};
  put(byId("bundle"), [bundle.name, bundle.version, bundle.hash8].filter(Boolean).join(" ") || "none");
}

// One line of truth at the top: the mode while the page is live, what is wrong while it is not.
export function showMode(mode, link, now) {
  document.body.dataset.mode = mode ? mode.mode : "UNKNOWN";
  const state = link.state();
  const contact = link.contactAge();
  let title = mode ? (mode.why ? `${mode.title} — ${mode.why}` : mode.title) : "Starting";
  let since = mode ? `for ${ageWords(now - mode.at + (mode.since_ms ?? 0))}` : "";
  if (state === "lost") {
    title = "CONNECTION LOST — not live";
    since = contact === null ? "trying again" : `last contact ${ageWords(contact)} ago · trying again`;
  } else if (state === "silent") {
    title = "DEVICE SILENT — not live";
    since = `nothing measured for ${ageWords(link.silentAge())}`;
  }
  put(byId("mode-title"), title);
  put(byId("mode-since"), since);
  const words = { live: "live", lost: "connection lost", silent: "device silent", connecting: "connecting" };
  put(byId("link-text"), words[state]);
}

export function showRate(rate, ttlMs, now) {
  const age = rate ? now - rate.at + (rate.age_ms ?? 0) : Infinity;
  const known = rate && Number.isFinite(rate.hr_bpm) && age <= ttlMs;
  put(byId("rate"), known ? String(Math.round(rate.hr_bpm)) : "--");
  document.querySelector(".rate").classList.toggle("old", known && age > 2500);
  document.querySelector(".rate").classList.toggle("none-known", !known);
  let words = "no heart rate";
  if (known) words = age > 2500 ? `${ageWords(age)} old` : "now";
  else if (rate && Number.isFinite(rate.hr_bpm)) words = `last known ${ageWords(age)} ago`;
  put(byId("rate-age"), words);
}

export function beatHeart(calm) {
  const heart = byId("heart");
  heart.classList.add("beating");
  if (!calm) setTimeout(() => heart.classList.remove("beating"), 150);
}

export function showQuality(leads) {
  const words = Object.entries(leads ?? {}).map(([name, what]) => `${name}: ${what === "ok" ? "good" : what.replaceAll("_", " ")}`);
  put(byId("quality"), words.length ? `Signal ${words.join(" · ")}` : "");
}

export function showLatency(latency, fallbackBudgetMs) {
  const budgetMs = latency.budget_ms ?? fallbackBudgetMs ?? 4;
  put(byId("budget"), `ms; the bar is p99 in the ${budgetMs} ms budget`);
  const rows = latency.stages.map((stage) => {
    const row = document.createElement("tr");
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = stage.name;
    row.append(name);
    for (const us of [stage.p50_us, stage.p99_us, stage.max_us]) {
      const cell = document.createElement("td");
      cell.textContent = Number.isFinite(us) ? (us / 1000).toFixed(us < 9950 ? 2 : 1) : "–";
      row.append(cell);
    }
    const share = stage.p99_us / 1000 / budgetMs;
    const cell = document.createElement("td"), bar = document.createElement("div"), fill = document.createElement("i");
    bar.className = "bar";
    fill.style.width = `${Math.min(100, Math.max(0, share * 100))}%`;
    bar.append(fill);
    cell.append(bar);
    row.append(cell);
    if (share > 1) row.className = "over";
    return row;
  });
  byId("latency").tBodies[0].replaceChildren(...rows);
  put(byId("late"), latency.late === undefined ? "" : latency.late ? `${latency.late} results came late and were withheld` : "no result late");
}

// Advisories or threshold alerts: a list with ages that run, and words for a screen reader only when something changes.
export class Notes {
  constructor(listId, sayId, kind) {
    this.list = byId(listId);
    this.say = byId(sayId);
    this.kind = kind;
    this.reset();
  }

  reset() { this.held = new Map(); this.shape = null; this.fresh = true; }

  take(note, at) {
    const before = this.held.get(note.id);
    let raised = at - (note.raised_ms_ago ?? 0);
    if (before) raised = Math.min(raised, before.raised);
    const ended = note.active ? null : before?.ended ?? (note.ended_t_ms !== undefined ? at - (note.t_ms - note.ended_t_ms) : at);
    this.held.set(note.id, { ...note, raised, ended });
    if (this.fresh ? note.active && !this.told?.has(note.id) : before?.active !== note.active) {
      this.say.textContent = note.active ? `${this.kind}, ${note.priority} priority: ${note.text}` : `${this.kind} ended: ${note.text}`;
    }
    (this.told ??= new Set()).add(note.id);
  }

  show(now) {
    this.fresh = false;
    for (const [id, note] of this.held) if (note.ended !== null && now - note.ended > ENDED_KEPT_MS) { this.held.delete(id); this.told.delete(id); }
    const notes = [...this.held.values()].sort((a, b) =>
      (b.active - a.active) || (a.active ? ORDER.indexOf(a.priority) - ORDER.indexOf(b.priority) || b.raised - a.raised : b.ended - a.ended));
    const active = notes.filter((note) => note.active).length;
    const shown = notes.slice(0, Math.max(SHOWN_MAX, active));
    const shape = JSON.stringify(shown.map((note) => [note.id, note.active, note.priority, note.text]));
    if (shape !== this.shape) this.build(shown, shape, active);
    shown.forEach((note, k) => {
      put(this.ages[k], note.active ? `for ${ageWords(now - note.raised)}` : `ended ${ageWords(now - note.ended)} ago`);
    });
  }

  build(shown, shape, active) {
    this.shape = shape;
    this.ages = [];
    const rows = shown.map((note) => {
      const row = document.createElement("li");
      row.className = "note";
      row.dataset.id = note.id;
      row.dataset.priority = note.priority;
      row.dataset.active = note.active;
      for (const [name, text] of [["mark", MARKS[note.priority] ?? "!"], ["text", note.text], ["age", ""]]) {
        const part = document.createElement("span");
        part.className = name;
        part.textContent = text;
        row.append(part);
        if (name === "age") this.ages.push(part);
      }
      return row;
    });
    if (!active) {
      const none = document.createElement("li");
      none.className = "none";
      none.textContent = "none now";
      rows.unshift(none);
    }
    const heading = this.list.parentElement.querySelector("h2"); // a long list may run out of the panel: its count never does
    if (active) heading.dataset.active = active; else delete heading.dataset.active;
    this.list.replaceChildren(...rows);
  }
}
