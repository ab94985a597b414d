// Tokens become text on the page. Whatever a model writes is set as textContent and never as markup.

import { point } from "./card.js";

const LEVELS = [0.5, 0.2, 0.05, 0.01];

/** The bytes of a token as /v1/completions spells it: its text, or bytes:\xe6\x9d of a part of a character. */
function bytesOf(spelt) {
  if (!/^bytes:(\\x[0-9a-f]{2})+$/.test(spelt)) return new TextEncoder().encode(spelt);
  return Uint8Array.from(spelt.slice(6).split("\\x").slice(1), (pair) => parseInt(pair, 16));
}

/** The tokens of a piece in one form, whichever of the two APIs it is of: {spelt, bytes, logprob, top: [[spelt, logprob]]}. */
export function tokensOf(choice) {
  const told = choice.logprobs;
  if (!told) return [];
  if (told.content) {
    return told.content.map((token) => ({
      spelt: token.token, bytes: Uint8Array.from(token.bytes ?? []), logprob: token.logprob,
      top: token.top_logprobs.map((other) => [other.token, other.logprob]),
    }));
  }
  return told.tokens.map((spelt, index) => ({
    spelt, bytes: bytesOf(spelt), logprob: told.token_logprobs[index], top: Object.entries(told.top_logprobs[index] ?? {}),
  }));
}

/** A text on its way into `element`, token by token; `text` is what the server said of it. */
export class Ink {
  constructor(element) {
    this.element = element;
    this.text = "";
    this.count = 0;
    this.given = 0; // of `text`, in UTF-16 units, what stands on the page
    this.group = []; // tokens that together make the next character or more
    this.read = ""; // their text so far
    this.decoder = new TextDecoder();
    element.tabIndex = 0;
    element.setAttribute("role", "group");
    element.setAttribute("aria-label", "Text with a probability for each token; arrow keys go from one to the next");
  }

  add(text, tokens) {
    this.text += text;
    for (const token of tokens) {
      this.count += 1;
      this.group.push(token);
      const before = this.read.length;
      this.read += this.decoder.decode(token.bytes, { stream: true });
      if (this.read.length > before) this.#flush();
    }
  }

  /** All that is left: a character that never became whole, or text without tokens. */
  finish() {
    this.read += this.decoder.decode();
    if (this.group.length) this.#flush();
    if (this.given < this.text.length) this.element.append(this.text.slice(this.given));
    this.given = this.text.length;
  }

  /** One span for what the group makes; a stop string may have cut the text before the token's end. */
  #flush() {
    const room = Math.max(0, this.text.length - this.given);
    const shown = this.read.slice(0, room);
    const group = this.group;
    this.read = "";
    this.group = [];
    if (!shown) return;
    this.given += shown.length;
    const span = document.createElement("span");
    span.className = "token";
    const chance = Math.exp(Math.min(...group.map((token) => token.logprob ?? 0)));
    const level = LEVELS.filter((bound) => chance < bound).length;
    if (level) span.classList.add(`level-${level}`);
    if (/^\s*\n\s*$/.test(shown)) span.classList.add("newline");
    span.textContent = shown;
    span.tabIndex = -1;
    point(span, group);
    this.element.append(span);
  }
}

/** Arrow keys walk from token to token within a text; the text itself is one stop of the Tab key. */
export function walk(event) {
  const token = event.target.closest?.(".token");
  const text = event.target.closest?.(".text[role=group]");
  if (!text) return;
  const step = { ArrowRight: 1, ArrowLeft: -1, Home: "first", End: "last" }[event.key];
  if (step === undefined) return;
  const all = [...text.querySelectorAll(".token")];
  const here = all.indexOf(token);
  const next = step === "first" ? all[0] : step === "last" ? all.at(-1) : all[here + step] ?? (here < 0 ? all[0] : null);
  if (next) {
    event.preventDefault();
    next.focus();
  }
}
