// One text while it is made: the stream, its speed, stop, and what can be done with it afterwards.

import { Refused, events } from "./api.js";
import { hide } from "./card.js";
import { Ink, tokensOf } from "./tokens.js";

const TOP = 5; // alternatives of each token
let under = null; // the one that is being made, on whichever view

export const isBusy = () => under !== null;

export function stop() {
  under?.abort();
}

/** Stream `request` into `sheet`, of which `text` and `meta` are parts; what came of it: {text, whole, count}. */
export async function write(sheet, path, request, form) {
  const logprobs = path.endsWith("chat/completions") ? { logprobs: true, top_logprobs: TOP } : { logprobs: TOP };
  const ink = new Ink(sheet.text);
  const clock = { asked: performance.now(), first: 0, last: 0 };
  under = new AbortController();
  busy(form, true);
  sheet.text.classList.add("writing");
  let finish = null;
  let wrong = "";
  try {
    for await (const event of events(path, { ...request, ...logprobs, stream: true }, under.signal)) {
      const choice = event.choices[0];
      if (!choice) continue;
      const tokens = tokensOf(choice);
      if (tokens.length) {
        clock.last = performance.now();
        clock.first ||= clock.last;
      }
      ink.add(choice.text ?? choice.delta?.content ?? "", tokens);
      finish = choice.finish_reason ?? finish;
      follow(() => { sheet.speed.textContent = speed(ink.count, clock); });
    }
  } catch (error) {
    if (error instanceof Refused) wrong = error.message;
    else if (error.name === "AbortError") finish = "stopped";
    else throw error;
  } finally {
    under = null;
    ink.finish();
    sheet.text.classList.remove("writing");
    busy(form, false);
  }
  const ended = { stop: "ended by itself", length: "reached its length", stopped: "stopped" }[finish];
  const told = [speed(ink.count, clock), ended, `seed ${request.seed}`].filter(Boolean);
  sheet.speed.textContent = ink.count ? told.join(" · ") : ended ?? "";
  document.getElementById("said").textContent = wrong || `${ink.count} tokens, ${ended}`;
  if (wrong) {
    const notice = document.createElement("p");
    notice.className = "notice wrong";
    notice.textContent = wrong;
    sheet.text.after(notice);
  }
  return { text: ink.text, wrong };
}

function speed(count, { asked, first, last }) {
  if (!count) return "";
  const parts = [`${count} token${count === 1 ? "" : "s"}`];
  if (count > 1 && last > first) parts.push(`${((count - 1) / ((last - first) / 1000)).toFixed(1)} tokens/s`);
  parts.push(`first after ${((first - asked) / 1000).toFixed(2)} s`);
  return parts.join(" · ");
}

/** Keep the end of the text in sight while a reader has it there. */
export function follow(change) {
  const root = document.documentElement;
  const atEnd = root.scrollHeight - root.scrollTop - root.clientHeight < 80;
  change();
  if (atEnd) root.scrollTop = root.scrollHeight;
}

function busy(form, on) {
  form.querySelector(".go").hidden = on;
  form.querySelector(".stop").hidden = !on;
  form.setAttribute("aria-busy", String(on));
  if (on) hide();
}

/** An empty sheet: {node, text, meta, speed}. `who` names the speaker. */
export function sheet(who = "") {
  const node = document.createElement("article");
  node.className = "sheet";
  if (who) {
    const name = document.createElement("p");
    name.className = "who";
    name.textContent = who;
    node.append(name);
  }
  const text = document.createElement("div");
  text.className = "text";
  const meta = document.createElement("div");
  meta.className = "meta";
  const speed = document.createElement("span");
  speed.className = "hint speed";
  meta.append(speed);
  node.append(text, meta);
  return { node, text, meta, speed };
}

export function button(name, does) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = "quiet";
  made.textContent = name;
  made.addEventListener("click", () => does(made));
  return made;
}

export function copying(text) {
  return button("Copy", async (made) => {
    try {
      await navigator.clipboard.writeText(text());
      made.textContent = "Copied";
    } catch {
      made.textContent = "Not allowed here";
    }
    setTimeout(() => { made.textContent = "Copy"; }, 1500);
  });
}
