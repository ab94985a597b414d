// Which view is shown, in which colours, and the keys that work everywhere.

import { Refused, ask } from "./api.js";
import { hide } from "./card.js";
import * as chat from "./chat.js";
import * as settings from "./settings.js";
import { walk } from "./tokens.js";
import * as write from "./write.js";
import { isBusy, stop } from "./writing.js";

const THEMES = ["auto", "light", "dark"];
let about = null;

function view() {
  if (location.pathname === "/report") return "report";
  return location.hash === "#chat" ? "chat" : "write";
}

function show() {
  const now = view();
  document.body.dataset.view = now;
  for (const section of document.querySelectorAll(".view")) section.hidden = section.id !== now;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === now) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  hide();
  if (about) document.title = `${{ write: "Write", chat: "Chat", report: "How it was raised" }[now]} · ${about.model}`;
  if (now === "report") report();
}

/** The report is loaded when it is first looked at. */
async function report() {
  const frame = document.getElementById("report-frame");
  if (!about || frame.src) return;
  document.getElementById("no-report").hidden = about.report;
  if (!about.report) return;
  await ask("/report/session", { body: {} });
  frame.src = "/report/document";
  frame.hidden = false;
}

function theme(choice) {
  const button = document.getElementById("theme");
  const said = { auto: "as the system", light: "light", dark: "dark" }[choice];
  button.setAttribute("aria-label", `Colours: ${said}`);
  button.title = `Colours: ${said}`;
  if (choice === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  localStorage.setItem("puna.theme", choice);
}

document.getElementById("theme").addEventListener("click", () => {
  const now = localStorage.getItem("puna.theme") ?? "auto";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    show();
  });
}
addEventListener("popstate", show);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    if (isBusy()) stop();
    hide();
  }
  walk(event);
});

theme(THEMES.includes(localStorage.getItem("puna.theme")) ? localStorage.getItem("puna.theme") : "auto");
show();
try {
  about = await (await ask("/about")).json();
  document.getElementById("model").textContent = about.model;
  settings.prepare(about);
  write.prepare(about);
  chat.prepare(about);
  show();
  document.body.dataset.ready = "";
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  const notice = document.createElement("p");
  notice.className = "notice wrong";
  notice.textContent = error.message;
  document.getElementById("main").prepend(notice);
}
