"use strict";
(() => {
  const parts = (root) => new Map([...root.querySelectorAll("main > section")].map((s) => [s.id, s]));
  const source = (text) => new Map([...parts(new DOMParser().parseFromString(text, "text/html"))].map(([id, s]) => [id, s.outerHTML]));
  const seconds = Number(document.body.dataset.live);
  let last = new Map();
  let timer = 0;

  // Sections that have not changed stay as they are, with what the reader opened and chose in them.
  const update = (text) => {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    const now = source(text);
    const here = parts(document);
    parts(fresh).forEach((section, id) => {
      if (last.get(id) === now.get(id) || !here.has(id)) return;
      const open = [...here.get(id).querySelectorAll("details")].map((d) => d.open);
      section.querySelectorAll("details").forEach((d, i) => { if (i < open.length) d.open = open[i]; });
      here.get(id).replaceWith(document.adoptNode(section));
      if (id === "samples") browseSamples();
    });
    last = now;
    if (fresh.body.dataset.live) return true;
    clearInterval(timer); // the run has ended
    return false;
  };
  const say = (text) => {
    const line = document.getElementById("live");
    if (line) line.textContent = text;
  };
  const look = async () => {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      if (update(await answer.text())) say(`Live: as of ${new Date().toLocaleTimeString()}.`);
    } catch (error) {
      say(`No news: the page cannot be reached (${error.message}). What is shown is the last that was read.`);
    }
  };
  last = source(document.documentElement.outerHTML);
  // A file may not be fetched by a page, but the page may be loaded again.
  timer = setInterval(location.protocol === "file:" ? () => location.reload() : look, seconds * 1000);
})();
