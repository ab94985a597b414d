"""Links and addresses of wikitext as what a reader sees of them (fast reader)."""

from __future__ import annotations

import re

from puna.data.entities import unescape
from puna.data.wiki import tidy
from puna.data.wiki.lines import IN_NO_LINE, LEFT
from puna.data.wiki.marks import DEEPEST, VOID, UnsureError
from puna.data.wiki.words import CATEGORIES, EDITION, FILES, NO_EDITIONS

LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
LOOSE_LINK = re.compile(r"\[\[((?:[^\[\]]|\[(?!\[)|\](?!\]))*)\]\]")
SCHEMES = r"(?:https?|ftps?|git|gopher|ircs?|mms|nntp|redis|sftp|ssh|svn|telnet|worldwind)://"
BARE_SCHEMES = r"(?:bitcoin|geo|magnet|mailto|news|sips?|sms|tel|urn|xmpp):"
BRACKETED = re.compile(rf"\[((?:{SCHEMES}|//|{BARE_SCHEMES})[^\s\[\]<>\"]+)(?: ([^\n\[\]]*))?\]")
_REST = rf"(?:[^\s\[\]<>\"'{VOID}]|'(?!'))"
ADDRESS = re.compile(rf"(?<!\w)(?<!\[)(?:{SCHEMES}{_REST}*|{BARE_SCHEMES}{_REST}+){VOID}?")
HEADED = re.compile(rf"{tidy.HEADING}\d(?:{SCHEMES}|{BARE_SCHEMES})")
NESTED = re.compile(
    rf"\[(?:{SCHEMES}|//|{BARE_SCHEMES})(?:[^\s\[\]]*\[|(?:[^\]\n]|\]\])*?\[(?:{SCHEMES}|//|{BARE_SCHEMES}))"
)
ADDRESSED = re.compile(rf"\[(?:{SCHEMES}|//|{BARE_SCHEMES})(?:[^\]\n]|\]\])*?(?:{SCHEMES}|{BARE_SCHEMES})")
OPEN_ADDRESS = re.compile(rf"\[(?:{SCHEMES}|{BARE_SCHEMES})")
SCHEME_ENDS = ("://", *(f"{scheme}:" for scheme in BARE_SCHEMES[3:-2].split("|")))
NO_TITLE = re.compile(r"[\n<>\[\]{}\x16]")
FARTHEST = 300  # characters before an address in which what may hold it is looked for
INTERRUPTION = re.compile(r"[\s\[\]<>\"|]")
TAG = re.compile(r"<[^<>]*>")


def addresses(text: str) -> str:
    """Bare addresses as gaps, and those in brackets as what is shown for them."""
    if NESTED.search(text):
        raise UnsureError
    text = BRACKETED.sub(_bracketed, text)
    if ADDRESSED.search(text):
        raise UnsureError
    return ADDRESS.sub(_address, text)


def links(text: str) -> str:
    if "[[[" in text:
        raise UnsureError
    for _ in range(DEEPEST):
        text, count = LINK.subn(_link, text)
        if "[" not in text:
            return text
        text, more = BRACKETED.subn(_bracketed, text)
        if "[[" not in text:
            break
        if not count and not more:
            text, count = LOOSE_LINK.subn(_link, text) if "[[" in text else (text, 0)
            if not count:
                break
    if "[[" in text or "]]" in text:
        raise UnsureError
    return text


def in_address(found: re.Match[str]) -> bool:
    """Whether a template may be part of an address, or stand right before one."""
    text, start = found.string, found.start()
    if text.startswith("http", found.end()):
        return True
    scheme = text.rfind("://", max(0, start - FARTHEST), start) if start and text[start - 1] not in " (\n" else -1
    return scheme >= 0 and not INTERRUPTION.search(text, scheme, start)


def _link(found: re.Match[str]) -> str:
    title, bar, shown = found[1].partition("|")
    if NO_TITLE.search(title) or not title.strip(f" {VOID}") or _in_title(found):
        raise UnsureError
    if ":" in title:
        prefix = title.lstrip().partition(":")[0]
        if "&" in prefix and ";" in prefix:
            raise UnsureError
        word = prefix.strip().lower()
        if word and (word in FILES or word in CATEGORIES or (EDITION.fullmatch(prefix) and word not in NO_EDITIONS)):
            return VOID
        if title.lstrip().startswith("//") or "://" in title:
            raise UnsureError
    if bar:
        shown = shown.strip("\n")
        if "|" in shown or "=" in shown:
            shown = shown.replace("|", "\x08").replace("=", "\x0e")
        if "\n" in shown or (("<" in shown or ">" in shown) and _breaks(shown)):
            raise UnsureError
        if "&" in shown and not unescape(shown).strip():
            raise UnsureError
        if shown.strip() and (VOID not in shown or shown.replace(VOID, "").strip()):
            return shown
    title = title.strip()
    if "&" in title and (written := unescape(title)) != written.strip():
        raise UnsureError
    title = title.lstrip(":")
    return title.replace("=", "\x0e") if "=" in title else title


def _breaks(shown: str) -> bool:
    """Whether nothing is shown but tags, or something that ends a line or a tag."""
    if shown.count("<") != shown.count(">") or any(name.lower() in IN_NO_LINE for name in LEFT.findall(shown)):
        return True
    return not TAG.sub("", shown).strip(f" {VOID}")


def _in_brackets(found: re.Match[str]) -> bool:
    """Whether what is shown for another address may hold this one."""
    text, start = found.string, found.start()
    begin = text.rfind("[", max(0, start - FARTHEST), start)
    return begin >= 0 and text.find("]", begin, start) < 0


def _in_title(found: re.Match[str]) -> bool:
    """Whether an address or a link may be part of a link's title."""
    text, start = found.string, found.start()
    begin = text.rfind("[[", max(0, start - FARTHEST), start)
    return begin >= 0 and text.find("|", begin, start) < 0 and text.find("]]", begin, start) < 0


def _bracketed(found: re.Match[str]) -> str:
    shown = found[2]
    if "''" in found[1] or in_address(found) or _in_brackets(found) or (shown and "<" in shown and "://" in shown):
        raise UnsureError
    if shown is None:
        return tidy.GAP
    if "|" in shown or "=" in shown or ":" in shown:
        shown = shown.replace("|", "\x08").replace("=", "\x0e").replace(":", "\x16")
    return shown


def _address(found: re.Match[str]) -> str:
    """A gap, and the punctuation behind an address."""
    address = found[0]
    if address.endswith((VOID, "//")) or "//&" in address or _in_title(found):
        raise UnsureError
    sound = address.rstrip(",;\\.:!?" if "(" in address else ",;\\.:!?)")
    return tidy.GAP + address[len(sound) :]
