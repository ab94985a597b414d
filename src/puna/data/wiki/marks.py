"""What the fast reader of wikitext leaves in a text while it resolves what is around: control characters, which no page
can hold, as the marks of `tidy` are, and signs that are sealed because they came out of something already resolved.
"""

from __future__ import annotations

import re


class UnsureError(Exception):
    """The page holds what only the exact mode reads."""


DEEPEST = 40  # levels of nesting that are resolved; the exact mode's parser does not go deeper either

VOID = "\x06"  # something without text stood here: what follows it does not begin a line
TERM = "\x07"  # behind the ; of a definition's term, until its : is met
SEALED = str.maketrans("|=<>&[]{}:*#;-", "\x08\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a")
OPENED = {chr(sealed): chr(sign) for sign, sealed in SEALED.items()}
SEALS = re.compile("[\x08\x0e-\x1a]")
SIGNS = re.compile(r"[|=<>&\[\]{}:]|^[-*#;]")


def opened(text: str) -> str:
    """The text with its sealed signs as they were."""
    return SEALS.sub(lambda sign: OPENED[sign[0]], text) if SEALS.search(text) else text
