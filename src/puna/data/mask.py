"""Masks what points to a person: mail addresses, phone numbers and IP addresses. The paper does not; a recipe may.

Only forms that are hardly anything else are taken, so that dates, prices, versions and formulas stay:

    mail    name@host.tld
    phone   + and 8 to 15 digits in groups; (ddd) ddd-dddd and ddd-ddd-dddd with one sign between the groups
    ip      four numbers to 255 with dots between them, not part of a longer number nor behind "version" or "section"
            (a version of four numbers cannot be told else); IPv6 in full or shortened by ::, as `ipaddress` reads it

Each becomes its kind in brackets: [mail], [phone], [ip].
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence

MAIL = re.compile(
    r"(?<![\w.+-])[\w+-][\w.+-]{0,63}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}\b"
)
PHONE = re.compile(
    r"(?<![\w.+=-])(?:\+(?=(?:[ .()-]{0,2}\d){8,15}(?!\d))\d(?:[ .()-]{0,2}\d){7,14}"
    r"|(?:\(\d{3}\) ?|\d{3}(?P<sign>[ .-]))\d{3}(?(sign)(?P=sign)|-)\d{4})(?![\w]|[.-]\d)"
)
IP = re.compile(
    r"(?<![\w.])(?<!version )(?<!section )(?<!v)(?:::ffff:)?\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)"
    r"|(?<![\w.:])(?:(?=[0-9A-Fa-f:]{0,39}:[0-9A-Fa-f]{0,4}:)[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:]))"
)


def _address(found: re.Match[str]) -> str:
    try:
        ipaddress.ip_address(found[0])
    except ValueError:
        return found[0]
    # :: parts names in many languages, and some of them are made of the letters a to f.
    return "[ip]" if sum(map(str.isdigit, found[0])) > 1 and len(found[0]) > 6 else found[0]


RULES: dict[str, tuple[re.Pattern[str], str | Callable[[re.Match[str]], str], str]] = {
    "mail": (MAIL, "[mail]", "@"),
    "phone": (PHONE, "[phone]", ""),
    "ip": (IP, _address, ""),
}


def masked(text: str, kinds: Sequence[str]) -> str:
    """`text` with everything of these kinds ("mail", "phone", "ip") masked, in that order."""
    for kind in ("mail", "ip", "phone"):
        pattern, becomes, sign = RULES[kind]
        if kind in kinds and sign in text:
            text = pattern.sub(becomes, text)
    return text
