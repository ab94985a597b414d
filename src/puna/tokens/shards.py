"""A token shard: the documents of one id range as one array of token ids, and an index of where each document lies.

    STEM.bin    the ids, little-endian uint16 (uint32 above 65,536 pieces), each document <s> ids </s>
    STEM.idx    88 bytes of header, then documents + 1 offsets (uint64, in tokens), then each document's id (16 bytes)

Header, little-endian: magic (8 bytes), format version (uint16), bytes a token (uint16), vocabulary (uint32), tokens,
documents, bytes of text (uint64 each), and three 128-bit xxh3 digests: of STEM.bin; of the content; of the header
before it together with all that follows the header. The index is written last: a shard without one is not finished.

The content digest is the sum over the documents, modulo 2^128, of each one's digest of id and tokens. So it belongs to
the set of documents, and the digests of shards add up to that of their source however it was cut into shards.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from puna import storage
from puna.errors import InputError
from puna.formats import INDEX_MAGIC, SHARD
from puna.storage import Location, Place
from puna.tokenizer import Ids, Tokenizer, dtype_for

MEND = "delete the shard and run `puna tokens` again"
_BEFORE = struct.Struct("<8sHHIQQQ16s16s")  # the header up to the digest of the index
_HEADER_BYTES = _BEFORE.size + 16


class Part(NamedTuple):
    """What a stretch of tokens holds of one document: tokens `first` up to, not with, `last`, counted from the
    stretch's start."""

    document: str  # its id, 32 hex digits
    first: int
    last: int


@dataclass(frozen=True)
class Header:
    """What a shard says of itself. content: an integer below 2^128; digest: of the .bin file, "xxh3:" and 32 hex."""

    vocabulary: int
    tokens: int
    documents: int
    bytes: int
    digest: str
    content: int


def write_shard(stem: Location, documents: Iterable[tuple[str, str]], tokenizer: Tokenizer) -> dict[str, int]:
    """Write STEM.bin and STEM.idx from (id, text) pairs, which come in rising order of id.

    Memory is the index and one document. Returns {"tokens", "documents", "bytes"}; bytes are of UTF-8 text.
    """
    offsets, ids, text_bytes, content = [0], bytearray(), 0, 0
    state = xxhash.xxh3_128()
    last = b""
    with storage.create(f"{stem}.bin") as file:
        for document, text in documents:
            key = _key(document, stem)
            if key <= last:
                what = f"document {document} comes after {last.hex()}"
                raise InputError(what, where=f"{stem}.bin", mend="give the documents sorted by id, each once")
            last = key
            row = _row(text, tokenizer)
            data = row.tobytes()
            file.write(data)
            state.update(data)
            content += xxhash.xxh3_128_intdigest(key + data)
            offsets.append(offsets[-1] + len(row))
            ids += key
            text_bytes += len(text.encode())
    before = _BEFORE.pack(
        INDEX_MAGIC,
        SHARD.version,
        tokenizer.dtype.itemsize,
        tokenizer.vocabulary,
        offsets[-1],
        len(offsets) - 1,
        text_bytes,
        state.digest(),
        (content % 2**128).to_bytes(16, "big"),
    )
    body = np.array(offsets, dtype="<u8").tobytes() + bytes(ids)
    storage.write(f"{stem}.idx", before + xxhash.xxh3_128_digest(before + body) + body)
    return {"tokens": offsets[-1], "documents": len(offsets) - 1, "bytes": text_bytes}


class Shard:
    """A shard opened for reading. `tokens` is a memory map; the index is read when it is first asked for."""

    def __init__(self, stem: Place, header: Header, tokens: Ids) -> None:
        self.stem, self.header, self.tokens = stem, header, tokens

    @staticmethod
    def open(stem: Location) -> Shard:
        """Map the shard; InputError names the file that is missing, of a newer format, or of the wrong length."""
        header = read_header(stem)
        dtype = dtype_for(header.vocabulary)
        path = f"{stem}.bin"
        with storage.local_copy(path) as copy, copy.open("rb") as file:
            size = file.seek(0, 2)
            if size != header.tokens * dtype.itemsize:
                what = f"{size} bytes where its index says {header.tokens * dtype.itemsize}"
                raise InputError(what, where=path, mend=MEND)
            # An empty file cannot be mapped. A copy from an object store goes with its name, and stays while mapped.
            data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        return Shard(storage.place(stem), header, np.frombuffer(data, dtype=dtype))

    @property
    def offsets(self) -> npt.NDArray[np.uint64]:
        """(documents + 1,): where each document starts in `tokens`, and the end."""
        return self._index[0]

    @property
    def ids(self) -> list[str]:
        """The documents' ids in order."""
        keys = self._index[1]
        return [keys[i : i + 16].hex() for i in range(0, len(keys), 16)]

    def parts(self, start: int, stop: int) -> list[Part]:
        """The documents of tokens `start` to `stop` (not with it) of this shard, counted from `start`."""
        offsets, keys = self._index
        row = int(np.searchsorted(offsets, start, side="right")) - 1
        found = []
        while row < self.header.documents and int(offsets[row]) < stop:
            first, last = max(start, int(offsets[row])), min(stop, int(offsets[row + 1]))
            found.append(Part(keys[16 * row : 16 * row + 16].hex(), first - start, last - start))
            row += 1
        return found

    def verify(self) -> None:
        """Read all of the shard; InputError when a byte is not what was written."""
        _ = self._index
        if storage.digest(f"{self.stem}.bin") != self.header.digest:
            raise InputError("damaged: its bytes are not those that were written", where=f"{self.stem}.bin", mend=MEND)

    @cached_property
    def _index(self) -> tuple[npt.NDArray[np.uint64], bytes]:
        path = f"{self.stem}.idx"
        data = storage.read(path)
        body = data[_HEADER_BYTES:]
        written = data[_BEFORE.size : _HEADER_BYTES]
        if xxhash.xxh3_128_digest(data[: _BEFORE.size] + body) != written:
            raise InputError("damaged: its bytes are not those that were written", where=path, mend=MEND)
        cut = 8 * (self.header.documents + 1)
        return np.frombuffer(body[:cut], dtype="<u8"), body[cut:]


def read_header(stem: Location) -> Header:
    """What STEM.idx says of the shard; InputError when it is no index, of a newer format, or cut off."""
    path = f"{stem}.idx"
    with storage.open_read(path) as file:
        data = file.read(_HEADER_BYTES)
        size = file.seek(0, 2)
    if len(data) < _HEADER_BYTES or not data.startswith(INDEX_MAGIC):
        raise InputError("not the index of a token shard", where=path, mend=MEND)
    _, version, width, vocabulary, tokens, documents, text_bytes, digest, content = _BEFORE.unpack_from(data)
    SHARD.refuse_newer(version, path)
    if width != dtype_for(vocabulary).itemsize or size != _HEADER_BYTES + 24 * documents + 8:
        raise InputError(f"damaged: {size} bytes do not fit its {documents} documents", where=path, mend=MEND)
    return Header(vocabulary, tokens, documents, text_bytes, f"xxh3:{digest.hex()}", int.from_bytes(content, "big"))


def _row(text: str, tokenizer: Tokenizer) -> Ids:
    (ids,) = tokenizer.encode_batch([text])
    row = np.empty(len(ids) + 2, dtype=tokenizer.dtype)
    row[0], row[1:-1], row[-1] = tokenizer.bos, ids, tokenizer.eos
    return row


def _key(document: str, stem: Location) -> bytes:
    try:
        key = bytes.fromhex(document)
    except ValueError:
        key = b""
    if len(key) != 16 or key.hex() != document:
        raise InputError(f"{document!r} is not a document id of 32 hex digits", where=f"{stem}.bin")
    return key
