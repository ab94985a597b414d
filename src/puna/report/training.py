"""The training's part of the report: loss, learning rate, throughput, and where the time went (sections 2.2 to 2.4)."""

from __future__ import annotations

import numpy as np

from puna.report import figures
from puna.report.facts import Facts, at, number
from puna.report.markup import (
    Html,
    absent,
    amount,
    bar,
    count,
    element,
    fixed,
    join,
    note,
    paragraph,
    percent,
    seconds,
    table,
)

_FILE = "metrics.jsonl"
MOST = 20  # spikes, and measures of held-out loss, that are shown


def curves(facts: Facts) -> Html:
    """Loss and learning rate over the tokens trained on, spikes, and held-out loss on the way."""
    curve = facts.curve
    if curve is None:
        return absent("the training", _FILE)
    smooth = figures.smoothed(curve.loss)
    span = figures.span(len(curve))
    steps, tokens = count(float(curve.step[-1]), "steps"), amount(float(curve.tokens[-1]), "tokens")
    first, last = fixed(_finite(curve.loss[0]), 3), fixed(_finite(smooth[-1]), 3)
    lines = "steps" if len(curve) == curve.step[-1] - curve.step[0] + 1 else "logged steps"
    mean = f" (mean of the last {count(span // 2 + 1)} {lines})" if span > 1 else ""
    skipped = (
        f"Steps not taken, since loss or gradient was not finite or the loss a spike: {count(curve.skipped)}. "
        if curve.skipped
        else ""
    )
    said = paragraph(
        f"{_shape(facts)}{steps} over {tokens}. The loss went from {first} to {last} nats per token{mean}. {skipped}"
    )
    hidden = int(np.sum(curve.loss > figures.ceiling(curve)))
    caption = [
        "Loss over the tokens trained on, as the paper's Figure 1 shows it. ",
        f"Faint: {lines}. Strong: the mean over {count(span)} neighbouring ones. ",
    ]
    if hidden:
        caption.append(f"Above the picture: {count(hidden)} of the first {lines}, with a higher loss.")
    figure = element("figure", figures.loss(curve), element("figcaption", *caption))
    return join(said, figure, _spikes(facts), _measures(facts))


def _spikes(facts: Facts) -> Html:
    """Loss spikes, with the document that cost most."""
    found = [at(line, "spike") for line in facts.told if at(line, "spike") is not None]
    if not found:
        return paragraph("No loss was a spike.")
    rows: list[list[object]] = []
    for spike in found[:MOST]:
        named = at(spike, "documents")
        worst = named[0] if isinstance(named, list) and named else None
        back = number(spike, "back_to")
        done = {"observe": "nothing", "skip": "not stepped on", "rewind": f"went back to step {count(back)}"}
        figures_of = (fixed(number(spike, key), 3) for key in ("loss", "median"))
        cost = f"{at(worst, 'id')}, at {fixed(number(worst, 'loss'), 3)}" if worst else ""
        rows.append([count(number(spike, "step")), *figures_of, cost, done.get(str(at(spike, "action")), "")])
    more = paragraph(f"And {count(len(found) - MOST)} more.") if len(found) > MOST else Html("")
    said = note("Loss in nats per token. puna trace RUN --step N tells what a document is and where it was published.")
    return join(
        table(["spike at step", "loss", "median before", "highest in document", "what was done"], rows), said, more
    )


def _measures(facts: Facts) -> Html:
    """Held-out loss by source as training went on."""
    found = [line for line in facts.told if at(line, "heldout") is not None]
    if not found:
        return Html("")
    shown = [found[place * (len(found) - 1) // (MOST - 1)] for place in range(MOST)] if len(found) > MOST else found
    sources = [source for source, _ in facts.by_source(at(found[-1], "heldout"))]
    rows: list[list[object]] = [
        [count(number(line, "step")), *(fixed(number(line, "heldout", name, "bits_per_byte"), 3) for name in sources)]
        for line in shown
    ]
    told = "Of the first held-out documents of each source, up to train.evaluate_tokens; in float32."
    return join(table(["held-out bits per byte at step", *sources], rows), note(told))


def _shape(facts: Facts) -> str:
    """The model in one sentence, or nothing when the recipe cannot be read."""
    model = {key: number(facts.recipe, "model", key) for key in ("layers", "dim", "heads")}
    if None in model.values():
        return ""
    context = count(number(facts.recipe, "train", "context"), "tokens")
    layers, heads = count(model["layers"], "layers"), count(model["heads"], "heads")
    return f"{layers} of width {count(model['dim'])} with {heads} and a context of {context}. "


def throughput(facts: Facts) -> Html:
    """Tokens per second over the run."""
    if facts.curve is None:
        return absent("the throughput", _FILE)
    rate = facts.curve.rate
    rate = rate[np.isfinite(rate)]
    if not len(rate):
        return absent("the throughput of a training step", _FILE)
    low, middle, high = (float(value) for value in np.quantile(rate, (0.05, 0.5, 0.95)))
    said = paragraph(
        f"{count(middle, 'tokens')} per second in the median step, nine steps of ten between ",
        f"{count(low)} and {count(high)}. ",
        f"Training took {seconds(float(np.nansum(facts.curve.seconds)))} for its steps alone. ",
        *_goodput(facts),
    )
    return join(said, element("figure", figures.throughput(facts.curve)))


def _goodput(facts: Facts) -> list[str]:
    """What share of the time steps took that count, and what checkpoints took of it."""
    done = facts.counts("train")
    share, saves = number(done, "goodput"), number(done, "saves")
    if share is None:
        return []
    stall = (number(done, "stall_seconds") or 0.0) / saves if saves else None
    waited = f"; they waited {fixed(stall, 2)} s for each of {count(saves)} checkpoints" if stall is not None else ""
    return [f"Steps that count took {percent(share)} of its wall time{waited}."]


def times(facts: Facts) -> Html:
    """Seconds by step, in the order in which the steps depend on each other."""
    spent = {step: number(record, "seconds") for step, record in facts.records.items()}
    known = {step: value for step, value in spent.items() if value is not None}
    whole = sum(known.values())
    if not known:
        return absent("a step that is done", "records/")
    rows: list[list[object]] = [
        [step, seconds(value), percent(value / whole if whole else None), bar(value / whole if whole else 0)]
        for step, value in known.items()
    ]
    rows.append([element("strong", "all"), seconds(whole), "", ""])
    return join(
        table(["step", "time", "share", ""], rows, kind="shares"),
        note("Of a step that was interrupted, the time since it was last taken up; the report itself is left out."),
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
