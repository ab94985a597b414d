"""Which documents a list asks to leave out: by address, host, id, repository or name.

An entry leaves out every document that has it as one of these, whatever the case of its letters:

    https://example.org/page    the address, of any scheme, with www. or without, with a / at its end or without
    example.org                 the host of the address, or one above it, but for a top-level domain
    32 hex digits               the document's id
    owner/name                  a repository: the group, the beginning of an address on a host of repositories, or an
                                archive OWNER/NAME-REF as `puna fetch` names it
    any other text              the title, the group (a page's id, a package), the native key, or the dump
    @FILE                       a file of entries, one a line; empty lines and lines that begin with # are none

A list is read when a run begins, so that its entries, not its file's name, decide what is done again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import unquote, urlsplit

from puna import storage
from puna.errors import InputError

REPOSITORIES = ("github.com/", "gitlab.com/", "bitbucket.org/", "codeberg.org/")
# What `Exclusions.of` compares.
FIELDS = ("id", "group", "origin.url", "origin.title", "origin.key", "origin.dump", "origin.file")


def entries(declared: Sequence[str]) -> tuple[str, ...]:
    """The entries that a recipe or a command line names, those of files among them, sorted, each once.

    Raises InputError for a file that is missing or no text.
    """
    found: set[str] = set()
    for entry in declared:
        found |= set(_of_file(entry[1:])) if entry.startswith("@") else {entry.strip()}
    return tuple(sorted(found - {""}))


def _of_file(name: str) -> Iterator[str]:
    mend = "name a file in data.exclude as @FILE, one entry a line"
    try:
        lines = storage.read(name).decode("utf-8-sig").splitlines()
    except InputError as error:
        raise InputError(error.what, where=f"@{name}", mend=mend) from None
    except UnicodeDecodeError as error:
        what = f"is not UTF-8 (byte {error.start})"
        raise InputError(what, where=name, mend="save the list as UTF-8, one entry a line") from None
    return (line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))


class Exclusions:
    """A list made ready for looking up. One document costs a few set look-ups, however long the list is."""

    def __init__(self, found: Iterable[str]) -> None:
        self.entries = tuple(found)

    @cached_property
    def _known(self) -> dict[str, str]:
        known: dict[str, str] = {}
        for entry in self.entries:
            known.setdefault(entry.casefold(), entry)
            known.setdefault(address(entry), entry)
        return known

    def of(self, id: str, group: str, url: str, title: str, key: str, dump: str, file: str) -> str | None:
        """The entry that leaves this document out; None when no entry does."""
        for name in (id, group, title, key, dump):
            if name and (found := self._known.get(name.casefold())):
                return found
        return (self._of_address(address(url)) if url else None) or self._of_archive(file)

    def without(self, examples: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """The examples of a rule that no entry names, by as much as each tells of itself."""
        keys = [name.rpartition(".")[2] for name in FIELDS]
        return [one for one in examples if self.of(*(str(one.get(key, "")) for key in keys)) is None]

    def _of_address(self, place: str) -> str | None:
        if found := self._known.get(place):
            return found
        at, _, path = place.partition("/")
        if place.startswith(REPOSITORIES) and (found := self._of_repository("/".join(path.split("/")[:2]))):
            return found
        if found := self._known.get(at):
            return found
        host = at.partition(":")[0]
        while "." in host:
            if found := self._known.get(host):
                return found
            host = host.partition(".")[2]
        return None

    def _of_archive(self, file: str) -> str | None:
        """Of a repository's archive as `puna fetch` names it: OWNER/NAME-REF.tar.gz."""
        owner, _, archive = file.rpartition("/")
        owner = owner.rpartition("/")[2]
        ends = [place for place, letter in enumerate(archive) if letter == "-"] if owner else []
        return next((hit for end in ends if (hit := self._of_repository(f"{owner}/{archive[:end]}".casefold()))), None)

    def _of_repository(self, name: str) -> str | None:
        """By owner/name, or by the address of its page."""
        found = self._known.get(name)
        return found or next((hit for host in REPOSITORIES if (hit := self._known.get(f"{host}{name}"))), None)


def address(url: str) -> str:
    """An address without scheme, www., fragment and last /, in small letters and without %: two of one page are alike.
    The page at a host's root keeps its /, which tells it from the host."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        host, port = (parts.hostname or "").removeprefix("www."), parts.port
        host = host.encode("idna").decode() if not host.isascii() else host
    except ValueError:
        return url.casefold()
    at = f"{host}:{port}" if port not in (None, 80, 443) else host
    path = unquote(parts.path).rstrip("/").removesuffix(".git") or ("/" if "://" in url else "")
    query = f"?{unquote(parts.query)}" if parts.query else ""
    return f"{at}{path}{query}".casefold()
