"""When two addresses are one page: what an article cites against what a crawl fetched (paper, section 2.1).

Both sides go through `same_page` and are compared as 64-bit hashes. On top of what `wiki.references.normal` does
(entities decoded, an archive's copy stands for its page, scheme and host in lower case, user, default port, fragment
and punctuation at the end gone):

    scheme       https is http: pages moved since they were cited
    host         Unicode names in Punycode; www. in front is gone; ports 80 and 443 are gone
    path         no / at its end
    query        parameters that only track (TRACKING, TRACKING_PREFIXES) and empty ones are gone, the others keep their
                 order; without any left, no ?
    percent      %XX of an unreserved character (RFC 3986, section 2.3) is that character, other %XX are in capitals;
                 characters that no URI may hold are written as %XX of their UTF-8

What is left alone: the case of path and query, the order of parameters, index.html, dots as segments of a path.
"""

from __future__ import annotations

import re

import xxhash

from puna.data.wiki.references import LONGEST, normal

TRACKING = {
    "fbclid", "gclid", "gclsrc", "dclid", "msclkid", "yclid", "twclid", "igshid", "mc_cid", "mc_eid", "_ga", "_gl",
    "_hsenc", "_hsmi", "mkt_tok", "wt_mc", "ref_src", "ocid", "cmpid", "ncid", "spref",
}  # fmt: skip
TRACKING_PREFIXES = ("utm_", "pk_", "hsa_")
ROUNDS = 8  # times that an address is decoded within another; deeper ones are no addresses
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
ODD = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]")


def same_page(address: str) -> str:
    """The one form of all addresses of a page, `http://HOST/PATH?QUERY`; empty for what is no address. A fixed point:
    same_page(same_page(a)) == same_page(a)."""
    for _ in range(ROUNDS):
        again = _once(address)
        if again == address:
            return address
        address = again
    return ""


def page_hash(page: str) -> int:
    """64-bit xxh3 of what `same_page` gave."""
    return xxhash.xxh3_64_intdigest(page.encode())


def host_hash(page: str) -> int:
    """64-bit xxh3 of the host, with its port, in what `same_page` gave."""
    return xxhash.xxh3_64_intdigest(page[7:].partition("/")[0].partition("?")[0].encode())


def _once(address: str) -> str:
    place = normal(address).partition("://")[2]
    if not place:
        return ""
    place, _, query = place.partition("?")
    host, slash, path = place.partition("/")
    host, _, port = host.partition(":")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            return ""
    while host.startswith("www."):
        host = host[4:]
    if "%" in path or ODD.search(path):
        path = ODD.sub(_percent, path)
    if query:
        pieces = ODD.sub(_percent, query).split("&")
        query = "&".join(piece for piece in pieces if piece and not _tracks(piece.partition("=")[0].lower()))
    kept = f":{port}" if port not in ("", "80", "443") else ""
    whole = f"http://{host}{kept}{slash}{path}".rstrip("/") + (f"?{query}" if query else "")
    return whole if len(whole) <= LONGEST else ""


def _tracks(name: str) -> bool:
    return name in TRACKING or name.startswith(TRACKING_PREFIXES)


def _percent(found: re.Match[str]) -> str:
    text = found[0]
    if len(text) == 3 and text[0] == "%":
        character = chr(int(text[1:], 16))
        return character if character in UNRESERVED else text.upper()
    return "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass"))
