// The card beside a token: how likely it was, and what else the model thought of.

const card = document.getElementById("card");
const tokens = new WeakMap();
let shown = null;

const percent = (logprob) => {
  const share = 100 * Math.exp(logprob);
  return share >= 99.95 ? "100 %" : share >= 9.95 ? `${share.toFixed(0)} %` : share >= 0.095 ? `${share.toFixed(1)} %` : "< 0.1 %";
};

/** Show the card of `group`, the tokens that `span` is made of, while it is pointed at or focused. */
export function point(span, group) {
  tokens.set(span, group);
}

for (const [name, react] of Object.entries({
  pointerover: (event) => event.target.classList?.contains("token") ? show(event.target) : null,
  pointerout: (event) => event.target === shown && document.activeElement !== shown ? hide() : null,
  focusin: (event) => event.target.classList?.contains("token") ? show(event.target) : null,
  focusout: (event) => event.target === shown ? hide() : null,
})) document.addEventListener(name, react);

export function hide() {
  shown?.classList.remove("shown");
  shown?.removeAttribute("aria-describedby");
  shown = null;
  card.hidden = true;
}

function show(span) {
  const group = tokens.get(span);
  if (!group || span === shown) return;
  hide();
  shown = span;
  span.classList.add("shown");
  span.setAttribute("aria-describedby", "card");
  card.replaceChildren(...(group.length > 1 ? several(group) : one(group[0])));
  card.hidden = false;
  place(span);
}

/** Below the token where there is room, above it else, and within the window. A narrow screen has it at its foot. */
function place(span) {
  card.style.left = card.style.top = "";
  if (getComputedStyle(card).position === "fixed") return;
  const at = span.getClientRects()[0];
  const size = card.getBoundingClientRect();
  const below = at.bottom + 8 + size.height < innerHeight;
  const left = Math.max(8, Math.min(at.left - 12, document.documentElement.clientWidth - size.width - 8));
  card.style.left = `${left + scrollX}px`;
  card.style.top = `${(below ? at.bottom + 8 : at.top - size.height - 8) + scrollY}px`;
}

function one(token) {
  const best = token.top.toSorted((a, b) => b[1] - a[1]);
  const rows = best.map(([spelt, logprob]) => row(spelt, logprob, spelt === token.spelt && logprob === token.logprob));
  const among = rows.some((each) => each.classList.contains("is"));
  if (!among && token.logprob !== null) rows.push(row(token.spelt, token.logprob, true));
  return [chosen(token.spelt, token.logprob), list(rows)];
}

/** A character that several tokens spell: the chance of each. */
function several(group) {
  const logprob = group.reduce((sum, token) => sum + (token.logprob ?? 0), 0);
  const note = element("p", "hint", `One character, spelt in ${group.length} tokens; their chances multiply.`);
  return [chosen(group.map((token) => token.spelt.replace(/^bytes:/, "")).join(" "), logprob),
    list(group.map((token) => row(token.spelt.replace(/^bytes:/, ""), token.logprob ?? 0, true))), note];
}

function chosen(spelt, logprob) {
  const line = element("p", "chosen");
  line.append(visible(spelt), element("b", "", logprob === null ? "" : percent(logprob)));
  return line;
}

function list(rows) {
  const made = document.createElement("ol");
  made.append(...rows);
  return made;
}

function row(spelt, logprob, is) {
  const made = element("li", is ? "is" : "");
  const track = element("span", "track");
  const bar = document.createElement("i");
  bar.style.width = `${100 * Math.exp(logprob)}%`;
  track.append(bar);
  made.append(visible(spelt), track, element("span", "n", percent(logprob)));
  return made;
}

/** White space as signs, so that " the" and "the" can be told apart. */
function visible(spelt) {
  const made = element("span", "spelt");
  for (const part of spelt.replace(/^bytes:/, "").split(/(\s|[\u0000-\u001f])/)) {
    const sign = { " ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍" }[part];
    const control = /^[\u0000-\u001f]$/.test(part) ? String.fromCodePoint(0x2400 + part.codePointAt(0)) : null;
    if (sign ?? control) made.append(element("mark", "", sign ?? control));
    else if (part) made.append(part);
  }
  return made;
}

function element(name, kind, text = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}
