"""The funnel of a source: from the records of its dumps to documents, rule by rule, with examples kept and dropped.

Reads the done-records of a run, and the lists of its recipe that say what is not to be shown. A figure that the run has
not got to yet is missing, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from puna import storage
from puna.data.exclude import Exclusions, entries
from puna.data.fates import FATES
from puna.errors import InputError
from puna.progress import size
from puna.records import read_records
from puna.report.facts import at, items, number
from puna.run import read_recipe
from puna.storage import Place

FORMAT = 1  # of the JSON
WIDE = 100  # characters of an example on the screen
MOST = 10  # languages that are named
QUALITY = ("lines", "near", "language", "buckets", "references", "contamination")


@dataclass(frozen=True)
class Funnel:
    """What became of a source's records. Bytes are of clean text where it exists, else of what a rule saw."""

    source: str
    records: int
    set_aside: Mapping[str, Any]
    rules: Mapping[str, Mapping[str, Any]]
    """By rule, the one that took the most bytes first: documents, bytes, examples."""
    kept: Mapping[str, Any]
    """What is left after these: documents, bytes, examples."""
    later: Mapping[str, Mapping[str, int]]
    """What repeats, overlap and the list of exclusions took; empty before the documents are written."""
    left: Mapping[str, Mapping[str, int]]
    """heldout and training, in the end."""
    quality: Mapping[str, Any] = field(default_factory=dict)
    """What the steps that filter counted, by step without its source; `reference` is that of all sources."""

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "records": self.records,
            "set_aside": dict(self.set_aside),
            "dropped": {rule: dict(found) for rule, found in self.rules.items()},
            "kept": dict(self.kept),
            "later": dict(self.later),
            "left": dict(self.left),
            "quality": dict(self.quality),
        }

    def as_text(self) -> str:
        lines = [f"{self.source}: {self.records:,} records", ""]
        lines += [_line("set aside, unreadable", self.set_aside["count"], self.set_aside["bytes"])]
        lines += [_line(rule, found["documents"], found["bytes"]) for rule, found in self.rules.items()]
        lines += [_line("kept of them", self.kept["documents"], self.kept["bytes"], sign="")]
        if cut := at(self.quality, "lines", "gone"):
            documents, weight = (int(number(cut, unit) or 0) for unit in ("documents", "bytes"))
            lines += [_line("repeated lines, cut from", documents, weight)]
        lines += [_line(FATES[name], part["documents"], part["bytes"]) for name, part in self.later.items()]
        lines += [_line(name, part["documents"], part["bytes"], sign="") for name, part in self.left.items()]
        lines += _judged(self.quality)
        lines += _examples("set aside", [one | {"text": one["reason"]} for one in self.set_aside["examples"]])
        for rule, found in self.rules.items():
            lines += _examples(f"dropped by {rule!r}", found["examples"])
        return "\n".join(lines + _examples("kept", self.kept["examples"]))


def funnels(run: str, source: str | None = None) -> list[Funnel]:
    """The funnels of a run's sources, or of one. InputError when nothing is extracted yet, or there is no such source.

    Each is the source's `extract` and `documents` records, told together.
    """
    folder = storage.place(run)
    known = read_records(folder)
    found = [name.partition(".")[2] for name in known if name.startswith("extract.")]
    if not found:
        raise InputError("holds nothing that was extracted yet", where=run, mend="puna data RECIPE does it")
    if source is not None and source not in found:
        raise InputError(f"has no source {source!r}", where=run, mend=f"it has {', '.join(sorted(found))}")
    hidden = Exclusions(entries(read_recipe(folder).data.exclude))
    return [_funnel(folder, name, known, hidden) for name in sorted(found) if source in (None, name)]


def _funnel(folder: Place, source: str, known: Mapping[str, Mapping[str, Any]], hidden: Exclusions) -> Funnel:
    try:
        counts = known[f"extract.{source}"]["counts"]
        rules = sorted(counts["dropped"].items(), key=lambda item: (-item[1]["bytes"], item[0]))
        later, left = _ends(known, source)
        told = {rule: found | {"examples": hidden.without(found["examples"])} for rule, found in rules}
        kept = counts["kept"] | {"examples": hidden.without(counts["kept"].get("examples", []))}
        quality = _quality(known, source, hidden)
        return Funnel(source, counts["records"], counts["set_aside"], told, kept, later, left, quality)
    except (LookupError, TypeError, AttributeError):
        where = str(folder / "records" / f"extract.{source}.json")
        raise InputError("is damaged", where=where, mend="puna data RECIPE mends it") from None


def _ends(known: Mapping[str, Mapping[str, Any]], source: str) -> tuple[dict[str, Any], dict[str, Any]]:
    record = known.get(f"documents.{source}")
    extracted = known[f"extract.{source}"]
    # Documents of earlier values follow from another extraction.
    if record is None or record["inputs"].get(f"extract.{source}") != extracted["produced"]:
        return {}, {}
    counts = record["counts"]
    later = {name: counts["dropped"][name] for name in FATES if counts["dropped"].get(name, {}).get("documents")}
    return later, {"held out": counts["heldout"], "training": counts["training"]}


def _quality(known: Mapping[str, Mapping[str, Any]], source: str, hidden: Exclusions) -> dict[str, Any]:
    """What the steps that filter counted, where they follow from this extraction."""
    made = known[f"extract.{source}"]["produced"]
    found: dict[str, Any] = {}
    for step in QUALITY:
        record = known.get(f"{step}.{source}")
        if record is not None and record["inputs"].get(f"extract.{source}", made) == made:
            found[step] = _without(record["counts"], hidden)
    if later := known.get(f"documents.{source}"):
        found |= {"marked": later["counts"]["marked"]} if "marked" in later["counts"] else {}
    if "references" in found:
        found["reference"] = known.get("reference", {}).get("counts")
    return found


def _without(value: Any, hidden: Exclusions) -> Any:
    """Without examples where a list names any document: these cannot all be compared with it."""
    if not hidden.entries or not isinstance(value, dict):
        return value
    return {key: [] if key == "examples" else _without(part, hidden) for key, part in value.items()}


def _judged(quality: Mapping[str, Any]) -> list[str]:
    """What the rules of quality were decided on, in a few lines."""
    lines: list[str] = []
    if "lines" in quality:
        gone, read = (number(quality, *keys) for keys in (("lines", "gone", "lines"), ("lines", "lines")))
        emptied = number(quality, "lines", "gone", "emptied")
        lines.append(f"repeated lines: {_count(gone)} of {_count(read)}; {_count(emptied)} pages have none left")
    if "near" in quality:
        groups, pairs = (number(quality, "near", key) for key in ("groups", "candidates"))
        lines.append(f"near duplicates: {_count(groups)} groups, by {_count(pairs)} pairs that were measured")
    told = sorted(items(quality, "language", "languages"), key=_most)
    if told:
        lines.append("languages: " + ", ".join(f"{code or 'none told'} {_count(n)}" for code, n in told[:MOST]))
    for code, borders in items(quality, "buckets"):
        head, middle, *_ = [*(borders if isinstance(borders, list) else []), None, None]
        lines.append(f"perplexity of {code}: head up to {_count(head)}, middle up to {_count(middle)}")
    if "reference" in quality:
        lines.append(f"classifier of cited pages: {_classifier(quality['reference'])}")
    for name, found in items(quality, "contamination", "benchmarks"):
        asked, quoted = (number(found, key) for key in ("documents", "quoted"))
        lines.append(f"shared with {name}: {_count(asked)} documents, and {_count(quoted)} what it only quotes")
    if (marked := number(quality, "marked", "documents")) is not None:
        lines.append(f"kept, and marked as text of a benchmark: {_count(marked)} documents")
    shown = at(quality, "lines", "examples")
    frequent = [one for one in shown if isinstance(one, dict)] if isinstance(shown, list) else []
    lines += ["the most frequent lines that repeat:"] if frequent else []
    lines += [f"  {_count(number(one, 'count')):>11}  {str(at(one, 'text') or '')[:WIDE]}" for one in frequent]
    return ["", *lines] if lines else []


def _classifier(counts: Any) -> str:
    if at(counts, "off"):
        return f"off, {at(counts, 'off')}"
    precise, base = (number(counts, "test", key) for key in ("average_precision", "base"))
    if precise is None or base is None:
        return "not measured"
    return f"average precision {precise:.3f}, of guessing {base:.3f}, on hosts that it never saw"


def _most(pair: tuple[str, Any]) -> tuple[float, str]:
    """The largest first, then by name."""
    return -(number({"": pair[1]}, "") or 0.0), pair[0]


def _count(value: Any) -> str:
    found = number({"": value}, "")
    return "?" if found is None else f"{found:,.0f}"


def _line(name: str, documents: int, count: int, *, sign: str = "- ") -> str:
    return f"{sign + name:34}{documents:>12,}   {size(count):>10}"


def _examples(what: str, examples: Any) -> list[str]:
    """Each with where it was and how it begins, under what became of them."""
    lines = ["", what] if examples else []
    for example in examples:
        names = dict.fromkeys(str(example.get(key) or "") for key in ("file", "key", "url"))
        lines += [f"  {'  '.join(filter(None, names))}"]
        text = " ".join(str(example.get("text") or "").split())[:WIDE]
        lines += [f"      {text}"] if text else []
    return lines
