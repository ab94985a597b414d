"""The training's part of the report: loss, learning rate, throughput, and where the time went (sections 2.2 to 2.4)."""

from __future__ import annotations

import numpy as np

from puna.report import figures
from puna.report.facts import Facts, number
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


def curves(facts: Facts) -> Html:
    """Loss and learning rate over the tokens trained on."""
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
        f"Steps not taken, since loss or gradient was not finite: {count(curve.skipped)}. " if curve.skipped else ""
    )
    said = paragraph(
        f"{_shape(facts)}{steps} over {tokens}. The loss went from {first} to {last} nats per token{mean}. {skipped}"
    )
    hidden = int(np.sum(curve.loss > figures.ceiling(curve)))
    caption = [f"Faint: {lines}. Strong: the mean over {count(span)} neighbouring ones. "]
    if hidden:
        caption.append(f"Above the picture: {count(hidden)} of the first {lines}, with a higher loss.")
    return join(said, element("figure", figures.loss(curve), element("figcaption", *caption)))


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
        f"Training took {seconds(float(np.nansum(facts.curve.seconds)))} for its steps alone.",
    )
    return join(said, element("figure", figures.throughput(facts.curve)))


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
