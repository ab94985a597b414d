// How text is drawn: what the form holds, kept in the browser from visit to visit.

const STORE = "puna.settings";
const DEFAULTS = {
  temperature: "0.8", top_p: "0.95", min_p: "0", repetition_penalty: "1", max_tokens: "200", top_k: "", seed: "", stop: "", shade: true,
};
const form = document.getElementById("settings-form");

export function prepare(about) {
  form.max_tokens.max = Math.min(about.context - 1, about.limits.max_tokens);
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch { /* what another version kept is left */ }
  fill({ ...DEFAULTS, max_tokens: String(Math.min(200, form.max_tokens.max)), ...kept });
  form.addEventListener("input", keep);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("reset").addEventListener("click", () => {
    fill({ ...DEFAULTS, max_tokens: String(Math.min(200, form.max_tokens.max)) });
    keep();
  });
  if (matchMedia("(max-width: 900px)").matches) document.getElementById("settings-fold").open = false;
}

/** The fields of a request. An empty field is left out, and the server's own value holds. */
export function chosen() {
  const number = (name) => (form[name].value === "" || !form[name].validity.valid ? undefined : Number(form[name].value));
  const stop = form.stop.value.split("\n").filter(Boolean).map((line) => line.replaceAll("\\n", "\n"));
  const fields = Object.fromEntries(
    ["temperature", "top_p", "min_p", "repetition_penalty", "max_tokens", "top_k", "seed"].map((name) => [name, number(name)]),
  );
  // A seed of our own, so that the page can say which one a text was drawn with.
  fields.seed ??= Math.floor(Math.random() * 1e9);
  return { ...fields, stop: stop.length ? stop : undefined };
}

function fill(values) {
  for (const [name, value] of Object.entries(values)) {
    if (!form[name]) continue;
    if (form[name].type === "checkbox") form[name].checked = Boolean(value);
    else form[name].value = value;
  }
  tell();
}

function keep() {
  const values = Object.fromEntries(Object.keys(DEFAULTS).map((name) => [name, name === "shade" ? form[name].checked : form[name].value]));
  localStorage.setItem(STORE, JSON.stringify(values));
  tell();
}

function tell() {
  for (const output of form.querySelectorAll("output")) {
    const value = Number(form[output.htmlFor.value].value);
    const off = { top_p: 1, min_p: 0, repetition_penalty: 1 }[output.htmlFor.value] === value;
    output.textContent = off ? "off" : value.toFixed(2);
  }
  document.body.classList.toggle("shaded", form.shade.checked);
}
