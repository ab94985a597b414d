"""Takes a book out of the frame that Project Gutenberg put around it.

Three eras of frames are in circulation, in ASCII, ISO-8859-1 and UTF-8 (with a byte order mark or without):

    to 2001       a header whose small print ends in *END*THE SMALL PRINT!...*END*; at most one line behind the text
    2002 to 2004  *** START OF THE PROJECT GUTENBERG EBOOK ... ***, the small print behind *** END OF ... ***
    since         *** START OF THIS PROJECT GUTENBERG EBOOK ... ***, the full licence behind *** END OF ... ***

Between the marks stand lines that are no part of the book either: who typed it in at its beginning, "End of Project
Gutenberg's ..." at its end. A text without a frame is a user's own and is left as it is; one that names the project in
its first lines and has no end of a header is refused, since its licence cannot be told from its text.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

NAMED = 1_500  # characters of a file's beginning in which the project names itself
HEADER = 60_000  # characters in which a header must end; 20,000 is the longest seen
CREDITS = 8  # paragraphs behind a header that may be credits

START = re.compile(r"^[ \t]*\*{3} ?START OF TH(?:E|IS) PROJECT GUTENBERG[^*]{0,600}\*{3}[^\n]*\n", re.I | re.M)
END = re.compile(r"^[ \t]*\*{3} ?END OF TH(?:E|IS) PROJECT GUTENBERG", re.I | re.M)
SMALL_PRINT = re.compile(r"^\*{3,}[ ]?START\*\*[ ]?THE SMALL PRINT!", re.I | re.M)
SMALL_PRINT_ENDS = re.compile(r"^[ \t]*\*END\*? ?THE SMALL PRINT![^\n]*\*END\*[^\n]*\n", re.I | re.M)
LAST_LINE = re.compile(r"^[ \t]*\**(?:End|Ende|Fin|Fine|Fim)\b[^\n]{0,30}\bProje[ck]t Gutenberg[^\n]*", re.I | re.M)
CREDIT = re.compile(
    r"(?:\[?Note: )?Project Gutenberg also has|Images of the original pages|"
    r"(?:This |The )?(?:e-?text|e-?book|file|text|edition)\b[^.\n]{0,30}?\b(?:prepared|produced|scanned|typed|created|"
    r"transcribed|converted)\b|"
    r"(?:Produced|Prepared|Scanned|Transcribed|Typed|Digitized|Etext|E-text|HTML version|Updated editions?)[^\n]{0,40}?"
    r"\b(?:by|from)\b|Character set (?:encoding|for HTML)|\[?This file was (?:first|produced)",
    re.I,
)
LINK = re.compile(r"\s*(?:or\s*)?\(?(?:https?|ftp)://\S+\)?(?:\s*or\s*|\s+)?", re.I)
FIELD = re.compile(r"^(Title|Author|Language|Release Date|Posting Date)[ \t]*:[ \t]*(.+(?:\n[ \t]+\S.*)*)", re.I | re.M)
NUMBER = re.compile(r"\[(?:e-?text|e-?book)[ #]*(\d{1,7})\]", re.I)
OLD_TITLE = re.compile(
    r"^\W*(?:This is )?(?:The )?Project Gutenberg(?:'s|\u2019s)? ?(?:e-?text|e-?book)?(?: of|,)? "
    r"([^\n*]{2,200}?)(?:,? by ([^\n*]{2,100}?))?\W*$",
    re.I | re.M,
)
COPYRIGHTED = re.compile(r"\bCOPYRIGHTED\s+Project\s+Gutenberg", re.I)
CHARSET = re.compile(rb"^Character set(?: encoding)?:[ \t]*([\w.:() -]{2,40}?)[ \t]*\r*$", re.I | re.M)
NATIONAL = re.compile(r"(iso|windows|cp|koi8|mac|big5|gb|shift|euc)[\w -]*", re.I)
LANGUAGES = {
    "english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "dutch": "nl", "polish": "pl",
    "portuguese": "pt", "romanian": "ro", "russian": "ru", "slovenian": "sl", "serbian": "sr", "swedish": "sv",
    "ukrainian": "uk", "bulgarian": "bg", "catalan": "ca", "czech": "cs", "danish": "da", "croatian": "hr",
    "hungarian": "hu", "finnish": "fi", "norwegian": "no", "latin": "la", "greek": "el", "esperanto": "eo",
    "chinese": "zh", "japanese": "ja", "tagalog": "tl", "welsh": "cy", "icelandic": "is", "irish": "ga",
}  # fmt: skip


class FrameError(ValueError):
    """A text that names Project Gutenberg and whose header has no end."""


@dataclass(frozen=True)
class Book:
    text: str
    title: str = ""
    author: str = ""
    language: str = "und"
    number: str = ""
    """Project Gutenberg's, without #; empty for other texts."""
    released: str = ""
    framed: bool = False
    """Whether the text came in Project Gutenberg's frame."""
    copyrighted: bool = False
    """Whether its header says that the book is under copyright and given by its owner."""


def decoded(data: bytes) -> str:
    """A book's text: by its byte order mark, else UTF-8, else by the character set that its header names, else
    Windows-1252, which holds ISO-8859-1. Line ends are \\n. ValueError or LookupError for what is none of it."""
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return _clean(data.decode(encoding))
    try:
        return _clean(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        named = CHARSET.search(data[:20_000])
        name = named[1].decode("ascii", "replace").strip().lower() if named else ""
        if re.search(r"utf-?8", name):
            raise ValueError(f"it says that it is UTF-8 and is not, at byte {error.start}") from None
    if name in ("", "ascii", "us-ascii") or re.search(r"8859-1\b|latin-?1\b|1252", name):
        return _clean(_western(data))
    if not NATIONAL.fullmatch(name):
        raise ValueError(f"its character set {name!r} is none that this version reads")
    return _clean(data.decode(name))


def book(text: str) -> Book:
    """The book in a decoded text; FrameError when its frame cannot be taken off."""
    begin = START.search(text, 0, HEADER)
    if begin is None:
        begin = _old_header(text)
    if begin is None:
        if re.search(r"project\s+gutenberg", text[:NAMED], re.I):
            raise FrameError("names Project Gutenberg, and the end of its header is not found")
        return Book(_tidied(text))
    header = text[: begin.end()]
    stop = END.search(text, begin.end())
    small = SMALL_PRINT.search(text, begin.end())
    end = min(found.start() for found in (stop, small) if found) if stop or small else len(text)
    body = _without_last_line(_without_credits(text[begin.end() : end]))
    said = {name.lower(): " ".join(value.split()) for name, value in FIELD.findall(header)}
    old = OLD_TITLE.search(header)
    number = NUMBER.search(header)
    return Book(
        _tidied(body),
        said.get("title") or (old[1].strip() if old else ""),
        said.get("author") or (old[2].strip() if old and old[2] else ""),
        LANGUAGES.get(said.get("language", "").lower(), "und"),
        number[1] if number else "",
        re.sub(r"\s*\[.*", "", said.get("release date") or said.get("posting date") or ""),
        True,
        COPYRIGHTED.search(header) is not None,
    )


def _old_header(text: str) -> re.Match[str] | None:
    """The end of small print that stands before the text; behind the text it is no header."""
    end = SMALL_PRINT_ENDS.search(text, 0, HEADER)
    return end if end is not None and len(text) - end.end() > end.end() // 4 else None


def _without_credits(body: str) -> str:
    """The text behind a header without the paragraphs that tell who made the file and where its pictures are."""
    at, seen = 0, 0
    for paragraph in re.finditer(r"\S[^\n]*(?:\n[^\n]*\S[^\n]*)*", body):
        found, seen = paragraph[0], seen + 1
        if seen > CREDITS or not (CREDIT.match(found) or LINK.fullmatch(found)):
            break
        at = paragraph.end()
    return body[at:]


def _without_last_line(body: str) -> str:
    """The text without "End of Project Gutenberg's ..." where nothing but a few words follows it."""
    ends = list(LAST_LINE.finditer(body, max(0, len(body) - 2_000)))
    return body[: ends[0].start()] if ends else body


def _western(data: bytes) -> str:
    """Windows-1252; the five bytes that it leaves open are ISO-8859-1's control characters."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return "".join(
            bytes([byte]).decode("cp1252") if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte) for byte in data
        )


def _clean(text: str) -> str:
    if "\0" in text:
        raise ValueError("it holds NUL characters")
    return re.sub(r"\r*\n|\r", "\n", text)


def _tidied(text: str) -> str:
    """No blanks at ends of lines, at most two empty lines in a row, none at the ends."""
    text = re.sub(r"[ \t\f\x1a]+$", "", text, flags=re.M)
    return re.sub(r"\n{4,}", "\n\n\n", text).strip("\n")
