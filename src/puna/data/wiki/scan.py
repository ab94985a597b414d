"""Wikitext to readable text, fast: the twin of `text.clean`, by searches that run from one end of a page to the other.

What encloses is resolved from the inside out: comments, references and verbatim tags in one walk over the page's tags;
then templates that hold no other, tables, links and tags, again while something changes. Each sweep is linear in the
page, and sweeps are at most DEEPEST, so time is bounded by their product. What is resolved leaves control characters
behind, which no page can hold: the marks of `tidy`, and those below.

`clean` gives what the exact mode gives, or None where it is not sure to: markup that is left open, arguments of
templates, tags that cross. Such a page is read by the exact mode.
"""

from __future__ import annotations

import html
import re

from puna.data.wiki import tidy
from puna.data.wiki.lines import (
    ENTITY,
    LEFT,
    TERM,
    VOIDS,
    UnsureError,
    entity,
    lines,
    lines_behind,
    terms,
    without_sections,
)
from puna.data.wiki.templates import REMARKS, Arguments, Rule, normal, rule, subscript, superscript
from puna.data.wiki.words import (
    BLOCKS,
    BROKEN,
    CATEGORIES,
    CODE,
    CONTROLS,
    EDITION,
    FILES,
    FORMULAS,
    GONE,
    HIDDEN,
    NO_EDITIONS,
    names,
)

DEEPEST = 40  # levels of nesting that are resolved; the exact mode's parser does not go deeper either
MAX_TEMPLATES = 4096  # names of templates that are remembered

VOID = "\x06"  # something without text stood here: what follows it does not begin a line
CONTROL_BYTES = bytes((*range(9), *range(11, 32), 127))
SEALED = str.maketrans("|=<>&[]{}:*#;-", "\x08\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a")
OPENED = {chr(sealed): chr(sign) for sign, sealed in SEALED.items()}
SEALS = re.compile("[\x08\x0e-\x1a]")
SIGNS = re.compile(r"[|=<>&\[\]{}]|^[-:*#;]")

VERBATIM = names(
    """nowiki|math|chem|ce|pre|source|syntaxhighlight|gallery|timeline|imagemap|score|hiero|graph|templatedata|inputbox
categorytree|section|ref"""
)
BEGIN = re.compile(r"<(!--|[a-zA-Z]+)")
REST = re.compile(r"(?:[\s/][^<>]*)?>")
TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
LOOSE = re.compile(r"\{\{((?:[^{}]|\{(?![{|])|\}(?!\}))*)\}\}")
TABLE = re.compile(r"(?m)^\s?\{\||^[ \t]*\|\}(?!\})")
LINK = re.compile(r"\[\[([^\[\]]*)\]\]")
LOOSE_LINK = re.compile(r"\[\[((?:[^\[\]]|\[(?!\[)|\](?!\]))*)\]\]")
SCHEMES = r"(?:https?|ftps?|git|gopher|ircs?|mms|nntp|redis|sftp|ssh|svn|telnet|worldwind)://"
BARE_SCHEMES = r"(?:bitcoin|geo|magnet|mailto|news|sips?|sms|tel|urn|xmpp):"
BRACKETED = re.compile(rf"\[((?:{SCHEMES}|//|{BARE_SCHEMES})[^\s\[\]<>\"]+)(?: ([^\n\[\]]*))?\]")
ADDRESS = re.compile(rf"(?<!\w)(?<!\[)(?:{SCHEMES}|{BARE_SCHEMES})(?:[^\s\[\]<>\"'{VOID}]|'(?!'))+{VOID}?")
OPEN_ADDRESS = re.compile(rf"\[(?:{SCHEMES}|{BARE_SCHEMES})")
SCHEME_ENDS = ("://", *(f"{scheme}:" for scheme in BARE_SCHEMES[3:-2].split("|")))
CLOSED = re.compile(r"<([a-zA-Z]+)(?:\s[^<>]*)?/>")
PAIR = re.compile(r"<([a-zA-Z][a-zA-Z0-9]*)(\s[^<>]*)?>([^<]*)</\1\s*>", re.IGNORECASE)
LONE = re.compile(r"<(?![a-zA-Z/!])")
TAG = re.compile(r"<[^<>]*>")
UNSURE = GONE | names("li|dt|dd|td|th|tr|wbr|meta|link|img") - {"references", "s", "del"}
INTERRUPTION = re.compile(r"[\s\[\]<>\"|]")
WORK = re.compile(r"[\[<&\n:]")


def clean(
    wikitext: str, *, language: str = "en", sections: frozenset[str] = frozenset(), keep_tables: bool = False
) -> str | None:
    """What `text.clean` gives for a page; None where the page needs the exact mode."""
    try:
        reader = _Scanner(language, keep_tables)
        text = reader.page(_without_controls(wikitext), sections)
    except UnsureError:
        return None
    return tidy.tidy(text, sections, reader.verbatim)


def _without_controls(text: str) -> str:
    data = text.encode("utf-8", "surrogatepass")
    return CONTROLS.sub("", text) if len(data.translate(None, CONTROL_BYTES)) < len(data) else text


class _Scanner:
    """Resolves the markup of one page; holds what must come out untouched."""

    def __init__(self, language: str, keep_tables: bool) -> None:
        self.language, self.keep_tables = language, keep_tables
        self.verbatim: list[str] = []

    def page(self, text: str, sections: frozenset[str] = frozenset()) -> str:
        text = self._without_verbatim(text)
        if "{{{" in text:
            raise UnsureError
        text = self._enclosed(text)
        text = self._inline(without_sections(lines(text), sections))
        if any(seal in text for seal in OPENED):
            text = SEALS.sub(lambda sign: OPENED[sign[0]], text)
        return text.replace(VOID, "")

    def _without_verbatim(self, text: str) -> str:
        """Comments and references are gone, code and formulas kept aside."""
        out: list[str] = []
        last = 0
        for found in BEGIN.finditer(text):
            start = found.start()
            if start < last:
                continue
            name = found[1]
            if name == "!--":
                end = text.find("-->", start + 4)
                if end < 0:
                    raise UnsureError
                out += (text[last:start], VOID)
                last = end + 3
                continue
            if name not in VERBATIM and (name := name.lower()) not in VERBATIM:
                continue
            rest = REST.match(text, found.end())
            if rest is None:
                raise UnsureError
            if rest[0].endswith("/>"):
                out += (text[last:start], VOID)
                last = rest.end()
                continue
            end, after = _closing(text, name, rest.end())
            out += (text[last:start], self._verbatim(name, rest[0], text[rest.end() : end]))
            last = after
        out.append(text[last:])
        return "".join(out)

    def _verbatim(self, name: str, attributes: str, inside: str) -> str:
        if name == "ref":
            if inside.count("{{") != inside.count("}}") or inside.count("[[") != inside.count("]]") or "<ref" in inside:
                raise UnsureError
            return VOID
        if name in GONE or (attributes != ">" and HIDDEN.search(attributes)):
            return VOID
        if name in FORMULAS:
            formula = " ".join(html.unescape(inside).split())
            return self._keep(f"${formula}$") if formula else VOID
        if name in CODE:
            code = re.sub(r"</?nowiki>", "", inside).strip("\n")
            return f"\n{self._keep(html.unescape(code))}\n" if code.strip() else VOID
        return self._keep(html.unescape(inside))

    def _keep(self, text: str) -> str:
        self.verbatim.append(text)
        return f"{tidy.KEPT}{len(self.verbatim) - 1}{tidy.KEPT}"

    def _enclosed(self, text: str) -> str:
        """Templates and tables are resolved from the inside out."""
        for _ in range(DEEPEST):
            if "{{" in text:
                text, count = TEMPLATE.subn(self._template, text)
                if count:
                    continue
            before = text
            if "{|" in text or "|}" in text:
                text = self._without_tables(text)
            if "{{" in text:
                text = LOOSE.sub(self._template, text)
            if text == before:
                break
        if "{{" in text or "}}" in text or "{|" in text or "|}" in text:
            raise UnsureError
        return text

    def _without_tables(self, text: str) -> str:
        """Tables in which nothing is open are dropped, outer ones with all in them."""
        if self.keep_tables:
            raise UnsureError
        out: list[str] = []
        last = depth = begin = 0
        for found in TABLE.finditer(text):
            if found[0].endswith("{|"):
                begin = begin if depth else found.end() - 2
                depth += 1
            elif depth:
                depth -= 1
                if depth == 0 and "{{" not in (inside := text[begin : found.end()]) and "}}" not in inside:
                    out += (text[last:begin], "\n")
                    last = found.end()
        return "".join([*out, text[last:]])

    def _template(self, found: re.Match[str]) -> str:
        content = found[1]
        name, bar, rest = content.partition("|")
        known = _MEANINGS.get(name)
        if known is None:
            known = _remember(name)
        if known is _NOTHING:
            return VOID
        if known is _UNKNOWN:
            return self._remark(content) if "date" in rest else tidy.GAP
        if _in_address(found):
            raise UnsureError
        if ":" not in name:
            return self._said(known, self._given(rest) if bar else Arguments([], {}, self.language))
        value = self._argument(name.partition(":")[2]).strip()
        return tidy.GAP if tidy.GAP in value else self._said(known, Arguments([value], {}, self.language))

    def _said(self, known: Rule, given: Arguments) -> str:
        text = known(given)
        return text.translate(SEALED) if SIGNS.search(text) else text

    def _given(self, rest: str) -> Arguments:
        given = Arguments([], {}, self.language)
        for part in self._links(rest).split("|") if "[" in rest else rest.split("|"):
            if "<" in part and (tags := CLOSED.sub("", VOIDS.sub("", part))).count("<") != 2 * tags.count("</"):
                raise UnsureError
            key, equals, value = part.partition("=")
            if not equals:
                given.positional.append(self._argument(part))
                continue
            if "<" in key or "//" in key or "\n=" in part:
                raise UnsureError
            key = key.replace(VOID, "").strip()
            given.named[key.lower()] = self._argument(value).strip()
            if key == str(len(given.positional) + 1):
                given.positional.append(given.named[key.lower()])
        return given

    def _argument(self, value: str) -> str:
        if WORK.search(value):
            value = self._inline(lines_behind(value))
        if VOID in value:
            value = value.replace(VOID, "")
        return SEALS.sub(lambda sign: OPENED[sign[0]], value) if SEALS.search(value) else value

    def _remark(self, content: str) -> str:
        """VOID for an editor's remark: all that it is given is a date and reasons."""
        rest = content.partition("|")[2]
        parts = (self._links(rest) if "[" in rest else rest).split("|")
        keys = [part.partition("=") for part in parts]
        dated = any(key.replace(VOID, "").strip().lower() == "date" for key, equals, _ in keys if equals)
        return VOID if dated and all(equals for _, equals, _ in keys) else tidy.GAP

    def _inline(self, text: str) -> str:
        """Links, addresses, tags and entities as what a reader sees of them."""
        addressed = any(scheme in text for scheme in SCHEME_ENDS)
        if addressed:
            text = ADDRESS.sub(_address, BRACKETED.sub(_bracketed, text))
        if "[" in text:
            text = self._links(text)
            if addressed and OPEN_ADDRESS.search(text):
                raise UnsureError
        if "<" in text:
            text = self._tags(text)
        if "<" in text:
            text = BROKEN.sub("", text)
        if "&" in text:
            text = ENTITY.sub(entity, text)
        return terms(text) if TERM in text else text

    def _links(self, text: str) -> str:
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

    def _tags(self, text: str) -> str:
        text = VOIDS.sub(tidy.BREAK, LONE.sub("\x0f", text))
        if "<" not in text:
            return text
        text = CLOSED.sub(VOID, text)
        for _ in range(DEEPEST):
            text, count = PAIR.subn(_pair, text)
            if not count:
                break
        if any(name.lower() in UNSURE for name in LEFT.findall(text)):
            raise UnsureError
        return text


def _nothing(given: Arguments) -> str:
    return VOID


def _unknown(given: Arguments) -> str:
    return tidy.GAP


_NOTHING: Rule = _nothing
_UNKNOWN: Rule = _unknown
_MEANINGS: dict[str, Rule] = {}


def _remember(name: str) -> Rule:
    """What a template's name, as written, means."""
    written = name.replace(VOID, "")
    stripped = written.strip()
    if not stripped or "\n" in stripped or any(sign in written for sign in "[]<>\x01"):
        raise UnsureError
    common = normal(written)
    function, colon, _ = common.partition(":")
    known = rule(function) if colon else None
    known = known or rule(common) or (_NOTHING if common in REMARKS else _UNKNOWN)
    if len(_MEANINGS) < MAX_TEMPLATES and len(name) < 64:
        _MEANINGS[name] = known
    return known


_CLOSINGS = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in VERBATIM}


def _closing(text: str, name: str, start: int) -> tuple[int, int]:
    """Where the end tag of `name` begins and ends."""
    found = _CLOSINGS[name].search(text, start)
    if found is None:
        raise UnsureError
    return found.span()


def _in_address(found: re.Match[str]) -> bool:
    """Whether a template may be part of an address, or stand right before one."""
    text, start = found.string, found.start()
    if text.startswith("http", found.end()):
        return True
    scheme = text.rfind("://", max(0, start - 300), start) if start and text[start - 1] not in " (\n" else -1
    return scheme >= 0 and not INTERRUPTION.search(text, scheme, start)


def _link(found: re.Match[str]) -> str:
    title, bar, shown = found[1].partition("|")
    if ":" in title:
        prefix = title.lstrip().partition(":")[0]
        word = prefix.strip().lower()
        if word and (word in FILES or word in CATEGORIES or (EDITION.fullmatch(prefix) and word not in NO_EDITIONS)):
            return VOID
        if title.lstrip().startswith("//") or "://" in title:
            raise UnsureError
    if "\n" in title or "<" in title or ">" in title:
        raise UnsureError
    if bar:
        shown = shown.strip("\n")
        if "|" in shown or "=" in shown:
            shown = shown.replace("|", "\x08").replace("=", "\x0e")
        if "\n" in shown or ("<" in shown and not TAG.sub("", shown).strip(f" {VOID}")):
            raise UnsureError
        if "&" in shown and not html.unescape(shown).strip():
            raise UnsureError
        if shown.strip() and shown != VOID:
            return shown
    title = title.strip().lstrip(":")
    return title.replace("=", "\x0e") if "=" in title else title


def _bracketed(found: re.Match[str]) -> str:
    shown = found[2]
    if _in_address(found) or (shown and "<" in shown and "://" in shown):
        raise UnsureError
    if shown is None:
        return tidy.GAP
    if "|" in shown or "=" in shown or ":" in shown:
        shown = shown.replace("|", "\x08").replace("=", "\x0e").replace(":", "\x16")
    return shown


def _address(found: re.Match[str]) -> str:
    """A gap, and the punctuation behind an address."""
    address = found[0]
    if address.endswith(VOID):
        raise UnsureError
    sound = address.rstrip(",;\\.:!?" if "(" in address else ",;\\.:!?)")
    return tidy.GAP + address[len(sound) :]


def _pair(found: re.Match[str]) -> str:
    name, attributes, inside = found[1].lower(), found[2], found[3]
    if name in GONE or (attributes and HIDDEN.search(attributes)):
        return VOID
    if name == "sup":
        return superscript(inside.strip())
    if name == "sub":
        return subscript(inside.strip())
    if name == "li":
        return f"\n{tidy.ITEM}{inside}\n"
    if name == "table":
        raise UnsureError
    if name == "poem":
        inside = inside.strip("\n").replace("\n", tidy.BREAK)
    return f"\n\n{inside}\n\n" if name in BLOCKS else inside
