"""What places publish about their files, read with distrust: names that could leave the folder, sizes and checksums
that are none, and lists without end are refused by the catalogue's address.

Each function takes a catalogue's bytes and `where`, its address, and raises InputError.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from puna.errors import InputError
from puna.fetch.file import checked_name, checked_size, checked_sum

LARGEST = 64_000_000  # bytes of a catalogue; the largest, Project Gutenberg's and arXiv's, have some 20 and 5 MB
UNPACKED = 64_000_000  # bytes that a packed one may unpack to; a crawl's list of 90,000 paths has 13 MB


def unpacked(data: bytes, where: str) -> bytes:
    """The bytes of a gzipped list."""
    state = zlib.decompressobj(31)
    try:
        text = state.decompress(data, UNPACKED)
    except zlib.error as error:
        raise InputError(f"is no gzip ({error})", where=where, mend="is this its catalogue?") from None
    if state.unconsumed_tail or not state.eof:
        what = "unpacks to too much" if state.unconsumed_tail else "ends too early"
        raise InputError(what, where=where, mend="is this its catalogue?")
    return text


def crawl_paths(data: bytes, where: str, snapshot: str, kind: str) -> Iterator[tuple[str, str, str]]:
    """(path, segment, name) of each line of a snapshot's warc.paths or wet.paths."""
    ending = {"warc": r"\.warc\.gz", "wet": r"\.warc\.wet\.gz"}[kind]
    pattern = re.compile(rf"crawl-data/{re.escape(snapshot)}/segments/([0-9.]+)/{kind}/([^/]+{ending})")
    for line in _text(data, where).splitlines():
        found = pattern.fullmatch(line)
        if found is None:
            raise InputError(f"names {line[:100]!a}, which is no {kind} file of {snapshot}", where=where)
        yield line, found[1], checked_name(found[2], where)


def dump_files(data: bytes, where: str, wiki: str, date: str) -> list[tuple[str, int | None, str]]:
    """(name, bytes, checksum) of the articles of a Wikipedia dump, from its dumpstatus.json."""
    jobs = _table(_json(data, where).get("jobs"), where)
    # Of the two packings of the same pages this one is made of many streams, and can be read from the middle.
    job = _table(jobs.get("articlesmultistreamdump"), where)
    if job.get("status") != "done":
        what = f"says that the articles of {date} are not there yet ({str(job.get('status'))[:40]!a})"
        raise InputError(what, where=where, mend="name another date")
    pattern = re.compile(rf"{wiki}-{date}-pages-articles-multistream[0-9]*\.xml(-p[0-9]+p[0-9]+)?\.bz2")
    found = []
    for name, told in _table(job.get("files"), where).items():
        checked_name(str(name), where)
        if pattern.fullmatch(name):
            about = _table(told, where)
            checksum = checked_sum("sha1", about.get("sha1"), where) or checked_sum("md5", about.get("md5"), where)
            found.append((str(name), checked_size(about.get("size"), where), checksum))
    if not found:
        raise InputError("names no file of articles", where=where, mend="name another date")
    return sorted(found, key=lambda entry: [int(n) for n in re.findall(r"\d+", entry[0].partition("multistream")[2])])


def newest_date(data: bytes, where: str, wiki: str) -> str:
    """The day of the dump that `latest` stands for, from the names in its list of checksums."""
    found = re.findall(
        rf"\b{wiki}-([0-9]{{8}})-pages-articles-multistream[0-9]*\.xml[-p0-9]*\.bz2\s*$",
        _text(data, where),
        re.MULTILINE,
    )
    if not found:
        raise InputError("names no dump of articles", where=where, mend="name a date")
    return str(max(found))


def sums(data: bytes, where: str) -> Mapping[str, str]:
    """Name -> checksum from a list of sha1 sums, as `sha1sum` writes it."""
    lines = (line.split() for line in _text(data, where).splitlines())
    return {name: checked_sum("sha1", told, where) for told, name in (line for line in lines if len(line) == 2)}


def books(data: bytes, where: str, languages: Sequence[str]) -> Iterator[int]:
    """Numbers of the texts in those languages, from Project Gutenberg's catalogue, in its order."""
    rows = csv.DictReader(io.StringIO(_text(data, where)))
    wanted = set(languages)
    try:
        if not {"Text#", "Type", "Language"} <= set(rows.fieldnames or ()):
            raise InputError("is not Project Gutenberg's catalogue", where=where, mend="check fetch.books.catalogue")
        for row in rows:
            number = str(row["Text#"])
            if not re.fullmatch(r"[0-9]{1,7}", number):
                raise InputError(f"names a book {number[:40]!a}", where=where, mend="is this its catalogue?")
            if row["Type"] == "Text" and wanted & {each.strip() for each in str(row["Language"]).split(";")}:
                yield int(number)
    except csv.Error as error:
        raise InputError(f"cannot be read as a table ({error})", where=where, mend="is this its catalogue?") from None


def papers(data: bytes, where: str) -> Iterator[tuple[str, str, str, int | None, str]]:
    """(month, path in the bucket, name, bytes, checksum) of each tar of arXiv's manifest."""
    for entry in _xml(data, where).iterfind("file"):
        path = entry.findtext("filename") or ""
        folder, _, name = path.partition("/")
        if folder != "src" or not re.fullmatch(r"arXiv_src_[0-9]{4}_[0-9]+\.tar", name):
            raise InputError(f"names {path[:100]!a}, which is no tar of sources", where=where)
        size, checksum = (
            checked_size(entry.findtext("size"), where),
            checked_sum("md5", entry.findtext("md5sum"), where),
        )
        yield name.split("_")[2], path, name, size, checksum


def archives(data: bytes, where: str) -> Mapping[str, tuple[int | None, str]]:
    """Name -> (bytes, checksum) of the .7z files of an item of the Internet Archive."""
    found = {}
    for entry in _xml(data, where).iterfind("file"):
        name = str(entry.get("name") or "")
        if name.endswith(".7z"):
            checksum = checked_sum("sha1", entry.findtext("sha1"), where)
            checksum = checksum or checked_sum("md5", entry.findtext("md5"), where)
            found[checked_name(name, where)] = checked_size(entry.findtext("size"), where), checksum
    return found


def pointer(data: bytes, where: str) -> tuple[int | None, str]:
    """(bytes, checksum) from the pointer that a repository keeps in place of a large file (git LFS)."""
    text = _text(data, where)
    oid, size = (re.search(pattern, text, re.MULTILINE) for pattern in (r"^oid sha256:(\S+)$", r"^size (\S+)$"))
    if not text.startswith("version https://git-lfs.github.com/spec/v1\n") or oid is None or size is None:
        raise InputError("is no pointer to a large file", where=where, mend="check fetch.c4.base")
    return checked_size(size[1], where), checked_sum("sha256", oid[1], where)


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("is not UTF-8 text", where=where, mend="is this its catalogue?") from None


def _json(data: bytes, where: str) -> Mapping[str, Any]:
    try:
        return _table(json.loads(data), where)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not JSON ({error})", where=where, mend="is this its catalogue?") from None


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError("is not built as such a catalogue is", where=where, mend="is this its catalogue?")
    return value


def _xml(data: bytes, where: str) -> Any:
    from lxml import etree

    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise InputError("declares entities", where=where, mend="is this its catalogue?")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise InputError(f"is not XML ({error})", where=where, mend="is this its catalogue?") from None
