"use strict";
(() => {
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  let chosen = null;
  try { chosen = localStorage.getItem("raytrain-theme"); } catch { /* storage is off: the choice lasts for this page */ }
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  if (theme) {
    theme.hidden = false;
    theme.addEventListener("click", () => {
      const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      try { localStorage.setItem("raytrain-theme", root.dataset.theme); } catch { /* as above */ }
    });
  }
})();
