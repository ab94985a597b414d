// The view that goes on with a text: what was given, and behind it what the model made of it.

import { ask } from "./api.js";
import { chosen } from "./settings.js";
import { button, copying, follow, isBusy, sheet, stop, write } from "./writing.js";

const STORE = "puna.prompt";
const SHOWN = 20; // texts that stay on the page
const form = document.getElementById("write-form");
const prompt = document.getElementById("prompt");
const pages = document.getElementById("pages");

export function prepare(about) {
  prompt.value = sessionStorage.getItem(STORE) ?? "";
  prompt.addEventListener("input", () => {
    sessionStorage.setItem(STORE, prompt.value);
    tellSize(about);
  });
  tellSize(about);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    go(about, prompt.value);
  });
  prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  form.querySelector(".stop").addEventListener("click", stop);
}

/** Tokens of a prompt; 0 where the server does not say: the request itself will tell why. */
async function size(text) {
  try {
    return (await (await ask("/tokenize", { body: { prompt: text } })).json()).count;
  } catch {
    return 0;
  }
}

let late = 0;

function tellSize(about) {
  clearTimeout(late);
  late = setTimeout(async () => {
    const count = prompt.value ? await size(prompt.value) : 0;
    document.getElementById("prompt-size").textContent = count ? `${count} of ${about.context} tokens` : "";
  }, 300);
}

async function go(about, given, before = pages.firstChild) {
  if (isBusy()) return;
  const made = sheet();
  const start = document.createElement("span");
  start.className = "given";
  start.textContent = given;
  made.text.append(start);
  pages.insertBefore(made.node, before);
  while (pages.children.length > SHOWN) pages.lastChild.remove();
  const fields = chosen();
  const room = about.context - (await size(given));
  if (room > 0) fields.max_tokens = Math.min(fields.max_tokens ?? room, room);
  const { text, wrong } = await write(made, "/v1/completions", { model: about.model, prompt: given, ...fields }, form);
  const again = button("Retry", () => {
    if (isBusy()) return;
    const next = made.node.nextSibling;
    made.node.remove();
    go(about, given, next);
  });
  const further = button("Go on from here", () => {
    prompt.value = given + text;
    sessionStorage.setItem(STORE, prompt.value);
    tellSize(about);
    go(about, prompt.value);
  });
  follow(() => made.meta.append(again, ...(wrong ? [] : [further, copying(() => given + text)])));
}
