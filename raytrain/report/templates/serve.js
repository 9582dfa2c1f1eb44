"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const form = find("form");
  if (!form) return;
  const names = { before: "Before", after: "After" };
  let tasks = [];

  const option = (value, text) => {
    const made = document.createElement("option");
    made.value = value;
    made.textContent = text;
    return made;
  };
  const templates = () => {
    const task = tasks.find((t) => t.name === find("task").value);
    find("template").replaceChildren(...(task ? task.templates : []).map((w, i) => option(i, `${i + 1}: ${w.replace(/\s+/g, " ").slice(0, 70)}`)));
  };
  const answer = async (response) => {
    const body = await response.json();
    if (!response.ok) throw new Error(body.hint ? `${body.error}. ${body.hint}` : body.error);
    return body;
  };
  const panel = (which, reply) => {
    const made = document.createElement("article");
    made.className = "sample";
    made.dataset.which = which;
    const head = document.createElement("header");
    const title = document.createElement("b");
    title.textContent = names[which];
    const facts = document.createElement("span");
    facts.className = "quiet";
    facts.textContent = `${reply.tokens} ${reply.tokens === 1 ? "token" : "tokens"}${reply.cut_off ? ", cut off at the limit" : ""} · ${reply.seconds.toFixed(2)} s`;
    head.append(title, facts);
    const text = document.createElement("div");
    text.className = "text code-like";
    text.dir = "auto";
    text.textContent = reply.text || "(empty answer)";
    made.append(head, text);
    return made;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    find("send").disabled = true;
    find("said").textContent = "asking …";
    try {
      const found = await answer(await fetch("/api/answer", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ task: find("task").value, template: Number(find("template").value), text: find("text").value }),
      }));
      find("replies").replaceChildren(...Object.entries(found.replies).map(([which, reply]) => panel(which, reply)));
      find("prompt").hidden = false;
      find("prompt").querySelector("pre").textContent = found.prompt;
      find("said").textContent = "";
    } catch (error) {
      find("said").textContent = error.message;
    }
    find("send").disabled = false;
  });
  find("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  find("task").addEventListener("change", templates);
  fetch("/api/tasks").then(answer).then((body) => {
    tasks = body.tasks;
    find("task").replaceChildren(...tasks.map((t) => option(t.name, t.probe ? `${t.name} (probe)` : t.name)));
    templates();
  }).catch((error) => { find("said").textContent = error.message; });
})();
