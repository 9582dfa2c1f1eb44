"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const form = find("form");
  if (!form) return;
  const names = { before: "Before", after: "After" };
  let tasks = [];

  const option = (value, text) => {
    const element = document.createElement("option");
    element.value = value;
    element.textContent = text;
    return element;
  };
  const templates = () => {
    const task = tasks.find((t) => t.name === find("task").value);
    find("template").replaceChildren(...(task ? task.templates : []).map((w, i) => option(i, `${i + 1}: ${w.replace(/\s+/g, " ").slice(0, 70)}`)));
  };
  const json = async (response) => {
    const body = await response.json();
    if (!response.ok) throw new Error(body.error.hint ? `${body.error.message}. ${body.error.hint}` : body.error.message);
    return body;
  };
  const panel = (which, generation) => {
    const element = document.createElement("article");
    element.className = "sample";
    element.dataset.which = which;
    const head = document.createElement("header");
    const title = document.createElement("b");
    title.textContent = names[which];
    const facts = document.createElement("span");
    facts.className = "quiet";
    facts.textContent = `${generation.tokens} ${generation.tokens === 1 ? "token" : "tokens"}${generation.cut_off ? ", cut off at the limit" : ""} · ${generation.seconds.toFixed(2)} s`;
    head.append(title, facts);
    const text = document.createElement("div");
    text.className = "text code-like";
    text.dir = "auto";
    text.textContent = generation.text || "(empty)";
    element.append(head, text);
    return element;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    find("send").disabled = true;
    find("status").textContent = "generating …";
    try {
      const result = await json(await fetch("/api/generate", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ task: find("task").value, template: Number(find("template").value), text: find("text").value, truncate: true }),
      }));
      find("generations").replaceChildren(...Object.entries(result.generations).map(([which, generation]) => panel(which, generation)));
      find("prompt").hidden = false;
      find("prompt").querySelector("pre").textContent = result.prompt;
      find("status").textContent = result.notice ? `Note: ${result.notice}.` : "";
    } catch (error) {
      find("status").textContent = error.message;
    }
    find("send").disabled = false;
  });
  find("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  find("task").addEventListener("change", templates);
  fetch("/api/tasks").then(json).then((body) => {
    tasks = body.tasks;
    find("task").replaceChildren(...tasks.map((t) => option(t.name, t.probe ? `${t.name} (probe)` : t.name)));
    templates();
    if (body.notice) find("status").textContent = `Note: ${body.notice}.`;
  }).catch((error) => { find("status").textContent = error.message; });
})();
