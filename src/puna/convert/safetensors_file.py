"""Safetensors from outside: the header is read and bounded here before the library maps the file.

A header is a length (8 bytes, little-endian) and that much JSON: name -> dtype, shape, and where its bytes begin and
end. Everything in it may lie. So no size in it is believed before it was compared with the file's: tensors must lie
within the file, one behind the other without gap or overlap, each as long as its shape and dtype say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import safetensors
from torch import Tensor

from puna import storage
from puna.convert.keys import read_settings
from puna.errors import InputError
from puna.storage import Place

LONGEST_HEADER = 100_000_000  # bytes, as the library has it
MOST_DIMENSIONS = 8
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2}
MEND = "get the file again from where it came"


def tensors(path: Place) -> dict[str, Tensor]:
    """All tensors of one file; InputError, naming file and tensor, when its header and its bytes do not agree."""
    with storage.open_read(path) as file:
        header(file, storage.size(path), str(path))
    try:
        with storage.local_copy(path) as copy, safetensors.safe_open(copy, framework="pt") as opened:
            # Copies, so that nothing reads through to a file that may be replaced or cut.
            return {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"is broken ({error})", where=str(path), mend=MEND) from None


def header(file: BinaryIO, size: int, where: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name -> (dtype, shape) of a file of `size` bytes; InputError for a header that does not describe it."""
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(LONGEST_HEADER, size - 8):
        raise InputError(f"is no safetensors file, or cut: {size} bytes, header of {length}", where=where, mend=MEND)
    try:
        entries = json.loads(file.read(length), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise InputError("its header is not JSON with each name once", where=where, mend=MEND) from None
    if not isinstance(entries, dict):
        raise InputError("its header is no JSON object", where=where, mend=MEND)
    entries.pop("__metadata__", None)
    found, places = {}, []
    for name, entry in entries.items():
        dtype, shape, start, end = _entry(entry, f"{where}: {name[:200]}")
        found[name] = (dtype, shape)
        places.append((start, end, name))
    reached = 0
    for start, end, name in sorted(places):
        if start != reached:
            what = f"{name[:200]} begins at byte {start}, where the tensor before it ends at {reached}"
            raise InputError(what, where=where, mend=MEND)
        reached = end
    if reached != size - 8 - length:
        what = f"its tensors take {reached} bytes, and {size - 8 - length} are there"
        raise InputError(what, where=where, mend=MEND)
    return found


def shards(folder: Place) -> Iterator[Place]:
    """The safetensors files of a Hugging Face folder: `model.safetensors`, or those that its index names.

    InputError when there is none, or when the index names a file that does not lie in the folder itself.
    """
    index = folder / "model.safetensors.index.json"
    if not storage.is_file(index):
        if not storage.is_file(folder / "model.safetensors"):
            if any(name.endswith((".bin", ".pth", ".pt")) for name in storage.names(folder)):
                what = "holds weights as pickles only, which are not read"
                raise InputError(what, where=str(folder), mend="save it as safetensors where you trust it")
            raise InputError("holds no model.safetensors", where=str(folder), mend="give a whole model's folder")
        yield within(folder, "model.safetensors", str(folder))
        return
    value = read_settings(index)
    table = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise InputError("is no index of shards", where=str(index), mend=MEND)
    for name in sorted(set(table.values())):
        yield within(folder, name, str(index))


def within(folder: Place, name: str, where: str) -> Place:
    """The file `name` of `folder`. InputError when the name leads out of it, by itself or by a link; the links of a
    download by Hugging Face's client lead to its own files."""
    if PurePosixPath(name).name != name or "\\" in name or "\0" in name or name in ("", ".", ".."):
        raise InputError(f"names the file {name[:200]!r}, which does not lie beside it", where=where, mend=MEND)
    path = folder / name
    if not storage.is_remote(path) and Path(str(path)).is_symlink() and not _in_hub_cache(Path(str(path))):
        raise InputError("is a link to another file", where=str(path), mend="copy the folder with cp -rL")
    if not storage.is_file(path):
        raise InputError(f"names {name}, which is not there", where=where, mend=MEND)
    return path


def _in_hub_cache(path: Path) -> bool:
    """Whether a link is one that Hugging Face's client makes in its cache: from NAME/snapshots/REVISION to a file in
    NAME/blobs, which is that download's own."""
    revision = path.parent.resolve()
    return revision.parent.name == "snapshots" and path.resolve().parent == revision.parents[1] / "blobs"


def _once(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _entry(entry: Any, where: str) -> tuple[str, tuple[int, ...], int, int]:
    """dtype, shape, start and end of one tensor; InputError when they do not agree."""
    if not isinstance(entry, dict):
        raise InputError("is no tensor's entry", where=where, mend=MEND)
    dtype, shape, offsets = str(entry.get("dtype")), entry.get("shape", []), entry.get("data_offsets", [])
    if dtype not in WIDTHS:
        known = ", ".join(WIDTHS)
        raise InputError(f"has dtype {dtype[:40]!r}", where=where, mend=f"known are {known}")
    if not _are_sizes(shape, MOST_DIMENSIONS) or not _are_sizes(offsets, 2) or len(offsets) != 2:
        raise InputError("its shape or offsets are no sizes", where=where, mend=MEND)
    start, end = offsets
    if end - start != prod(shape) * WIDTHS[dtype]:
        what = f"takes bytes {start} to {end}, but {shape} of {dtype} is {prod(shape) * WIDTHS[dtype]} bytes"
        raise InputError(what, where=where, mend=MEND)
    return dtype, tuple(shape), start, end


def _are_sizes(value: Any, most: int) -> bool:
    return isinstance(value, list) and len(value) <= most and all(type(n) is int and 0 <= n < 1 << 63 for n in value)
