"use strict";
const browseSamples = () => {
  const browser = document.getElementById("browser");
  if (!browser) return;
  const samples = [...browser.querySelectorAll(".sample")];
  const task = document.getElementById("f-task");
  const template = document.getElementById("f-template");
  const count = document.getElementById("count");
  const none = document.getElementById("none");
  const kinds = { a: "", g: "gain", l: "loss", r: "random" };
  let shown = [];
  let at = 0;

  const show = () => {
    samples.forEach((s) => { s.hidden = true; });
    none.hidden = shown.length > 0;
    if (shown.length) shown[at].hidden = false;
    count.textContent = shown.length ? `${at + 1} of ${shown.length}` : "0 of 0";
  };
  const filter = () => {
    const kind = browser.querySelector("input[name=kind]:checked").value;
    shown = samples.filter((s) => (!task.value || s.dataset.task === task.value)
      && (!kind || s.dataset.kind === kind) && (!template.value || s.dataset.template === template.value));
    at = 0;
    show();
  };
  const move = (by) => {
    if (!shown.length) return;
    at = (at + by + shown.length) % shown.length;
    show();
  };

  browser.classList.add("paged");
  document.getElementById("filters").hidden = false;
  task.addEventListener("change", filter);
  template.addEventListener("change", filter);
  browser.querySelectorAll("input[name=kind]").forEach((r) => r.addEventListener("change", filter));
  document.getElementById("prev").addEventListener("click", () => move(-1));
  document.getElementById("next").addEventListener("click", () => move(1));
  browser.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input[type=text], select, textarea, pre")) return;
    if (event.key === "ArrowRight" || event.key === "j") move(1);
    else if (event.key === "ArrowLeft" || event.key === "k") move(-1);
    else if (event.key in kinds) {
      browser.querySelector(`input[name=kind][value="${kinds[event.key]}"]`).checked = true;
      filter();
    }
  });
  filter();
};
browseSamples();
