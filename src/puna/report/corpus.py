"""The data's part of the report: what went in, what was dropped, the tokenizer, the mixture (section 2.1, Table 1)."""

from __future__ import annotations

from typing import Any

from puna.data.exclude import Exclusions
from puna.data.fates import FATES
from puna.report.facts import Facts, at, items, number, total
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
    size,
    table,
)
from puna.tokens.table_1 import paper_epochs

_LISTED = 40  # inputs of one source that are named one by one
_EXAMPLE_LENGTH = 48  # characters of the record that is shown for each rule
_EXAMPLES = 5  # records set aside that are shown for each source
_UNITS = ("documents", "bytes")
ALWAYS = ("duplicate", "overlap")  # rules that every run has


def went_in(facts: Facts) -> Html:
    """The inputs as the recipe names them, then for every source what each rule dropped."""
    return join(_inputs(facts), _funnel(facts))


def _inputs(facts: Facts) -> Html:
    rows: list[list[object]] = []
    for source, inputs in facts.per_source("inputs"):
        known = [one for one in inputs if isinstance(one, dict)] if isinstance(inputs, list) else []
        rows.append([source])
        rows += [[at(one, "declared") or "", _edition(one), size(number(one, "size"))] for one in known[:_LISTED]]
        if len(known) > _LISTED:
            rest = known[_LISTED:]
            rows.append([f"and {count(len(rest))} more", "", size(total(number(one, "size") for one in rest))])
    if not rows:
        return absent("the inputs with their versions", "records/inputs.json")
    return table(["input", "version", "size"], rows, words=2, kind="inputs")


def _edition(one: dict[str, Any]) -> str:
    """Dump and version, without what is said already."""
    dump, version, declared = (str(at(one, key) or "") for key in ("dump", "version", "declared"))
    if not dump or dump in declared or dump in version:
        return version
    return dump if version in dump else f"{dump}, {version}"


def _funnel(facts: Facts) -> Html:
    rows: list[list[object]] = []
    missing, set_aside, examples = [], [], []
    counted = dict(facts.per_source("extract"))
    for source in facts.sources:
        counts = counted.get(source)
        if counts is None:
            missing.append(absent(f"what the rules kept of {source}", f"records/extract.{source}.json"))
            continue
        kept = _allowed(at(counts, "kept"), facts.hidden)
        dropped = [(rule, _allowed(value, facts.hidden)) for rule, value in items(counts, "dropped")]
        dropped.sort(key=lambda pair: (-(number(pair[1], "bytes") or 0), pair[0]))
        read = {unit: total(number(part, unit) for part in (kept, *(rule for _, rule in dropped))) for unit in _UNITS}
        rows += [[source], _share("read", read, read)]
        rows += [_share(join(f"−\u00a0{rule}", _example(value)), value, read) for rule, value in dropped]
        rows.append(_share(element("strong", "kept"), kept, read))
        examples.append(_examples(source, [*dropped, ("kept", kept)]))
        set_aside.append(_set_aside(at(counts, "set_aside"), source))
    if not rows:
        return join(*missing)
    said = note("Kept bytes are of clean text as UTF-8; a dropped record counts with the bytes that its rule saw.")
    return join(table(["rule", *_UNITS, "of bytes", ""], rows, kind="shares"), said, *set_aside, *examples, *missing)


def _allowed(rule: Any, hidden: Exclusions | None) -> Any:
    """A rule without the examples that the list of exclusions names; without any when the list cannot be read."""
    found = at(rule, "examples")
    if not isinstance(found, list):
        return rule
    sound = [one for one in found if isinstance(one, dict)]
    return rule | {"examples": hidden.without(sound) if hidden else []}


def _examples(source: str, rules: list[tuple[str, Any]]) -> Html:
    """Under a line to open: a fair sample of what each rule dropped and of what was kept, with where it was."""
    parts: list[Html] = []
    for rule, value in rules:
        found = at(value, "examples")
        shown = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        lines = [element("li", element("code", _place(one)), " ", str(at(one, "text") or "")) for one in shown]
        what = rule if rule == "kept" else f"dropped by {rule}"
        parts += [element("p", element("strong", what)), element("ul", *lines, class_="note")] if lines else []
    return element("details", element("summary", f"Examples of {source}, by rule"), *parts) if parts else Html("")


def _place(example: dict[str, Any]) -> str:
    return " ".join(dict.fromkeys(str(at(example, name)) for name in ("file", "key") if at(example, name)))


def _example(value: Any) -> Html:
    """One of the records that a rule dropped, by its key."""
    examples = at(value, "examples")
    first = examples[0] if isinstance(examples, list) and examples else None
    named = " ".join(f"{at(first, 'key') or ''} {at(first, 'text') or ''}".split())
    shortened = named if len(named) <= _EXAMPLE_LENGTH else f"{named[:_EXAMPLE_LENGTH].rstrip()}…"
    return element("span", "such as ", shortened, class_="note") if named else Html("")


def _share(name: object, value: Any, whole: Any) -> list[object]:
    """A row: documents, bytes, and the bytes' share of the whole in figures and as a bar."""
    part, all_bytes = number(value, "bytes"), number(whole, "bytes")
    share = _part(part, all_bytes)
    return [name, count(number(value, "documents")), size(part), percent(share), bar(share)]


def _set_aside(value: Any, source: str) -> Html:
    bad = number(value, "count")
    if not bad:
        return Html("")
    examples = at(value, "examples")
    shown = [one for one in examples if isinstance(one, dict)] if isinstance(examples, list) else []
    lines = [
        element("li", element("code", at(one, "file")), " ", element("code", at(one, "key")), ": ", at(one, "reason"))
        for one in shown[:_EXAMPLES]
    ]
    said = note(f"{count(bad)} unreadable records of {source} were set aside", ", such as:" if lines else ".")
    return join(said, element("ul", *lines, class_="note") if lines else "")


def split(facts: Facts) -> Html:
    """What the global steps took out, and what was held out, by source."""
    rows: list[list[object]] = []
    for source, value in facts.per_source("documents"):
        gone = {name: at(value, "dropped", name) for name in FATES}
        shown = [name for name in FATES if name in ALWAYS or number(gone[name], "documents")]
        parts = {
            **{f"−\u00a0{FATES[name]}": gone[name] for name in shown},
            "held out": at(value, "heldout"),
            element("strong", "training"): at(value, "training"),
        }
        whole = {unit: total(number(part, unit) for part in parts.values()) for unit in _UNITS}
        rows += [[source], *(_share(name, part, whole) for name, part in parts.items())]
    if rows:
        return join(table(["", *_UNITS, "of bytes", ""], rows, kind="shares"), note(_rule(facts)))
    missing = absent("held-out and training text", "records/documents.SOURCE.json")
    repeats = [
        [source, count(number(value, "documents")), size(number(value, "bytes"))]
        for source, value in facts.per_source("duplicates")
    ]
    return join(table(["exact repeats", *_UNITS], repeats), missing) if repeats else missing


def _rule(facts: Facts) -> str:
    overlap, grams = (number(facts.recipe, "heldout", key) for key in ("max_overlap", "ngram"))
    much = "too much" if overlap is None or grams is None else f"more than {100 * overlap:g} % of its {grams:g}-grams"
    return (
        "Of exact repeats one stays. Text is held out in whole groups (a Wikipedia page, a package); a training "
        f"document that shares {much} with held-out text is dropped."
    )


def tokenizer(facts: Facts) -> Html:
    """Pieces, the sample they were learnt from, and how many bytes a token holds in each source."""
    counts = facts.counts("tokenizer")
    if counts is None:
        return absent("the tokenizer", "records/tokenizer.json")
    said = paragraph(
        f"Byte-pair encoding with {count(number(counts, 'pieces'))} pieces, learnt from ",
        f"{count(number(counts, 'sample_documents'))} documents ({size(number(counts, 'sample_bytes'))}). ",
        "Numbers are split into digits, and characters without a piece are spelt in bytes.",
    )
    found = _tokens(facts)
    if not found:
        return join(said, absent("tokens by source", "records/tokens.SOURCE.json"))
    names = ("tokens", "documents", "bytes")
    sums = {name: total(number(value, name) for _, value in found) for name in names}
    rows = [_packed(source, value) for source, value in found]
    if len(found) > 1:
        rows.append(_packed("all", sums))
    return join(said, table(["source", "documents", "bytes", "tokens", "bytes per token"], rows))


def _packed(source: str, value: Any) -> list[object]:
    tokens, weight = number(value, "tokens"), number(value, "bytes")
    return [source, count(number(value, "documents")), size(weight), amount(tokens), fixed(_part(weight, tokens), 2)]


def mixture(facts: Facts) -> Html:
    """Shares asked for and read, epochs beside the paper's, and what a cap or a source without text changed."""
    rations, missing = items(facts.mixture, "sources"), items(facts.mixture, "missing")
    if not rations:
        return absent("the mixture", "tokens/mixture.json")
    context = number(facts.mixture, "context")
    shares = [*((name, number(ration, "share")) for name, ration in rations), *((n, number(s)) for n, s in missing)]
    whole, windows = total(share for _, share in shares), total(number(ration, "windows") for _, ration in rations)
    rows: list[list[object]] = []
    for name, share in facts.by_source(dict(shares)):
        ration = at(facts.mixture, "sources", name)
        read = number(ration, "windows")
        rows.append(
            [
                name,
                percent(_part(share, whole)),
                percent(_part(read, windows)),
                amount(None if read is None or context is None else read * context),
                _epochs(ration),
                fixed(paper_epochs(name), 2),
            ]
        )
    capped = any(number(ration, "max_epochs") is not None for _, ration in rations)
    epochs = "epochs (at most)" if capped else "epochs"
    head = ["source", "share asked", "share read", "tokens read", epochs, "in the paper"]
    said = note("The paper's epochs are those of its training on 1.4T tokens (Table 1). ", _worn(facts))
    return join(_planned(facts), table(head, rows), said)


def _worn(facts: Facts) -> str:
    """Which sources are read more often than the recipe thinks good."""
    often = number(facts.resolved, "data", "warn_epochs")
    epochs = ((name, number(ration, "epochs") or 0.0) for name, ration in items(facts.mixture, "sources"))
    worn = [name for name, times in epochs if often is not None and times > often]
    return f"Read more than {often:g} times, so that it teaches less and less: {', '.join(worn)}." if worn else ""


def _epochs(ration: Any) -> str:
    epochs, most = fixed(number(ration, "epochs"), 2), number(ration, "max_epochs")
    return epochs if most is None else f"{epochs} ({most:g})"


def _planned(facts: Facts) -> Html:
    """In words: how many tokens were asked for, how many are read, and why they differ."""
    plan = {key: number(facts.mixture, key) for key in ("asked", "windows", "steps", "batch_windows", "context")}
    context, capped = plan["context"] or 0, at(facts.mixture, "capped_by")
    said = [
        f"{amount((plan['windows'] or 0) * context, 'tokens')} in {count(plan['steps'], 'steps')} of "
        f"{count(plan['batch_windows'], 'windows')} of {count(context, 'tokens')}. "
    ]
    if capped:
        asked = amount((plan["asked"] or 0) * context, "tokens")
        said.append(f"The recipe asks for {asked}, but {capped} may not be read more often. ")
    gone = [name for name, _ in items(facts.mixture, "missing")]
    if gone:
        said.append(f"Without tokens: {', '.join(gone)}; the other shares grow in proportion. ")
    return paragraph(*said)


def _tokens(facts: Facts) -> list[tuple[str, Any]]:
    """Tokens, documents and bytes of each source."""
    return facts.per_source("tokens") or facts.by_source(at(facts.manifest, "sources"))


def _part(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def training_text(facts: Facts) -> dict[str, float | None]:
    """Documents and bytes of training text over all sources."""
    found = [at(value, "training") for _, value in facts.per_source("documents")]
    return {unit: total(number(part, unit) for part in found) for unit in _UNITS}
