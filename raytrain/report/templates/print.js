"use strict";
(() => {
  const closed = [];
  window.addEventListener("beforeprint", () => {
    document.querySelectorAll("details:not([open])").forEach((d) => { d.open = true; closed.push(d); });
  });
  window.addEventListener("afterprint", () => {
    closed.splice(0).forEach((d) => { d.open = false; });
  });
})();
