"""From a record of a WARC or WET file to the page that it holds, or to the rule or the reason for which there is none.

Rules, in order: `type` (a record that holds no page: requests, metadata, notes of the crawler), `status`, `mime` (what
HTTP says it is), `robots` (when asked for), `truncated` (when asked for). What cannot be read is set aside: a response
without HTTP header, broken codings, payloads over the limit, text in no known charset, pages built to cost much.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from resiliparse.parse.html import HTMLTree

from puna.data.document import Origin
from puna.data.sources.records import EXAMPLE, Dropped, Input, Part, SetAside
from puna.data.web import charset, main_text, response
from puna.data.web.warc import HEAD, Damage, WarcRecord, records
from puna.recipe_sources import WebPages

ROBOTS = re.compile(r"\b(noindex|noarchive|none)\b", re.IGNORECASE)
META = re.compile(r"<meta\b[^>]{0,600}", re.IGNORECASE)
FOR_ROBOTS = re.compile(r"\bname\s*=\s*[\"']?robots\b", re.IGNORECASE)
# A value without quotes is read to the tag's end, since what it lists may be parted by spaces.
CONTENT = re.compile(r"(?<![\w-])content\s*=\s*(\"[^\"]*|'[^']*|.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """One page, not yet judged by its text."""

    key: str
    """The record's id; where it has none, `offset N` of the file."""
    url: str
    date: str
    offset: int
    size: int
    """Bytes of the payload."""
    truncated: str
    """Why the crawl cut the page, such as `length`; empty when it did not."""
    tree: HTMLTree | None
    """The parsed page; none of a WET record, whose `text` is the page's already."""
    text: str = ""
    title: str = ""
    """What its HTML says; none of a WET record."""


def pages(entry: Input, part: Part, recipe: WebPages) -> Iterator[Page | Dropped | SetAside]:
    """What the records of a range hold, one for each of them, in the order of the file."""
    found = False
    for record in records(entry.location, part.start, part.end, recipe.max_payload + HEAD):
        found = True
        if isinstance(record, Damage):
            yield SetAside(record.reason, entry.declared, record.key, record.size)
            continue
        try:
            yield _page(record, recipe)
        except (response.UnreadableError, main_text.HostilePageError) as error:
            yield SetAside(str(error), entry.declared, _key(record))
    if not found and part.start == 0 and part.end == entry.size:
        yield SetAside("holds no WARC record" if entry.size else "the file is empty", entry.declared, "", entry.size)


def host(url: str) -> str:
    """The site of a page, without its `www`; empty where the URL names none."""
    try:
        return (urlsplit(url).hostname or "").removeprefix("www.")
    except ValueError:
        return ""


def origin(page: Page, entry: Input) -> Origin:
    """Where a document of this page comes from."""
    return Origin(entry.dump, page.key, entry.declared, page.offset, page.url, page.title, page.date, "")


def _page(record: WarcRecord, recipe: WebPages) -> Page | Dropped:
    kind = record.headers.get("warc-type", "").lower()
    if kind == "conversion":
        return _converted(record, recipe)
    if kind not in ("response", "resource"):
        return Dropped("type", _key(record), record.length, f"a record of type {kind}"[:EXAMPLE])
    if kind == "resource":
        found = response.Response("200", {"content-type": record.headers.get("content-type", "")}, record.block)
    else:
        found = response.parse(record.block)
    said = found.headers.get("content-type") or record.headers.get("warc-identified-payload-type", "")
    rule = _rule(found, said, recipe)
    if rule:
        url = record.headers.get("warc-target-uri", "")
        return Dropped(rule, _key(record), record.length, f"{url}: {found.status} {said}"[:EXAMPLE])
    truncated = record.headers.get("warc-truncated", "")
    if truncated and recipe.drop_truncated:
        return Dropped("truncated", _key(record), record.length, record.headers.get("warc-target-uri", "")[:EXAMPLE])
    if record.length > len(record.block):
        raise response.UnreadableError(f"a payload is larger than {recipe.max_payload} bytes")
    data = response.payload(found, recipe.max_payload, bool(truncated))
    html = _decoded(data, said, recipe.max_undecoded)
    if recipe.respect_robots and (tag := _robots_tag(html)):
        return Dropped("robots", _key(record), record.length, tag[:EXAMPLE])
    return _made(record, truncated, len(data), main_text.parsed(html))


def _rule(found: response.Response, content_type: str, recipe: WebPages) -> str:
    """The rule by which a response is left out before its payload is looked at; empty when there is none."""
    if found.status not in recipe.statuses:
        return "status"
    if content_type.partition(";")[0].strip().lower() not in recipe.mime_types:
        return "mime"
    if recipe.respect_robots and ROBOTS.search(found.headers.get("x-robots-tag", "")):
        return "robots"
    return ""


def _robots_tag(html: str) -> str:
    """The first `meta` that asks robots to leave the page out; empty when there is none."""
    for tag in META.findall(html):
        if FOR_ROBOTS.search(tag) and (content := CONTENT.search(tag)) and ROBOTS.search(content[1]):
            return str(tag)
    return ""


def _converted(record: WarcRecord, recipe: WebPages) -> Page | Dropped:
    """The page of a WET record, whose text Common Crawl took out of the HTML."""
    if record.headers.get("content-type", "text/plain").partition(";")[0].strip().lower() != "text/plain":
        return Dropped("mime", _key(record), record.length, record.headers["content-type"][:EXAMPLE])
    if record.length > min(recipe.max_payload, len(record.block)):
        raise response.UnreadableError(f"a payload is larger than {recipe.max_payload} bytes")
    text = _decoded(record.block, "text/plain; charset=utf-8", recipe.max_undecoded)
    return _made(record, record.headers.get("warc-truncated", ""), record.length, None, text)


def _made(record: WarcRecord, truncated: str, size: int, tree: HTMLTree | None, text: str = "") -> Page:
    headers = record.headers
    url = headers.get("warc-target-uri", "").strip("<>")
    title = main_text.title(tree) if tree else ""
    return Page(_key(record), url, headers.get("warc-date", ""), record.offset, size, truncated, tree, text, title)


def _decoded(data: bytes, content_type: str, most: float) -> str:
    text = charset.decode(data, content_type)
    if "\ufffd" in text and text.count("\ufffd") > most * len(text):
        raise response.UnreadableError("its charset cannot be told")
    return text


def _key(record: WarcRecord) -> str:
    return record.headers.get("warc-record-id", "").strip("<>") or f"offset {record.offset}"
