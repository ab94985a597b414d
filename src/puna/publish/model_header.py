"""The header of a model's card, for machines: languages, sources, emissions, and scores as the hub's model-index."""

from __future__ import annotations

from collections.abc import Iterator

from puna.convert import card
from puna.convert.parts import Parts
from puna.evaluate.footnotes import how_many
from puna.evaluate.run import Value
from puna.evaluate.tasks import PACK
from puna.publish.front_matter import listed, quoted
from puna.publish.model_facts import ModelFacts, bits, hardware, languages, rations


def header(told: ModelFacts, parts: Parts, licence: str) -> Iterator[str]:
    yield "---"
    yield f"license: {quoted(licence or card.UNCHOSEN)}"
    yield from listed("language", languages(told))
    yield "library_name: transformers"
    yield "pipeline_tag: text-generation"
    yield from listed("tags", ["llama", "puna", *(["finetuned", "conversational"] if told.finetuned else [])])
    yield from listed("datasets", [name for name, _ in rations(told.run)])
    if told.carbon is not None and told.carbon.kwh is not None:
        how = "measured, by puna carbon" if told.carbon.how == "measured" else "stated power and processor time"
        yield "co2_eq_emissions:"
        yield f"  emissions: {1000 * told.carbon.kwh * told.carbon.intensity:.6f}"  # the hub's unit is the gram
        yield f"  source: {quoted(how)}"
        yield f"  training_type: {quoted('fine-tuning' if told.finetuned else 'pre-training')}"
        if processors := hardware(told.run):
            yield f"  hardware_used: {quoted(processors)}"
    yield from _index(told, parts)
    yield "---"


def _index(told: ModelFacts, parts: Parts) -> Iterator[str]:
    """The scores, as the hub's model-index: a result for each data set, with its metrics."""
    results = []
    for source, value in bits(told):
        results.append((f"held-out text, {source}", f"heldout-{source}", [("bits_per_byte", value, "bits per byte")]))
    for result in told.known.values():
        metrics = [
            (name, value.mean, f"{name}, {sureness(value)}, {how_many(result)}")
            for name, value in result.values.items()
        ]
        if metrics:
            title = f"{PACK[result.task].title}, {result.shots}-shot"
            results.append((title, PACK[result.task].benchmark, metrics))
    if not results:
        return
    yield "model-index:"
    yield f"- name: {quoted(card.title(parts))}"
    yield "  results:"
    for title, kind, metrics in results:
        yield "  - task:"
        yield "      type: text-generation"
        yield "    dataset:"
        yield f"      type: {quoted(kind)}"
        yield f"      name: {quoted(title)}"
        yield "    metrics:"
        for metric, mean, name in metrics:
            yield f"    - type: {quoted(metric)}"
            yield f"      value: {mean:.6f}"
            yield f"      name: {quoted(name)}"


def sureness(value: Value) -> str:
    if value.interval is not None:
        return f"95 % interval [{value.interval[0]:.4f}, {value.interval[1]:.4f}]"
    if value.clusters is not None:
        return "no interval"
    return "one item" if value.error is None else f"standard error {value.error:.4f}"
