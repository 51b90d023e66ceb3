// What the server's patches change on a page, and what time changes by itself. The server alone makes HTML (escaped);
// elements carry instants of its monotonic clock, and everything here counts from those.

import { Link, ageWords } from "./link.js";

const byId = (id) => document.getElementById(id);
const put = (element, text) => { if (element.textContent !== text) element.textContent = text; };

export function applyPatch(datum) {
  for (const [id, html] of Object.entries(datum.html ?? {})) fill(byId(id), html);
  for (const [id, cell] of Object.entries(datum.put ?? {})) putCell(byId(id)?.firstElementChild, cell);
  for (const [id, attributes] of Object.entries(datum.attr ?? {})) {
    for (const [name, value] of Object.entries(attributes)) byId(id)?.setAttribute(name, value);
  }
  for (const [id, urgent] of [["say-now", true], ["say", false]]) {
    const texts = (datum.say ?? []).filter(({ priority }) => (priority === "high") === urgent).map(({ text }) => text);
    if (texts.length) byId(id).textContent = texts.join(". ");
  }
}

function putCell(cell, [text, at]) {
  if (!cell) return;
  const num = cell.querySelector(".num");
  if (num.innerHTML !== text) num.innerHTML = text;
  cell.dataset.at = at;
  const time = cell.querySelector("time");
  if (time) time.dataset.at = at;
}

// What did not change stays the same element, so that no focus and no half-done press is lost.
function fill(element, html) {
  if (!element) return;
  const mould = document.createElement("template");
  mould.innerHTML = html;
  const focused = element.contains(document.activeElement);
  become(element, [...mould.content.childNodes]);
  // Focus goes to the heading, never to the next button: a key held down must not press that one too.
  if (focused && !element.contains(document.activeElement)) element.closest("section")?.querySelector("[tabindex]")?.focus();
}

function become(element, wanted) {
  const held = new Map([...element.children].filter((child) => child.dataset.key).map((child) => [child.dataset.key, child]));
  const alike = held.size === 0 && element.childNodes.length === wanted.length;
  const children = wanted.map((node, k) => morph(alike ? element.childNodes[k] : held.get(node.dataset?.key), node));
  for (const child of [...element.childNodes]) if (!children.includes(child)) child.remove();
  arrange(element, children);
}

function morph(old, fresh) {
  if (!old || old.nodeName !== fresh.nodeName) return fresh;
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return old;
  }
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  become(old, [...fresh.childNodes]);
  return old;
}

export function arrange(parent, children) {
  let at = parent.firstChild;
  for (const child of children) {
    if (child === at) at = at.nextSibling; else parent.insertBefore(child, at);
  }
}

// `now`: the server's monotonic ms.
export function showTime(now) {
  for (const time of document.querySelectorAll("time[data-at]")) {
    const age = now - Number(time.dataset.at);
    put(time, age >= Number(time.dataset.from ?? 0) ? ageWords(age) : "");
  }
  for (const time of document.querySelectorAll("time[data-left]")) {
    const s = Math.max(0, Math.floor((Number(time.dataset.left) - now) / 1000));
    put(time, `${Math.floor(s / 60)}:${String(s % 60).padStart(2, "0")}`);
  }
  for (const element of document.querySelectorAll("[data-until]")) {
    const until = element.dataset.until;
    element.toggleAttribute("data-gone", until !== "" && now > Number(until));
  }
  for (const cell of document.querySelectorAll(".cell")) {
    cell.toggleAttribute("data-aged", cell.querySelector("time")?.textContent > "");
    cell.toggleAttribute("data-old", cell.dataset.at !== "" && now - Number(cell.dataset.at) > Number(cell.dataset.keep));
  }
}

// What is wrong with the connection, said where nobody overlooks it.
let lastState = "";
export function showLink(link) {
  const state = link.state(), contact = link.contactAge();
  document.body.dataset.link = state;
  put(byId("link-text"), { live: "live", lost: "connection lost", silent: "device silent", connecting: "connecting" }[state]);
  let words = "";
  if (state === "lost") words = `NOT LIVE — connection lost${contact === null ? "" : `, last contact ${ageWords(contact)} ago`}`;
  if (state === "silent") words = `NOT LIVE — device silent for ${ageWords(link.silentAge())}`;
  put(byId("veil"), words);
  byId("veil").hidden = !words;
  if (state !== lastState && words) byId("say-now").textContent = "The page is not live.";
  lastState = state;
}

// The stream of a page: patches in, and everything that time changes, twice a second.
export function follow(address, onPatch) {
  const take = {
    sync(datum) {
      const root = document.documentElement, look = root.dataset.look ?? datum.look;
      root.dataset.look = look;
      if (look !== datum.look) location.reload(); // another version, or other beds
      for (const field of document.querySelectorAll("input[name=token]")) field.value = datum.token ?? "";
    },
    reload() { location.reload(); },
    patch(datum) { applyPatch(datum); onPatch(datum); show(); },
    ping() {},
  };
  const link = new Link(address, ["patch", "reload"], (kind, datum) => take[kind](datum));
  function show() {
    showLink(link);
    showTime(link.serverNow());
  }
  setInterval(show, 500);
  document.addEventListener("visibilitychange", show);
  show();
  return link;
}
