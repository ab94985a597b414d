// The view that talks: messages in order, the last answer can be had again.

import { chosen } from "./settings.js";
import { button, copying, follow, isBusy, sheet, stop, write } from "./writing.js";

const STORE = "puna.chat";
const form = document.getElementById("chat-form");
const message = document.getElementById("message");
const talk = document.getElementById("talk");
let messages = [];
let about = null;

export function prepare(known) {
  about = known;
  document.getElementById("no-chat").hidden = about.chat;
  try {
    messages = JSON.parse(sessionStorage.getItem(STORE)) ?? [];
  } catch { /* begins anew */ }
  show();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const text = message.value.trim();
    if (!text || isBusy()) return;
    message.value = "";
    messages.push({ role: "user", content: text });
    show();
    answer();
  });
  message.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  form.querySelector(".stop").addEventListener("click", stop);
  document.getElementById("new-chat").addEventListener("click", () => {
    stop();
    messages = [];
    show();
    message.focus();
  });
}

async function answer() {
  const asked = messages;
  const made = sheet(about.model);
  talk.append(made.node);
  toEnd();
  const request = { model: about.model, messages: asked, ...chosen() };
  const { text, wrong } = await write(made, "/v1/chat/completions", request, form);
  if (messages !== asked) return; // a new chat was begun meanwhile
  if (text || !wrong) messages.push({ role: "assistant", content: text });
  keep();
  made.node.dataset.said = text;
  follow(() => made.meta.append(retry(made), copying(() => text)));
}

function retry(made) {
  const again = button("Retry", () => {
    if (isBusy() || made.node !== talk.lastChild) return;
    if (messages.at(-1)?.role === "assistant") messages.pop();
    made.node.remove();
    answer();
  });
  again.classList.add("retry");
  return again;
}

/** Draws all messages again, as after a reload: probabilities are not kept. */
function show() {
  keep();
  if (messages.length === 0) {
    const empty = document.createElement("p");
    empty.className = "empty";
    empty.textContent = `Nothing was said yet. What is said here stays in this tab and with the server of ${about.model}.`;
    talk.replaceChildren(empty);
    return;
  }
  const drawn = [...talk.querySelectorAll(".sheet")].slice(0, messages.length);
  const nodes = messages.map(({ role, content }, index) => {
    if (drawn[index]?.dataset.said === content) return drawn[index];
    const mine = role === "user";
    const made = sheet(mine ? "You" : about.model);
    made.node.classList.toggle("mine", mine);
    made.node.dataset.said = content;
    made.text.textContent = content;
    if (mine) made.meta.remove();
    else made.meta.append(copying(() => content));
    return made.node;
  });
  talk.replaceChildren(...nodes);
  for (const node of nodes.slice(0, -1)) node.querySelector(".retry")?.remove();
  toEnd();
}

function toEnd() {
  document.documentElement.scrollTop = document.documentElement.scrollHeight;
}

function keep() {
  sessionStorage.setItem(STORE, JSON.stringify(messages));
}
