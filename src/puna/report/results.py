"""The report's verdict: the headline, bits per byte beside the baselines, and samples nobody chose."""

from __future__ import annotations

from puna.report import figures
from puna.report.corpus import training_text
from puna.report.facts import Facts, at, items, number, total
from puna.report.markup import (
    Html,
    absent,
    amount,
    count,
    element,
    fixed,
    join,
    note,
    paragraph,
    percent,
    seconds,
    size,
    table,
)

MODEL = "model"


def headline(facts: Facts) -> Html:
    """What was made, of how much, and how good it is; for an unfinished run, how far it has come."""
    text = training_text(facts)["bytes"]
    scores = by_source(facts)
    of_the_run = [
        ("parameters", amount(facts.parameters)),
        ("training text", size(text)),
        ("tokens trained on", amount(None if facts.curve is None else float(facts.curve.tokens[-1]))),
        ("bits per byte, held out", fixed(scores.get("all", {}).get(MODEL), 3)),
        ("time over all steps", seconds(total(number(record, "seconds") for record in facts.records.values()))),
    ]
    return join(
        element("p", "Puna, run ", element("bdi", facts.name), class_="overline"),
        element("h1", _title(facts, text)),
        element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in of_the_run)),
        _verdict(facts, scores),
        _unfinished(facts),
    )


def _title(facts: Facts, text: float | None) -> str:
    if facts.curve is None:
        return "A run that has not trained yet"
    made = "A LLaMA" if facts.parameters is None else f"A LLaMA of {amount(facts.parameters, 'parameters')}"
    step, steps = float(facts.curve.step[-1]), number(facts.mixture, "steps")
    if steps is not None and step < steps:
        return f"{made} in training: step {count(step)} of {count(steps)}"
    return made if text is None else f"{made}, raised from {size(text)} of text"


def _verdict(facts: Facts, scores: dict[str, dict[str, float]]) -> Html:
    """A line on all held-out text and one on every source: the best baseline, or those that the model does not beat."""
    judged = {source: values for source, values in _told(scores).items() if MODEL in values and len(values) > 1}
    if not judged:
        return absent("bits per byte on held-out text beside the baselines", "evaluations/heldout.json")
    lines = []
    for source, values in judged.items():
        name = "All held-out text" if source == "all" else source
        lines.append(element("li", element("strong", name), ": ", _compared(values, labels(facts))))
    return element("ul", *lines, class_="verdict")


def _compared(values: dict[str, float], names: dict[str, str]) -> str:
    model = values[MODEL]
    others = sorted((value, name) for name, value in values.items() if name != MODEL)
    ahead = [(value, name) for value, name in others if value <= model]
    if not ahead:
        value, name = others[0]
        more = percent(value / model - 1)
        closest = f"the closest, {names.get(name, name)}, needs {fixed(value, 3)} ({more} more)"
        return f"{fixed(model, 3)} bits per byte, fewer than every baseline; {closest}."
    better = _listed([f"{names.get(name, name)} ({fixed(value, 3)})" for value, name in ahead])
    worse = _listed([names.get(name, name) for value, name in others if value > model])
    return (
        f"{fixed(model, 3)} bits per byte. The model does not beat {better}; it beats {worse or 'none of the others'}."
    )


def _listed(names: list[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def _unfinished(facts: Facts) -> Html:
    said = []
    if facts.begun:
        said.append(f"Begun and not ended when this page was written: {', '.join(facts.begun)}. ")
    if facts.unreadable:
        said.append(f"Could not be read and is left out: {', '.join(facts.unreadable)}. ")
    return element("p", *said, class_="absent") if said else Html("")


def bits(facts: Facts) -> Html:
    """The bar chart by source, the table behind it, and how each number was measured."""
    scores = _told(by_source(facts))
    if not scores:
        return absent("bits per byte on held-out text", "evaluations/heldout.json")
    names = labels(facts)
    rows = sorted({name for values in scores.values() for name in values}, key=lambda name: _rank(name, scores))
    panels = [figures.Bars(source, [values.get(name) for name in rows]) for source, values in scores.items()]
    lines: list[list[object]] = []
    for name in rows:
        cells: list[object] = [names.get(name, name)]
        for values in scores.values():
            best = name in values and values[name] == min(values.values())
            figure = fixed(values.get(name), 3)
            cells.append(element("strong", figure) if best else figure)
        lines.append(cells)
    lines.append(["measured on"])
    for key in ("bytes", "documents", "tokens"):
        given = [number(facts.heldout or facts.baselines, key, source) for source in scores]
        lines.append([key, *(size(value) if key == "bytes" else count(value) for value in given)])
    return join(
        element("figure", figures.bits([names.get(name, name) for name in rows], panels)),
        table(["bits per byte", *scores], lines),
        note(*_how(facts)),
    )


def _how(facts: Facts) -> list[str]:
    context, stride = number(facts.heldout, "context"), number(facts.heldout, "stride")
    said = []
    if context is not None and stride is not None:
        said.append(f"The model reads windows of {count(context)} tokens that move on by {count(stride)}. ")
    if at(facts.heldout, "checkpoint"):
        said.append(f"It is the checkpoint {at(facts.heldout, 'checkpoint')}. ")
    said.append(
        "No context reaches out of a document. xz at -9 and zstd at -19 have a window that holds all text; primed is "
        "what the held-out text adds to the compressed training text of its source. The n-gram model (modified "
        "Kneser-Ney) was trained on that text too, in the same pieces. Uniform gives every piece the same probability. "
        "For all, bits and bytes are summed over the sources. Fewer bits are better; the best of a column is bold."
    )
    return said


def samples(facts: Facts) -> Html:
    """Every prompt of the recipe with the text the model went on with, as it came."""
    found = at(facts.samples, "samples")
    if not isinstance(found, list):
        return absent("samples", "evaluations/samples.json")
    settings = at(facts.samples, "settings")
    how = [
        f"{name} {number(settings, key):g}"
        for name, key in (("temperature", "temperature"), ("top-p", "top_p"), ("at most", "tokens"))
        if number(settings, key) is not None
    ]
    tokens = " tokens" if number(settings, "tokens") is not None else ""
    said = paragraph(
        "One text for each prompt of the recipe, the first that came; none was chosen or left out. ",
        f"Sampled with {', '.join(how)}{tokens}. " if how else "",
        "The prompt is underlined.",
    )
    given = [one for one in found if isinstance(one, dict)]
    if not given:
        return paragraph("The recipe names no prompts.")
    return join(said, *(_sample(str(at(one, "prompt") or ""), str(at(one, "text") or "")) for one in given))


def _sample(prompt: str, text: str) -> Html:
    asked = element("span", prompt, class_="prompt") if prompt else element("span", "no prompt", class_="note")
    return element("pre", asked, text, class_="sample", dir="auto")


def by_source(facts: Facts) -> dict[str, dict[str, float]]:
    """{source: {model or baseline: bits per byte}}, "all" first; what heldout.json says goes before baselines.json."""
    merged: dict[str, dict[str, float]] = {}
    for file in (facts.baselines, facts.heldout):
        for source, values in items(file, "bits_per_byte"):
            read = ((name, number(values, name)) for name, _ in items(values))
            merged.setdefault(source, {}).update(
                {name: value for name, value in read if value is not None and value > 0}
            )
    return {source: values for source, values in facts.by_source(merged) if values}


def _told(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of a run with one source, that source alone: "all" says the same."""
    one = {source: values for source, values in scores.items() if source != "all"}
    return one if len(one) == 1 and [scores.get("all")] == list(one.values()) else scores


def labels(facts: Facts) -> dict[str, str]:
    """What the model and the baselines are called on the page."""
    order = number(facts.recipe, "evaluate", "ngram_order")
    return {
        MODEL: "this model",
        "ngram": "n-gram" if order is None else f"{order:.0f}-gram",
        "xz": "xz alone",
        "xz_primed": "xz primed",
        "zstd": "zstd alone",
        "zstd_primed": "zstd primed",
        "uniform": "uniform",
    }


def _rank(name: str, scores: dict[str, dict[str, float]]) -> tuple[bool, float, str]:
    """The model first, then the baselines from the best, by all held-out text or by the first source that has it."""
    return (name != MODEL, next((values[name] for values in scores.values() if name in values), 0.0), name)
