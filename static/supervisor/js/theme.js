// Light, dark or as the system has it. Loaded before the page is painted, so no module: those come later.
(() => {
  const KEY = "theme", NEXT = { system: "light", light: "dark", dark: "system" };
  const known = (theme) => (theme in NEXT ? theme : "system");
  const root = document.documentElement;

  function show(theme) {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (!button) return;
    button.hidden = false;
    button.dataset.now = theme;
    button.setAttribute("aria-label", `${button.dataset.label}: ${button.dataset[theme]}`);
    button.title = button.getAttribute("aria-label");
  }

  function choose(theme) {
    localStorage.setItem(KEY, theme);
    show(theme);
  }

  const kept = () => known(localStorage.getItem(KEY));
  show(kept());
  document.addEventListener("DOMContentLoaded", () => {
    show(kept());
    document.getElementById("theme")?.addEventListener("click", () => choose(NEXT[kept()]));
  });
  document.addEventListener("theme", (event) => choose(known(event.detail)));
  window.addEventListener("storage", (event) => event.key === KEY && show(kept()));
})();
