"""The report's gallery of models that were finetuned from this run: the same questions, answered before and after.

They are the first of the examples that were held out, answered greedily, whatever came.
"""

from __future__ import annotations

from typing import Any

from puna.report.facts import Facts, at, number
from puna.report.markup import Html, element, fixed, join, note, paragraph


def gallery(facts: Facts) -> Html:
    """Each finetuning that lies beside the run: losses, and answers of the base model and of the finetuned one."""
    if not facts.finetuned:
        return paragraph(
            "None lies beside this run. ",
            element("code", "puna finetune RUN DATA --out FOLDER"),
            " makes one; in the folder that this run lies in, the next report shows it.",
        )
    return join(*(_one(name, measured) for name, measured in facts.finetuned))


def _one(name: str, measured: Any) -> Html:
    found = at(measured, "samples")
    samples = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    losses = [fixed(number(measured, "answers", when, "loss"), 3) for when in ("before", "after")]
    return join(
        element("h3", element("bdi", name)),
        paragraph(f"Loss of held-out answers, nats a token: {losses[0]} before, {losses[1]} after."),
        note("The first examples that were held out, each answered greedily by the model before and after."),
        *(_pair(each) for each in samples),
    )


def _pair(sample: dict[str, Any]) -> Html:
    said = [
        join(element("span", title, class_="note"), str(sample.get(key) or ""))
        for title, key in (("question", "prompt"), ("before", "before"), ("after", "after"))
    ]
    return element("pre", *(element("div", each) for each in said), class_="sample", dir="auto")
