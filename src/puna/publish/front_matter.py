"""Pieces of cards: YAML of their header, which hubs read, and cells of their tables, both written by hand, so that
nothing that a name holds can end one early."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any


def quoted(value: str) -> str:
    """A string of YAML in double quotes, whatever stands in it."""
    plain = (c if c.isprintable() and c not in '"\\' else f"\\U{ord(c):08x}" for c in value)
    return f'"{"".join(plain)}"'


def listed(key: str, values: Sequence[str]) -> Iterator[str]:
    """A key with a list; nothing of an empty one."""
    if values:
        yield f"{key}:"
        yield from (f"- {quoted(value)}" for value in values)


def cell(value: Any) -> str:
    """One cell of a table, in which nothing ends the cell, the line or the table."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def most(counted: Counter[str], limit: int, without: str) -> str:
    """The most frequent names, and how many documents have each. without: what stands for no name."""
    named = [f"{cell(name) or without} ({times:,})" for name, times in counted.most_common(limit)]
    return ", ".join([*named, *(["..."] if len(counted) > limit else [])])
