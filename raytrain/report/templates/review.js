"use strict";
(() => {
  const head = JSON.parse(document.getElementById("review").dataset.head);
  const rows = [...document.querySelectorAll(".choice")];
  const state = document.getElementById("state");
  const save = document.getElementById("save");
  const place = `raytrain-review-${head.digest}`;
  const keys = { 1: "first", 2: "second", 3: "tie" };
  let choices = {};
  let at = 0;
  try { choices = JSON.parse(localStorage.getItem(place)) || {}; } catch { /* storage is off: choices last for this page */ }

  const show = (focus) => {
    rows.forEach((row, i) => { row.hidden = i !== at; });
    rows[at].querySelectorAll("[data-choice]").forEach((b) => {
      b.setAttribute("aria-pressed", String(choices[rows[at].dataset.key] === b.dataset.choice));
    });
    const done = rows.filter((row) => row.dataset.key in choices).length;
    document.getElementById("done").value = done;
    state.textContent = done === rows.length ? "All rows are chosen: save the file." : `${done} of ${rows.length} chosen`;
    save.classList.toggle("ready", done === rows.length);
    if (focus) rows[at].focus({ preventScroll: true });
  };
  const move = (by) => { at = Math.min(rows.length - 1, Math.max(0, at + by)); show(true); };
  const choose = (choice) => {
    choices[rows[at].dataset.key] = choice;
    try { localStorage.setItem(place, JSON.stringify(choices)); } catch { /* as above */ }
    if (at < rows.length - 1) move(1); else show(false);
  };

  rows.forEach((row) => {
    row.querySelector(".choices").hidden = false;
    row.querySelectorAll("[data-choice]").forEach((b) => b.addEventListener("click", () => choose(b.dataset.choice)));
  });
  document.getElementById("controls").hidden = false;
  document.getElementById("prev").addEventListener("click", () => move(-1));
  document.getElementById("next").addEventListener("click", () => move(1));
  save.addEventListener("click", () => {
    save.href = URL.createObjectURL(new Blob([`${JSON.stringify({ ...head, choices }, null, 1)}\n`], { type: "application/json" }));
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in keys) choose(keys[event.key]);
    else if (event.key === "ArrowRight") move(1);
    else if (event.key === "ArrowLeft") move(-1);
  });
  const open = rows.findIndex((row) => !(row.dataset.key in choices));
  at = open < 0 ? 0 : open;
  show(false);
})();
