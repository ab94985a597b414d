"""The report's view of quality: repeated lines, near duplicates, languages, perplexity, the classifier of cited pages,
benchmarks (section 2.1, CommonCrawl).

What each rule took stands with the repeats; here stands what it was decided on, and how far that can be relied on.
Examples of lines and of benchmarks' text cannot all be compared with `data.exclude`, so they are shown only where that
names nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from puna.report import markup
from puna.report.facts import Facts, at, items, number, total
from puna.report.markup import Html, bar, count, element, fixed, join, note, paragraph, percent, size, table

_LISTED = 10  # languages of one source that are named one by one
_EXAMPLES = 5  # of each kind
_TENTHS = 10


def judged(facts: Facts) -> Html:
    """What text was filtered by, and the figures of the models that filtered it."""
    told = (_lines, _near, _languages, _perplexity, _classifier, _benchmarks)
    parts = [part for part in (tell(facts) for tell in told) if part]
    asked = list(_asked(facts.resolved))
    missing = [
        markup.absent(what, f"records/{step}.json")
        for what, step, source in asked
        if f"extract.{source}" in facts.records and facts.counts(step) is None
    ]
    if parts or missing:
        return join(*parts, *dict.fromkeys(missing))
    if asked or not facts.resolved:
        return markup.absent("what text is filtered by", "records/lines.SOURCE.json")
    return paragraph(
        "The recipe asks for no filter beyond the rules of each source: no repeated lines, near duplicates, language, ",
        "perplexity, classifier of cited pages, or benchmarks.",
    )


def _asked(recipe: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What the recipe asks for: in words, the step whose record tells it, and the source that it is asked of."""
    for name, source in items(recipe, "sources"):
        if at(source, "paragraphs") not in (None, "keep") or number(source, "spans"):
            yield f"repeated lines of {name}", f"lines.{name}", name
        if at(source, "near") == "minhash" or number(source, "max_containment") is not None:
            yield f"near duplicates of {name}", f"near.{name}", name
        if at(source, "min_language_score") is not None and at(source, "languages"):
            yield f"languages of {name}", f"language.{name}", name
        if at(source, "perplexity_percentiles"):
            yield f"perplexities of {name}", f"buckets.{name}", name
        if number(source, "min_reference_score") is not None:
            yield "the classifier of cited pages", "reference", name
        if at(recipe, "decontaminate", "benchmarks"):
            yield f"what {name} shares with benchmarks", f"contamination.{name}", name


def _lines(facts: Facts) -> Html:
    """How much of each source were lines that repeat, and the most frequent of them."""
    rows: list[list[object]] = []
    examples: list[Html] = []
    for source, value in facts.per_source("lines"):
        gone, read = number(value, "gone", "lines"), number(value, "lines")
        share = _part(gone, read)
        weight, emptied = size(number(value, "gone", "bytes")), count(number(value, "gone", "emptied"))
        rows.append([source, count(read), count(gone), weight, emptied, percent(share), bar(share)])
        shown = [(count(number(one, "count")), str(at(one, "text") or "")) for one in _shown(facts, value)]
        items_ = [element("li", f"{times}\u00a0times: ", element("code", text)) for times, text in shown]
        examples.append(_folded(f"The most frequent lines of {source}, in their normal form", items_))
    if not rows:
        return Html("")
    head = ["repeated lines", "lines read", "gone", "bytes", "emptied pages", "of lines", ""]
    said = note("Lines are counted over all documents of a source. An emptied page is one of which no line stays.")
    return join(table(head, rows, kind="shares costs"), said, *examples, _hidden(facts))


def _near(facts: Facts) -> Html:
    rows: list[list[object]] = []
    examples: list[Html] = []
    for source, value in facts.per_source("near"):
        gone = at(value, "gone")
        figures = [number(value, "documents"), number(value, "candidates"), number(value, "groups")]
        rows.append([source, *map(count, figures), count(number(gone, "documents")), size(number(gone, "bytes"))])
        pairs = [(at(one, "gone"), at(one, "kept"), number(one, "shared")) for one in _table(value, "examples")]
        shown = [
            element("li", f"{stays} stays for {out}, which shares {percent(part)} with one of its group")
            for out, stays, part in pairs
        ]
        examples.append(_folded(f"Near duplicates of {source}, by id", shown))
    if not rows:
        return Html("")
    head = ["near duplicates", "documents", "pairs measured", "groups", "gone", "bytes"]
    return join(table(head, rows), *examples)


def _languages(facts: Facts) -> Html:
    rows: list[list[object]] = []
    for source, value in facts.per_source("language"):
        found = [(code, number(value, "languages", code)) for code, _ in items(value, "languages")]
        found.sort(key=lambda pair: (-(pair[1] or 0), pair[0]))
        whole, rest = total(times for _, times in found), found[_LISTED:]
        named = found[:_LISTED]
        if rest:
            named.append((f"{count(len(rest))} others", total(times for _, times in rest)))
        shares = [(code, times, _part(times, whole)) for code, times in named]
        rows += [[source]] if shares else []
        rows += [[code or "none told", count(n), percent(share), bar(share)] for code, n, share in shares]
    return table(["language", "documents", "of documents", ""], rows, kind="shares") if rows else Html("")


def _perplexity(facts: Facts) -> Html:
    """Where head, middle and tail part, beside what the model has on text of its own kind."""
    rows: list[list[object]] = []
    for source, value in facts.per_source("buckets"):
        rows.append([source])
        for code, borders in items(value):
            head, middle, *_ = [*_numbers(borders), None, None]
            own = number(facts.counts("lm"), "trained", code, "heldout_perplexity")
            rows.append([code, *(fixed(figure, 1) for figure in (head, middle, own))])
    if not rows:
        return Html("")
    head_of = ["perplexity", "head up to", "middle up to", "held-out articles"]
    said = note(
        "Percentiles of the pages of a language; what lies above the middle is the tail. The last column is the ",
        "median of Wikipedia articles that the model did not learn from; empty for a model that was brought along.",
    )
    return join(table(head_of, rows), said)


def _classifier(facts: Facts) -> Html:
    """What the classifier learnt from, and its figures on hosts that it never saw."""
    counts = facts.counts("reference")
    if counts is None:
        return Html("")
    if at(counts, "off"):
        return paragraph("The classifier of cited pages is off, and drops nothing: ", str(at(counts, "off")), ".")
    test, brought = at(counts, "test"), at(counts, "brought")
    origin = f"{brought}, trained elsewhere, " if brought else ""
    positives, negatives = count(number(counts, "positives"), "cited pages"), count(number(counts, "negatives"))
    said = paragraph(
        f"The classifier of cited pages, {origin}learnt from {positives} and {negatives} others. On ",
        f"{count(number(test, 'pages'), 'pages')} of {count(number(test, 'hosts'), 'hosts')} that it never saw its ",
        f"average precision is {fixed(number(test, 'average_precision'), 3)}; guessing has ",
        f"{fixed(number(test, 'base'), 3)}. Its Brier score is {fixed(number(test, 'brier'), 3)}.",
    )
    return join(said, _thresholds(facts, test), _reliability(test))


def _thresholds(facts: Facts, test: Any) -> Html:
    """Precision, recall and share of pages kept at every tenth, and at what the recipe asks."""
    columns = [_numbers(at(test, "thresholds", key)) for key in ("threshold", "precision", "recall", "kept")]
    asked = {number(value, "min_reference_score") for _, value in items(facts.resolved, "sources")} - {None}
    rows: list[list[object]] = []
    for threshold, *figures in zip(*columns, strict=False):
        if threshold is None or (
            threshold not in asked and abs(threshold * _TENTHS - round(threshold * _TENTHS)) > 1e-9
        ):
            continue
        said = fixed(threshold, 2)
        rows.append([element("strong", said) if threshold in asked else said, *map(percent, figures)])
    head = ["score at least", "precision", "recall", "kept"]
    mixed = note("Of the labelled pages, among which cited ones are far more frequent than on the web.")
    return join(table(head, rows), mixed) if rows else Html("")


def _reliability(test: Any) -> Html:
    """Whether a score is the chance that it claims to be: by tenths of the scores, the part that is cited."""
    rows: list[list[object]] = []
    for one in _table(test, "reliability"):
        cited = number(one, "cited")
        if number(one, "pages"):
            rows.append([fixed(number(one, "score"), 3), count(number(one, "pages")), percent(cited), bar(cited)])
    said = note("By tenths of the scores: a score is right where as many pages are cited as it says.")
    return join(table(["mean score", "pages", "cited", ""], rows, kind="shares"), said) if rows else Html("")


def _benchmarks(facts: Facts) -> Html:
    """By benchmark: its items, and the documents of all sources that share n-grams with it."""
    found = facts.per_source("contamination")
    known = dict(items(facts.counts("benchmarks"), "benchmarks"))
    names = dict.fromkeys([*known, *(name for _, value in found for name, _ in items(value, "benchmarks"))])
    rows: list[list[object]] = []
    for name in names:
        shared = [(source, at(value, "benchmarks", name)) for source, value in found]
        figures = [number(known.get(name), key) for key in ("items", "without")]
        figures += [total(number(value, key) for _, value in shared) for key in ("documents", "quoted")]
        figures.append(number(facts.counts("common"), "items", name, "items"))
        rows.append([name, *map(count, figures), _by_source(shared)])
    if not rows:
        return Html("")
    marked = [(source, number(value, "marked", "documents")) for source, value in facts.per_source("documents")]
    stay = [f"{count(times)} of {source}" for source, times in marked if times]
    head = ["benchmark", "items", "too short", "documents", "only quoted", "common", "by source"]
    said = note(
        "Documents that share an n-gram of what its authors wrote; those that share only what it quotes, such as a ",
        "passage of Wikipedia; and items of which all that was found is too common to count. ",
        f"Marked, and kept: {', '.join(stay)}." if stay else "",
    )
    return join(table(head, rows), said, *_matches(facts, found), _hidden(facts))


def _by_source(shared: list[tuple[str, Any]]) -> str:
    return ", ".join(f"{source} {count(n)}" for source, value in shared if (n := number(value, "documents")))


def _matches(facts: Facts, found: list[tuple[str, Any]]) -> Iterator[Html]:
    for source, value in found:
        shown = [(name, one) for name, each in items(value, "benchmarks") for one in _shown(facts, each)]
        lines = [
            element("li", name, " in ", element("code", at(one, "id")), " ", str(at(one, "text") or ""))
            for name, one in shown
        ]
        yield _folded(f"Text of benchmarks in {source}", lines)


def _shown(facts: Facts, value: Any) -> list[dict[str, Any]]:
    """Examples that no list can ask to hide."""
    return _table(value, "examples")[:_EXAMPLES] if facts.hidden and not facts.hidden.entries else []


def _hidden(facts: Facts) -> Html:
    hides = facts.hidden is None or facts.hidden.entries
    return note("No example is shown, since none can be compared with data.exclude.") if hides else Html("")


def _folded(title: str, lines: list[Html]) -> Html:
    """A list under a line to open; nothing where it is empty."""
    opened = element("ul", *lines, class_="note")
    return element("details", element("summary", title), opened) if lines else Html("")


def _table(value: Any, key: str) -> list[dict[str, Any]]:
    found = at(value, key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _numbers(value: Any) -> list[float | None]:
    return [number({"": one}, "") for one in value] if isinstance(value, list) else []


def _part(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
