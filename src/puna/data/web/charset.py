"""The characters of a page: its byte order mark, else UTF-8 where the bytes are that, else the charset that HTTP or the
page's `meta` names, else the one that resiliparse detects.

Bytes that are valid UTF-8 and hold more than ASCII are UTF-8, whatever was declared: other charsets give such sequences
by no accident, and servers declare what they were set up with years ago. Names are read as browsers read them (WHATWG:
latin-1 is cp1252, gb2312 is gb18030).
"""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

from puna.data.wiki.dump import MARKS

DECLARED_WITHIN = 4096  # bytes in which a `meta` may name the charset; browsers look into 1024
META = re.compile(rb"""<meta\b[^>]{0,500}?\bcharset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
XML = re.compile(rb"""<\?xml\b[^>]{0,200}?\bencoding\s*=\s*["']([A-Za-z0-9_:.-]{1,40})""")
HTTP = re.compile(r"""\bcharset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)
STATEFUL = re.compile(rb"\x1b[$(]")  # ISO-2022, whose bytes are all ASCII
WIDER = {"gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "big5": "big5hkscs", "iso8859-11": "cp874"}


def decode(data: bytes, content_type: str = "") -> str:
    """The text of a page; what is no character of its charset is U+FFFD. `content_type`: the value of that header."""
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if b"\0" in data[:DECLARED_WITHIN] and (wide := _wide(data)):
        return data.decode(wide, "replace")
    if not STATEFUL.search(data):
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            if error.start >= len(data) - 3 and "unexpected end" in error.reason:
                return data.decode(errors="replace")
    encoding = declared(data, content_type) or python_name(detect_encoding(data, from_html_meta=False) or "utf-8")
    return data.decode(encoding or "utf-8", "replace")


def declared(data: bytes, content_type: str) -> str:
    """Python's name of the charset that HTTP, `meta` or the XML declaration names first; empty when none is known, or
    where UTF-8 is named and more than a hundredth of the bytes are not."""
    head = data[:DECLARED_WITHIN]
    http, page = HTTP.search(content_type), META.search(head) or XML.search(head)
    for name in (http[1] if http else "", page[1].decode() if page else ""):
        encoding = python_name(name)
        if encoding == "utf-8" and data.decode(errors="replace").count("\ufffd") * 100 > len(data):
            continue
        if encoding and not encoding.startswith(("utf-16", "utf-32")):  # who could read its name is no such page
            return encoding
    return ""


def python_name(label: str) -> str:
    """The codec that browsers take for a charset's label; empty for a label that they do not know."""
    name = map_encoding_to_html5(label, fallback_utf8=False) if label else ""
    return codecs.lookup(WIDER.get(name, name)).name if name else ""


def _wide(data: bytes) -> str:
    """UTF-16 without a mark, by where the zero bytes of its markup lie; empty when it is not."""
    beginning = data[:DECLARED_WITHIN]
    even, odd = beginning[::2].count(0), beginning[1::2].count(0)
    half = len(beginning) // 2
    if odd * 2 > half and even * 10 < half:
        return "utf-16-le"
    return "utf-16-be" if even * 2 > half and odd * 10 < half else ""
