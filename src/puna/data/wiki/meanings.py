"""What the names of templates mean, as they are written, remembered (fast reader)."""

from __future__ import annotations

from puna.data.wiki import tidy
from puna.data.wiki.marks import VOID, UnsureError
from puna.data.wiki.templates import REMARKS, Arguments, Rule, normal, rule

MAX_TEMPLATES = 4096  # names of templates that are remembered


def _nothing(given: Arguments) -> str:
    return VOID


def _unknown(given: Arguments) -> str:
    return tidy.GAP


NOTHING: Rule = _nothing
UNKNOWN: Rule = _unknown
MEANINGS: dict[str, Rule] = {}


def remember(name: str) -> Rule:
    """What a template's name, as written, means."""
    written = name.replace(VOID, "")
    stripped = written.strip()
    if not stripped or "\n" in stripped or any(sign in written for sign in "[]{}<>\x01"):
        raise UnsureError
    common = normal(written)
    function, colon, _ = common.partition(":")
    known = rule(function) if colon else None
    known = known or rule(common) or (NOTHING if common in REMARKS else UNKNOWN)
    if len(MEANINGS) < MAX_TEMPLATES and len(name) < 64:
        MEANINGS[name] = known
    return known
