"""The header of a card: YAML that hubs read, written by hand, so that nothing that a name holds can end it early."""

from __future__ import annotations

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
