"""The posts of one site: where its Posts.xml is, and what a row says of a post.

`SITE.7z` holds Posts.xml among other tables, `SITE-Posts.7z` nothing else (the publisher parts Stack Overflow so);
an unpacked Posts.xml is read too, of the site that its folder or its own name is called after. The site's name is its
host. A file that breaks off or is damaged is worthless as a whole, since nothing tells which answers are missing.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from puna import storage
from puna.data.sources.records import Input
from puna.data.stack import sevenzip
from puna.data.stack.rows import BadRow, End, cut, fields, unescaped
from puna.data.stack.unpack import BLOCK, ArchiveError
from puna.data.wiki.dump import DamagedError, encoding

POSTS = "Posts.xml"
QUESTION, ANSWER = "1", "2"
# Sites that are not in English, by the host of their main site.
LANGUAGES = {
    "ru.stackoverflow.com": "ru",
    "es.stackoverflow.com": "es",
    "pt.stackoverflow.com": "pt",
    "ja.stackoverflow.com": "ja",
    "rus.stackexchange.com": "ru",
    "portuguese.stackexchange.com": "pt",
    "ukrainian.stackexchange.com": "uk",
}
# When what is published came under each licence (stackexchange.com/help/licensing), for rows that do not say.
LICENCES = (("2018-05-02", "CC-BY-SA-4.0"), ("2011-04-08", "CC-BY-SA-3.0"), ("", "CC-BY-SA-2.5"))
KEY = re.compile(rb' Id="([0-9]{1,18})" PostTypeId="(?:1"|2" ParentId="([0-9]{1,18})")')
HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)


class PostError(Exception):
    """A row that is no post; `str()` is the reason."""


class Post(NamedTuple):
    """A question or an answer. `title` is text, `body` HTML escaped as in the XML (see markup.py)."""

    id: int
    question: int
    """Its own id when it is one."""
    answer: bool
    score: int
    title: str
    body: str
    created: str
    licence: str
    """SPDX."""
    accepted: int
    """The answer that a question accepted, or 0."""
    closed: bool
    deleted: bool
    user: str
    """The owner's id on the site, or ""."""
    name: str
    """The owner's name; the table of posts has it only where there is no account."""


class Other(NamedTuple):
    """A post of another type: the wiki of a tag, or what a moderator needs."""

    id: int
    kind: str
    body: str


def site(entry: Input) -> str:
    """The host that an input is named for; "" when its name tells none."""
    *folders, name = entry.dump.split("/")
    stem = re.sub(r"[-_.]?Posts$", "", re.sub(r"\.(7z|xml)$", "", name))
    host = (stem or (folders[-1] if folders else "")).lower()
    if not HOST.fullmatch(host):
        return ""
    # Before 2017 what is now X.meta.stackexchange.com was meta.X.stackexchange.com.
    return re.sub(r"^meta\.([a-z0-9-]+)\.stackexchange\.com$", r"\1.meta.stackexchange.com", host)


def language(host: str) -> str:
    """The language of a site, and of its meta."""
    return LANGUAGES.get(host.replace(".meta.", "."), "en")


def size(entry: Input) -> int | None:
    """Bytes of the site's Posts.xml; None for an archive without one. ArchiveError for what cannot be opened."""
    with storage.open_read(entry.location) as file:
        if not _packed(entry):
            return entry.size
        member = _member(sevenzip.members(file, entry.size))
        return None if member is None else member.size


def rows(entry: Input) -> Iterator[bytes | BadRow]:
    """The rows of the site's Posts.xml in order. ArchiveError when the file turns out to be damaged or cut short."""
    end = End()
    yield from cut(blocks(entry), end)
    if end.problem:
        raise ArchiveError(end.problem)


def blocks(entry: Input) -> Iterator[bytes]:
    """The site's Posts.xml in UTF-8, in blocks; ArchiveError as `rows`."""
    with storage.open_read(entry.location) as file:
        if not _packed(entry):
            yield from _in_utf8(iter(lambda: file.read(BLOCK), b""))
            return
        member = _member(sevenzip.members(file, entry.size))
        if member is None:
            raise ArchiveError(f"holds no {POSTS}")
        yield from _in_utf8(sevenzip.stream(file, member))


def key(row: bytes) -> tuple[int, int, int] | None:
    """(question, 1 for an answer, id) of a row in the publisher's form, which need not be valid; None for others."""
    found = KEY.match(row)
    if found is None:
        return None
    own, parent = int(found[1]), found[2]
    return (own, 0, own) if parent is None else (int(parent), 1, own)


def post(row: bytes) -> Post | Other:
    """The post in a row. PostError, RowError for what is none."""
    values = fields(row)
    get = values.get
    kind, number = get("PostTypeId", ""), get("Id", "")
    if not _is_number(number):
        raise PostError("a row without Id" if not number else "a row whose Id is no number")
    if not _is_number(kind):
        raise PostError("a row without PostTypeId")
    if kind not in (QUESTION, ANSWER):
        return Other(int(number), kind, get("Body", ""))
    answer = kind == ANSWER
    score, parent, title, accepted = (
        get("Score", "0"),
        get("ParentId", ""),
        get("Title", ""),
        get("AcceptedAnswerId", ""),
    )
    if not _is_number(score.removeprefix("-")):
        raise PostError("a post whose Score is no number")
    if answer and not _is_number(parent):
        raise PostError("an answer without ParentId")
    if not answer and not title:
        raise PostError("a question without title")
    created = get("CreationDate", "")
    return Post(
        int(number),
        int(parent if answer else number),
        answer,
        int(score),
        " ".join(unescaped(title).split()),
        get("Body", ""),
        created,
        licence(get("ContentLicense", "")[:40], created[:10]),
        int(accepted) if _is_number(accepted) else 0,
        bool(get("ClosedDate")),
        bool(get("DeletionDate")),
        get("OwnerUserId", ""),
        unescaped(get("OwnerDisplayName", "")),
    )


@lru_cache(maxsize=10_000)
def licence(said: str, created: str) -> str:
    """The SPDX name of what a row says, else of what the day of its creation says."""
    if said:
        return re.sub(r"\s+", "-", said.strip())
    return next(name for since, name in LICENCES if created >= since)


def _is_number(text: str) -> bool:
    """Whether it is a whole number that a run's files can hold."""
    return text.isdigit() and text.isascii() and len(text) <= 18


def _packed(entry: Input) -> bool:
    return not entry.dump.lower().endswith(".xml")


def _member(members: list[sevenzip.Member]) -> sevenzip.Member | None:
    """The file of posts among those of an archive; ArchiveError where what bears its name is none."""
    found = [member for member in members if re.split(r"[/\\]", member.name)[-1] == POSTS]
    if not found:
        return None
    if len(found) > 1:
        raise ArchiveError(f"holds {len(found)} files named {POSTS}")
    (member,) = found
    folders = re.split(r"[/\\]", member.name)[:-1]
    if ".." in folders or (folders and not folders[0]) or any(":" in folder for folder in folders):
        raise ArchiveError(f"its {POSTS} is named {member.name[:100]!r}, outside of the archive")
    if member.link:
        raise ArchiveError(f"its {POSTS} is a link")
    return member


def _in_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks of an XML file as UTF-8, whatever its mark or its declaration says that it is in."""
    first = b""
    for block in blocks:
        first += block
        if len(first) >= 256:
            break
    try:
        name = encoding(first)
    except DamagedError as error:
        raise ArchiveError(str(error)) from None
    if name == "utf-8":
        if first:
            yield first
        yield from blocks
        return
    decoder = codecs.getincrementaldecoder(name)()
    try:
        yield decoder.decode(first).encode()
        for block in blocks:
            yield decoder.decode(block).encode()
        yield decoder.decode(b"", True).encode()
    except UnicodeError as error:
        raise ArchiveError(f"not valid {name} ({type(error).__name__})") from None
