"""Where the run comes from: the resolved recipe, the machine and its versions, and digests to compare runs by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from puna.records import leaves
from puna.report.facts import Facts, at, items
from puna.report.markup import Html, absent, count, element, join, note, paragraph, table

_LISTED = 40  # inputs of one source and files of one step that are named one by one


def overtaken(facts: Facts) -> Html:
    """Where recipe.toml says something else than the training was done with, for it was changed since; else nothing."""
    values = at(facts.records.get("train"), "values")
    changed = [
        f"{key} is {new}, and was {old}"
        for table_name in ("model", "train")
        if isinstance(made := at(values, table_name), dict)
        for key, old, new in leaves(made, {k: v for k, v in items(facts.resolved, table_name) if k in made}, table_name)
        if old is not None and new is not None
    ]
    if not changed:
        return Html("")
    said = f"recipe.toml was changed after the training, and this page shows it as it is now: {'; '.join(changed)}."
    return paragraph(element("strong", said))


def recipe(facts: Facts) -> Html:
    """recipe.toml as it was resolved for this run."""
    if not facts.recipe_text:
        return absent("the resolved recipe", "recipe.toml")
    return element("pre", facts.recipe_text.strip("\n"), class_="file")


def machine(facts: Facts) -> Html:
    """What the machine decided, one column for a value that never changed, else one line a training segment."""
    if not facts.machine:
        return absent("the machine and its versions", "machine.json")
    segments = [dict(_flat(segment)) for segment in facts.machine]
    rows = []
    for key in dict.fromkeys(key for segment in segments for key in segment):
        values = [segment.get(key, "–") for segment in segments]
        if len(set(values)) == 1:
            rows.append([key, element("code", values[0])])
        else:
            told = (join(f"{index}: ", element("code", value)) for index, value in enumerate(values, start=1))
            rows.append([key, join(*told, between="; ")])
    said = f"{count(len(segments))} training segments; values that differ are numbered by segment."
    return join(table(["", "value"], rows, words=2, kind="values"), note(said) if len(segments) > 1 else "")


def digests(facts: Facts) -> Html:
    """Digests of the inputs, of what each step produced as a whole, and of the files that stay."""
    rows: list[list[object]] = []
    for source, known in facts.per_source("inputs"):
        there = [one for one in known if at(one, "digest")] if isinstance(known, list) else []
        rows += [[f"input of {source}"], *_lines([(at(one, "declared"), at(one, "digest")) for one in there])]
    of_tokens = [
        (name, at(facts.manifest, key))
        for name, key in (("tokens of all sources", "digest"), ("tokenizer", "tokenizer"))
    ]
    known = [(name, digest) for name, digest in of_tokens if digest]
    rows += [["tokens/manifest.json"], *_lines(known)] if known else []
    produced = [(step, at(record, "produced")) for step, record in facts.records.items() if at(record, "produced")]
    rows += [["steps: all that later ones read"], *_lines(produced, all_of_them=True)] if produced else []
    files: list[list[object]] = []
    for record in facts.records.values():
        kept = [(name, value) for name, value in items(record, "outputs") if not name.startswith("work/")]
        files += _lines([(name, at(value, "digest")) for name, value in kept])
    rows += [["files"], *files] if files else []
    if not rows:
        return absent("digests", "records/")
    return join(paragraph("Equal digests mean equal bytes."), table(["", "digest"], rows, words=2, kind="digests"))


def _lines(pairs: list[tuple[Any, Any]], *, all_of_them: bool = False) -> list[list[object]]:
    listed = pairs if all_of_them else pairs[:_LISTED]
    rest = len(pairs) - len(listed)
    lines: list[list[object]] = [[name, element("code", digest)] for name, digest in listed]
    return [*lines, [f"and {count(rest)} more", ""]] if rest else lines


def _flat(value: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, inner in value.items():
        name = f"{above}{key}"
        if isinstance(inner, dict):
            yield from _flat(inner, f"{name}.")
        elif isinstance(inner, list):
            yield name, ", ".join(str(one) for one in inner)
        else:
            yield name, str(inner)
