"""Character references of HTML, in text that nobody has checked (dumps of section 2.1)."""

from __future__ import annotations

import html
import re

PADDED = re.compile(r"&#0+(?=[0-9])")
BEYOND = re.compile(r"&#[0-9]{8,};?")  # no character has a number as high


def unescape(text: str) -> str:
    """`html.unescape`, which raises ValueError for a number of more digits than Python reads (4,300 since 3.11). Such a
    number is what any other beyond the last character is: U+FFFD."""
    try:
        return html.unescape(text)
    except ValueError:
        return html.unescape(BEYOND.sub("\ufffd", PADDED.sub("&#", text)))
