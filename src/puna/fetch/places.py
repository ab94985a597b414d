"""The seven places, and which of their files a recipe asks for.

Each function asks a place's catalogue and gives its files in a fixed order. Layouts, checksums and what each place
expects of those who ask are told in docs/fetch.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping

from puna.errors import InputError
from puna.fetch import catalogues
from puna.fetch.client import Missing
from puna.fetch.file import File, checked_name
from puna.recipe_fetch import (
    FetchArXiv,
    FetchBooks,
    FetchC4,
    FetchCommonCrawl,
    FetchGitHub,
    FetchStackExchange,
    FetchWikipedia,
    Place,
)

Read = Callable[[str], bytes]
"""The bytes of a catalogue by its address."""

# Bytes of a file on average, where none are published: of February 2019's crawl, and of books in general.
ABOUT_WARC, ABOUT_WET, ABOUT_BOOK = 1_030_000_000, 131_000_000, 400_000


def files(place: Place, read: Read) -> list[File]:
    """The files that a place has of what the recipe asks. InputError when there are none, or a name stands twice."""
    found: list[File] = []
    match place:
        case FetchCommonCrawl():
            found = list(_commoncrawl(place, read))
        case FetchC4():
            found = list(_c4(place, read))
        case FetchGitHub():
            found = list(_github(place))
        case FetchWikipedia():
            found = list(_wikipedia(place, read))
        case FetchBooks():
            found = list(_books(place, read))
        case FetchArXiv():
            found = list(_arxiv(place, read))
        case FetchStackExchange():
            found = list(_stackexchange(place, read))
    names = [file.name.lower() for file in found]  # some file systems know no capitals
    twice = next((name for name, again in itertools.pairwise(sorted(names)) if name == again), "")
    if twice:
        raise InputError(f"{twice} would be fetched twice", where=place.base, mend="name it once")
    return found


def _commoncrawl(place: FetchCommonCrawl, read: Read) -> Iterator[File]:
    about = ABOUT_WARC if place.kind == "warc" else ABOUT_WET
    for snapshot in place.snapshots:
        where = f"{place.base}/crawl-data/{snapshot}/{place.kind}.paths.gz"
        paths = catalogues.crawl_paths(catalogues.unpacked(read(where), where), where, snapshot, place.kind)
        wanted = ((path, name) for path, segment, name in paths if not place.segments or segment in place.segments)
        chosen = list(itertools.islice(wanted, place.skip, place.skip + place.files))
        _are_there(chosen, where, "skip less, or name other segments")
        for path, name in chosen:
            yield File(f"{snapshot}/{name}", f"{place.base}/{path}", about=about, limit=place.bytes)


def _c4(place: FetchC4, read: Read) -> Iterator[File]:
    of = 1024 if place.split == "train" else 8
    for number in place.numbers:
        if number >= of:
            raise InputError(f"there is no file {number}: they are 0 to {of - 1}", where="fetch.c4.numbers")
        name = f"c4-{place.split}.{number:05}-of-{of:05}.json.gz"
        where = f"{place.base}/raw/{place.revision}/en/{name}"
        size, checksum = catalogues.pointer(read(where), where)
        yield File(name, f"{place.base}/resolve/{place.revision}/en/{name}", size=size, checksum=checksum)


def _github(place: FetchGitHub) -> Iterator[File]:
    for repository in place.repositories:
        path, _, ref = repository.partition("@")
        name = checked_name(f"{path}-{ref}.tar.gz", "fetch.github.repositories")
        yield File(name, f"{place.base}/{path}/tar.gz/{ref}")


def _wikipedia(place: FetchWikipedia, read: Read) -> Iterator[File]:
    for language in place.languages:
        wiki = f"{language.replace('-', '_')}wiki"
        date = place.date
        if date == "latest":
            where = f"{place.base}/{wiki}/latest/{wiki}-latest-sha1sums.txt"
            date = catalogues.newest_date(read(where), where, wiki)
        folder = f"{place.base}/{wiki}/{date}"
        where = f"{folder}/dumpstatus.json"
        found = catalogues.dump_files(read(where), where, wiki, date)[: place.files]
        sums = {} if all(checksum for _, _, checksum in found) else _sums(folder, f"{wiki}-{date}-sha1sums.txt", read)
        for name, size, published in found:
            checksum = published or sums.get(name, "")
            yield File(name, f"{folder}/{name}", size=size, checksum=checksum, limit=place.bytes)


def _sums(folder: str, name: str, read: Read) -> Mapping[str, str]:
    """The list of sums beside the files, for mirrors whose dumpstatus.json holds none; empty where there is no list."""
    where = f"{folder}/{name}"
    try:
        return catalogues.sums(read(where), where)
    except Missing:
        return {}


def _books(place: FetchBooks, read: Read) -> Iterator[File]:
    where = place.catalogue
    wanted = set(place.ids)
    listed = catalogues.books(read(where), where, place.languages)
    found = sorted({number for number in listed if not wanted or number in wanted})
    _are_there(found, where, "name other languages or ids")
    for number in found[: place.files]:
        url = f"{place.base}/cache/epub/{number}/pg{number}.txt"
        yield File(f"pg{number}.txt", url, about=ABOUT_BOOK, may_lack=True)


def _arxiv(place: FetchArXiv, read: Read) -> Iterator[File]:
    where = f"{place.base}/src/arXiv_src_manifest.xml"
    found = list(catalogues.papers(read(where), where))
    for month in place.months:
        chosen = sorted(entry for entry in found if entry[0] == month)[: place.files]
        _are_there(chosen, where, f"it has nothing of {month}: name other months")
        for _, path, name, size, checksum in chosen:
            yield File(name, f"{place.base}/{path}", size=size, checksum=checksum, limit=place.bytes)


def _stackexchange(place: FetchStackExchange, read: Read) -> Iterator[File]:
    where = f"{place.base}/{place.base.rpartition('/')[2]}_files.xml"
    found = catalogues.archives(read(where), where)
    for site in place.sites:
        name = f"{site}.7z"
        if name not in found:
            raise InputError(f"has no {name}", where=where, mend="check fetch.stackexchange.sites")
        size, checksum = found[name]
        yield File(name, f"{place.base}/{name}", size=size, checksum=checksum)


def _are_there(found: Iterable[object], where: str, mend: str) -> None:
    if not found:
        raise InputError("names nothing of what is asked for", where=where, mend=mend)
