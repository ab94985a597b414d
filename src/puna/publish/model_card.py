"""The card of a model, in the layout of Hugging Face's: what it was raised from, how, at what cost, and how it scores.

Everything is read from the files of the run or the finetuning that made it (model_facts.py). What they do not say is
said to be unknown, and what was not measured to be not evaluated. The header holds the same for machines: languages,
sources, emissions, and scores as a model-index.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from puna import __version__
from puna.convert import card
from puna.convert.card import Card
from puna.convert.parts import Parts
from puna.evaluate.footnotes import how_many, resampling
from puna.evaluate.run import Result, Value
from puna.evaluate.tasks import PACK
from puna.publish import model_facts
from puna.publish.front_matter import cell, most
from puna.publish.model_facts import ModelFacts
from puna.publish.model_header import header, sureness
from puna.report.facts import Facts, at, items, number
from puna.storage import Location

NAMED = 6  # languages and licences of a source that are named
BIAS = ("realtoxicityprompts", "realtoxicityprompts_respectful", "crows_pairs", "winogender", "truthfulqa_judged",
        "truthfulqa")  # fmt: skip


def of(model: Location) -> Card:
    """What writes the card of `model`. InputError as model_facts.of."""
    told = model_facts.of(model)
    return lambda parts, licence: text(told, parts, licence)


def text(told: ModelFacts, parts: Parts, licence: str = "") -> str:
    """README.md. licence: an identifier of the hub's list."""
    return "\n".join([*header(told, parts, licence), "", *_body(told, parts), ""])


def _body(told: ModelFacts, parts: Parts) -> Iterator[str]:
    yield f"# {cell(card.title(parts))}"
    yield ""
    yield f"A LLaMA of {card.parameters(parts):,} parameters, {card.kind(parts)}. {_made(told)}"
    yield f"This card was written by Puna {__version__} from the files of that work; what they do not say is not here."
    yield ""
    yield card.architecture(parts)
    yield ""
    yield card.loading(parts)
    yield ""
    if parts.chat_template:
        yield "A talk is put into the form that it was taught by `tokenizer.apply_chat_template`."
        yield ""
    yield card.COMPARED
    yield ""
    yield from _uses(told)
    yield from _finetuning(told)
    yield from _data(told)
    yield from _training(told.run)
    yield from _evaluation(told)
    yield from _bias(told)
    yield from _energy(told)


def _made(told: ModelFacts) -> str:
    if told.run is not None:
        tokens = number(told.run.records.get("train"), "counts", "tokens") if told.newest else None
        return f"Trained from nothing{'' if tokens is None else f', on {tokens:,.0f} tokens'}."
    if told.finetuned is not None:
        return (
            f"Finetuned on instructions from {cell(at(told.finetuned, 'model', 'name') or 'a model without a name')}."
        )
    if told.origin is not None:
        return f"Taken in from {cell(at(told.origin, 'name') or 'elsewhere')}, and not trained here."
    return "What made it is not known here."


def _uses(told: ModelFacts) -> Iterator[str]:
    yield "## Uses"
    what = "answers in the form it was taught" if told.finetuned else "continuations of text"
    yield f"For research and learning: {what}, and what its data and training did to it. It is not for facts, for"
    yield "advice, nor for decisions on people, and it was not tried as part of a product: whoever puts it before"
    yield "others has to measure first what it does there. It may say what is false, and may repeat word for word what"
    yield "it read."
    yield ""


def _finetuning(told: ModelFacts) -> Iterator[str]:
    if told.finetuned is None:
        return
    yield "## Finetuning"
    base, settings = at(told.finetuned, "model"), at(told.finetuned, "settings")
    yield f"Base model: {cell(at(base, 'name') or 'not told')}, weights `{cell(at(base, 'digest') or 'not told')}`."
    yield "Its own training is not told here."
    yield ""
    yield "| instruction data | weight | examples | held out | tokens | answers' tokens |"
    yield "|---|---|---|---|---|---|"
    sources = at(told.finetuned, "sources")
    for source in sources if isinstance(sources, list) else []:
        name = str(at(source, "location") or "").replace("\\", "/").rstrip("/").rpartition("/")[2]
        counts = (number(source, key) for key in ("kept", "heldout", "tokens", "scored"))
        figures = " | ".join("not told" if value is None else f"{value:,.0f}" for value in counts)
        yield f"| {cell(name or 'not told')} | {number(source, 'weight') or 0:g} | {figures} |"
    yield ""
    looked = "Examples that hold a benchmark's question were left out." if at(told.finetuned, "benchmarks") else (
        "Benchmarks were not looked for in it: their questions may be among its examples."
    )  # fmt: skip
    yield f"{looked} Under which licence each example stands, Puna does not know."
    yield ""
    yield from _pairs(
        settings, ("epochs", "context", "batch", "learning_rate", "warmup", "weight_decay", "seed", "lora")
    )
    before, after = (number(told.change, "answers", when, "loss") for when in ("before", "after"))
    if before is not None and after is not None:
        yield f"Loss of held-out answers, nats a token: {before:.3f} before, {after:.3f} after."
        yield ""
    template = at(told.finetuned, "template")
    if isinstance(template, str):
        yield "The template, as `tokenizer_config.json` has it:"
        yield ""
        yield f"    {json.dumps(template, ensure_ascii=False)}"
        yield ""


def _data(told: ModelFacts) -> Iterator[str]:
    if told.run is None:
        return
    yield "## Training data"
    rations = model_facts.rations(told.run)
    if not rations:
        yield "The run's files do not say what it was trained on."
        yield ""
        return
    whole = sum(number(ration, "windows") or 0 for _, ration in rations) or 1
    yield "| source | share of training | epochs | documents | languages | licences, as the documents say |"
    yield "|---|---|---|---|---|---|"
    for name, ration in rations:
        found = told.texts.get(name)
        share, epochs = 100 * (number(ration, "windows") or 0) / whole, number(ration, "epochs")
        read = "not told" if epochs is None else f"{epochs:.2f}"
        if found is None or not found.documents:
            yield f"| {cell(name)} | {share:.1f} % | {read} | not told | not told | not told |"
            continue
        named = (most(counts, NAMED, "not told") for counts in (found.languages, found.licences))
        yield f"| {cell(name)} | {share:.1f} % | {read} | {found.documents:,} | {' | '.join(named)} |"
    yield ""
    yield "Weights hold no text, but a model may repeat what it read often. What each source asks of those who pass on"
    yield "its text is to be read where the source is published."
    yield ""


def _training(run: Facts | None) -> Iterator[str]:
    if run is None:
        return
    yield "## Training"
    train, count = at(run.resolved, "train"), at(run.records.get("train"), "counts")
    yield "| | |"
    yield "|---|---|"
    pieces = number(run.records.get("tokenizer"), "counts", "pieces")
    rows = [
        ("tokenizer", "byte-pair encoding by SentencePiece" + (f", {pieces:,.0f} pieces" if pieces else "")),
        ("steps", _told(number(count, "steps"))),
        ("tokens", _told(number(count, "tokens"))),
        ("tokens a step", _told(number(train, "batch"))),
        ("context", _told(number(train, "context"))),
        ("optimizer", _optimizer(train)),
        ("computed in", ", ".join(dict.fromkeys(str(at(one, "dtype")) for one in run.machine if at(one, "dtype")))),
        ("hardware", model_facts.hardware(run)),
        ("software", _software(run)),
        ("last loss", "" if (loss := number(count, "loss")) is None else f"{loss:.3f} nats a token"),
    ]
    yield from (f"| {name} | {cell(value)} |" for name, value in rows if value)
    yield ""


def _evaluation(told: ModelFacts) -> Iterator[str]:
    yield "## Evaluation"
    bits = model_facts.bits(told)
    if bits:
        yield "Bits per byte of text that was held out (lower is better):"
        yield ""
        yield "| text | this model | best of the baselines |"
        yield "|---|---|---|"
        for source, value in bits:
            scores = at(told.run and told.run.heldout, "bits_per_byte", source)
            others = [(found, name) for name, _ in items(scores) if name != "model" and (found := number(scores, name))]
            best = f"{min(others)[0]:.3f} ({min(others)[1]})" if others else "not measured"
            yield f"| {cell(source)} | {value:.3f} | {cell(best)} |"
        yield ""
    shown = [result for result in told.known.values() if result.task not in BIAS]
    yield from _scores(shown) if shown else ("Benchmarks: not evaluated.", "")


def _bias(told: ModelFacts) -> Iterator[str]:
    yield "## Bias, toxicity and truthfulness"
    shown = [result for result in told.known.values() if result.task in BIAS]
    if shown:
        yield from _scores(shown, groups=True)
    asked = {result.task for result in shown}
    if left := [PACK[name].title for name in BIAS if name not in asked]:
        yield f"Not evaluated: {'; '.join(left)}."
        yield ""
    yield "None of these numbers, high or low, says that a model is safe: each asks one kind of question, in English. A"
    yield "model repeats what its data say of people. Puna's docs/safety.md tells what each number says, and what not."
    yield ""


def _scores(results: Sequence[Result], *, groups: bool = False) -> Iterator[str]:
    yield "| benchmark | metric | value | items |"
    yield "|---|---|---|---|"
    for result in results:
        title = f"{PACK[result.task].title}, {result.shots}-shot"
        title += f", by {result.judged_by}" if result.judged_by else ""
        if result.metric in result.values:
            yield _score(title, result.metric, result.values[result.metric], how_many(result))
        for name, values in result.groups.items() if groups else ():
            if result.metric in values:
                yield _score(
                    f"{title}: {name}", result.metric, values[result.metric], f"{values[result.metric].items:,}"
                )
    yield ""
    for note in resampling(results):
        yield note
        yield ""


def _score(title: str, metric: str, value: Value, count: str) -> str:
    return f"| {cell(title)} | {cell(metric)} | {value.mean:.4f}, {sureness(value)} | {count} |"


def _energy(told: ModelFacts) -> Iterator[str]:
    yield "## Environmental impact"
    found = told.carbon
    if found is None or found.kwh is None:
        yield "Energy and emissions: not known. The machine's counters could not be read, or no account was kept."
        yield ""
        return
    what = (
        "all steps of the run, data and evaluation" if told.finetuned is None else "the finetuning alone, its measures"
    )
    yield f"{found.kwh:.4g} kWh and {found.kwh * found.intensity:.4g} kg CO2eq for {what}"
    how = "as the machine's counters say" if found.how == "measured" else (
        f"by the formula of the paper: processor time / {found.threads} x {found.watts or 0:g} W"
    )  # fmt: skip
    yield f"included, {how}; PUE {found.pue:g}, {found.intensity:g} kg CO2eq a kWh."
    yield ""


def _software(run: Facts) -> str:
    named = (f"torch {at(one, 'torch')}, Python {at(one, 'python')}" for one in run.machine if at(one, "torch"))
    return "; ".join(dict.fromkeys(named))


def _optimizer(train: object) -> str:
    beta1, beta2, decay, rate, least, warmup, clip = (
        number(train, key)
        for key in ("beta1", "beta2", "weight_decay", "learning_rate", "minimum_rate", "warmup", "clip")
    )
    if rate is None or least is None:
        return ""
    return (
        f"AdamW {beta1 or 0:g}, {beta2 or 0:g}, weight decay {decay or 0:g}; rate {rate:g} after {warmup or 0:,.0f} "
        f"steps, cosine to {100 * least:g} % of it; norm of the gradient at most {clip or 0:g}"
    )


def _pairs(values: object, names: Sequence[str]) -> Iterator[str]:
    yield "| | |"
    yield "|---|---|"
    for name in names:
        if (value := at(values, name)) is not None:
            yield f"| {name.replace('_', ' ')} | {cell(json.dumps(value) if isinstance(value, dict) else value)} |"
    yield ""


def _told(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
