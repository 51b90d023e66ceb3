// Keeps the parts of a page that change up to date. Without this script the page is whole, and as old as its loading.
"use strict";
(() => {
  const main = document.querySelector("main[data-live]");
  if (!main || !window.EventSource) return;
  const link = document.querySelector(".link");
  const say = (state, words) => {
    link.hidden = false;
    link.dataset.link = state;
    link.querySelector(".link-words").textContent = words;
  };
  const put = (html) => {
    const came = new DOMParser().parseFromString(html, "text/html").body;
    for (const part of [...came.children]) {
      const here = part.id && document.getElementById(part.id);
      if (!here || here.outerHTML === part.outerHTML) continue;
      // A half-made decision stays: what is open stays open until what it is about has changed.
      const open = [...here.querySelectorAll("details[open] > summary")].map((one) => one.textContent);
      const focus = here.contains(document.activeElement) ? document.activeElement.textContent : null;
      here.replaceWith(part);
      for (const one of part.querySelectorAll("summary")) {
        if (open.includes(one.textContent)) one.parentElement.open = true;
      }
      if (focus !== null) {
        const again = [...part.querySelectorAll("a, button, summary")].find((one) => one.textContent === focus);
        if (again) again.focus();
      }
    }
  };
  const source = new EventSource(main.dataset.live);
  source.onopen = () => say("live", "Live");
  source.onmessage = (message) => {
    say("live", "Live");
    put(JSON.parse(message.data));
  };
  source.onerror = () => say("lost", "Not live");
})();
