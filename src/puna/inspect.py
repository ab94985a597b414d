"""The funnel of a source: from the records of its dumps to documents, rule by rule, with examples kept and dropped.

Reads the done-records of a run, and the lists of its recipe that say what is not to be shown. A figure that the run has
not got to yet is missing, never zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from puna import storage
from puna.data.exclude import Exclusions, entries
from puna.data.fates import FATES
from puna.errors import InputError
from puna.progress import size
from puna.records import read_records
from puna.run import read_recipe
from puna.storage import Place

FORMAT = 1  # of the JSON
WIDE = 100  # characters of an example on the screen


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

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "records": self.records,
            "set_aside": dict(self.set_aside),
            "dropped": {rule: dict(found) for rule, found in self.rules.items()},
            "kept": dict(self.kept),
            "later": dict(self.later),
            "left": dict(self.left),
        }

    def as_text(self) -> str:
        lines = [f"{self.source}: {self.records:,} records", ""]
        lines += [_line("set aside, unreadable", self.set_aside["count"], self.set_aside["bytes"])]
        lines += [_line(rule, found["documents"], found["bytes"]) for rule, found in self.rules.items()]
        lines += [_line("kept of them", self.kept["documents"], self.kept["bytes"], sign="")]
        lines += [_line(FATES[name], part["documents"], part["bytes"]) for name, part in self.later.items()]
        lines += [_line(name, part["documents"], part["bytes"], sign="") for name, part in self.left.items()]
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
        return Funnel(source, counts["records"], counts["set_aside"], told, kept, later, left)
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
