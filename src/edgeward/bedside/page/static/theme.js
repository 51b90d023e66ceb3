// Light and dark, by the browser's preference or by a button; and what a browser keeps from visit to visit.

export const store = { // a locked-down browser may have none
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { value === null ? localStorage.removeItem(key) : localStorage.setItem(key, value); } catch { /* kept for this visit only */ } },
};

export function offerTheme(button, onChange) {
  const light = matchMedia("(prefers-color-scheme: light)"), root = document.documentElement;
  function show() {
    const chosen = store.get("edgeward-theme");
    if (chosen) root.dataset.theme = chosen; else delete root.dataset.theme;
    const isLight = chosen ? chosen === "light" : light.matches;
    button.textContent = isLight ? "Dark" : "Light";
    button.setAttribute("aria-label", `Change to ${isLight ? "dark" : "light"} colours`);
    onChange();
  }
  button.addEventListener("click", () => {
    store.set("edgeward-theme", button.textContent.toLowerCase());
    show();
  });
  light.addEventListener("change", show);
  show();
}
