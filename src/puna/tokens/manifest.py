"""tokens/manifest.json: which token shards a run has, in order, and one digest over all that is in them.

Within a source the shards are id ranges in rising order, so the shards one after another are the source's documents
sorted by id. The manifest's digest is over content only (format, tokenizer, and of each source the tokens, documents
and content digest): the same for any cut into shards, any folder and any time. The order of training follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from puna import storage
from puna.errors import InputError
from puna.formats import MANIFEST
from puna.storage import Place
from puna.tokenizer import Tokenizer, dtype_for
from puna.tokens.shards import Shard, read_header

DIGESTED = 1  # what the manifest's digest is over; another number is another order of training
NAME = "manifest.json"
MEND = "run `puna tokens` again"


@dataclass(frozen=True)
class Entry:
    """One shard: tokens/SOURCE/NAME.bin and .idx. first, last: its ids' range, empty for a shard without documents.
    bin, idx: digests of the two files. content: hex digits of the shard's content digest."""

    name: str
    tokens: int
    documents: int
    bytes: int
    first: str
    last: str
    bin: str
    idx: str
    content: str


@dataclass(frozen=True)
class SourceTokens:
    """A source's shards in order."""

    shards: tuple[Entry, ...]

    @cached_property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self.shards)

    @property
    def documents(self) -> int:
        return sum(shard.documents for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of UTF-8 text."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def content(self) -> str:
        return f"{sum(int(shard.content, 16) for shard in self.shards) % 2**128:032x}"


@dataclass(frozen=True)
class Manifest:
    """tokenizer: digest of the model file. sources: in order of name."""

    tokenizer: str
    vocabulary: int
    sources: Mapping[str, SourceTokens]

    @property
    def dtype(self) -> np.dtype[Any]:
        return dtype_for(self.vocabulary)

    @cached_property
    def digest(self) -> str:
        """ "xxh3:" and 32 hex digits over the content."""
        content = {
            "format": DIGESTED,
            "tokenizer": self.tokenizer,
            "vocabulary": self.vocabulary,
            "sources": {name: [s.tokens, s.documents, s.content] for name, s in self.sources.items()},
        }
        return storage.digest_bytes(json.dumps(content, sort_keys=True).encode())


def folder_of(run: Place) -> Place:
    """Where a run's tokens lie."""
    return run / "tokens"


def stem(run: Place, source: str, name: str) -> Place:
    """The shard's path without its .bin or .idx."""
    return folder_of(run) / source / name


def build(run: Place, shards: Mapping[str, Sequence[str]], tokenizer: Tokenizer) -> Manifest:
    """The manifest of the named shards, source -> names in order of their ids.

    Indexes are read and checked, of the tokens only the length. InputError when a shard is damaged, made with another
    vocabulary, or not after the one before it.
    """
    return Manifest(
        tokenizer=tokenizer.digest,
        vocabulary=tokenizer.vocabulary,
        sources={source: _source(run, source, names, tokenizer) for source, names in sorted(shards.items())},
    )


def write(run: Place, manifest: Manifest) -> None:
    """Write tokens/manifest.json."""
    sources = {
        name: {
            "tokens": source.tokens,
            "documents": source.documents,
            "bytes": source.bytes,
            "shards": [asdict(shard) for shard in source.shards],
        }
        for name, source in manifest.sources.items()
    }
    value = {
        "format": MANIFEST.version,
        "tokenizer": manifest.tokenizer,
        "vocabulary": manifest.vocabulary,
        "dtype": manifest.dtype.name,
        "sources": sources,
        "digest": manifest.digest,
    }
    storage.write_json(folder_of(run) / NAME, value)


def read(run: Place) -> Manifest:
    """The manifest of a run; InputError when there is none, when it is of a newer format, or was changed by hand."""
    path = folder_of(run) / NAME
    if not storage.exists(path):
        raise InputError("no tokens yet", where=str(run), mend="run `puna tokens` first")
    value = storage.read_json(path)
    try:
        MANIFEST.refuse_newer(value["format"], path)
        sources = {
            name: SourceTokens(tuple(Entry(**shard) for shard in source["shards"]))
            for name, source in sorted(value["sources"].items())
        }
        manifest = Manifest(value["tokenizer"], value["vocabulary"], sources)
        same = manifest.digest == value["digest"]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError("not a manifest of tokens", where=str(path), mend=MEND) from None
    if not same:
        raise InputError("does not match its own digest", where=str(path), mend=MEND)
    return manifest


def verify(run: Place, manifest: Manifest) -> None:
    """Read every shard again; InputError names the file that is not what the manifest says."""
    for source, tokens in manifest.sources.items():
        for shard in tokens.shards:
            path = stem(run, source, shard.name)
            Shard.open(path).verify()
            if _entry(path) != shard:
                raise InputError("not the shard that the manifest names", where=f"{path}.idx", mend=MEND)


def _source(run: Place, source: str, names: Sequence[str], tokenizer: Tokenizer) -> SourceTokens:
    entries: list[Entry] = []
    last = ""
    for name in names:
        path = stem(run, source, name)
        if read_header(path).vocabulary != tokenizer.vocabulary:
            raise InputError("made with another tokenizer", where=f"{path}.idx", mend=MEND)
        entry = _entry(path)
        if entry.documents:
            if entry.first <= last:
                what = f"its first document, {entry.first}, does not come after {last} of the shard before"
                raise InputError(what, where=f"{path}.idx", mend="shards of a source are id ranges in rising order")
            last = entry.last
        entries.append(entry)
    return SourceTokens(tuple(entries))


def _entry(path: Place) -> Entry:
    shard = Shard.open(path)
    header, ids = shard.header, shard.ids
    return Entry(
        name=path.name,
        tokens=header.tokens,
        documents=header.documents,
        bytes=header.bytes,
        first=ids[0] if ids else "",
        last=ids[-1] if ids else "",
        bin=header.digest,
        idx=storage.digest(f"{path}.idx"),
        content=f"{header.content:032x}",
    )
