"""A model made here into the forms that others read, and models of others into Puna's: `export` and `take`.

Each form has a module with `read` and `write` over the same parts (parts.py); names and rotary layouts are in names.py.
An export is written aside, read back and compared with the model (comparison.py), and only then gets its name. What is
read is never believed: headers are bounded before a library sees them, and nothing is unpickled into objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from puna import storage
from puna.convert import card as cards
from puna.convert import foreign, gguf, gguf_file, huggingface, meta, own
from puna.convert.card import Card
from puna.convert.comparison import Mismatch, verify
from puna.convert.parts import DTYPES, NAMES, Parts
from puna.errors import InputError
from puna.storage import Location, Place
from puna.unfinished import sweep_beside

__all__ = ["FORMS", "Form", "Mismatch", "Parts", "check", "export", "read", "take"]


@dataclass(frozen=True)
class Form:
    """A form in which models lie on disk."""

    what: str
    read: Callable[[Place], Parts]
    dtypes: tuple[str, ...] = tuple(DTYPES)
    """What an export may be stored as."""


FORMS = {
    "hf": Form("a folder of Hugging Face", huggingface.read),
    "gguf": Form("a GGUF file", gguf.read, gguf.DTYPES),
    "meta": Form("a folder in Meta's layout", meta.read),
    "puna": Form("a folder of Puna", own.read),
}


def export(
    model: Location,
    to: str,
    out: Location,
    *,
    dtype: str | None = None,
    require_reader: bool = False,
    shard_size: int = huggingface.SHARD,
    licence: str = "",
    card: Card = cards.text,
    ranks: int = 1,
) -> str:
    """Write `model` (a run, a checkpoint, an imported folder) to `out` in the form `to`; a line that says who read it
    back and how far its logits were.

    dtype: of FORMS[to].dtypes; None: as it is stored. shard_size, licence, card: of hf. ranks: of meta. require_reader:
    fail unless the form's own program is installed. Memory: three times the model in f32. Raises InputError for what
    cannot be exported so, and Mismatch, leaving nothing on disk, when what was written does not say what the model
    says.
    """
    form = FORMS[to]
    _refuse(to, dtype, require_reader)
    target = _free(out)
    parts, kind = _wanted(model, dtype)
    if to == "gguf":
        wanted = replace(parts, state=gguf.rounded(parts, kind))
        with _aside(target) as file:
            gguf.write(file, parts, dtype=kind)
            return verify(to, file, wanted, gguf.read, kind)
    with storage.create_folder(target) as folder:
        if to == "hf":
            huggingface.write(folder, parts, shard_size=shard_size, licence=licence, card=card)
        elif to == "meta":
            meta.write(folder, parts, ranks=ranks)
        else:
            own.write(folder, parts, {"from": "puna", "name": parts.name})
        return verify(to, folder, parts, form.read, kind)


def check(model: Location, to: str, out: Location, *, dtype: str | None = None, require_reader: bool = False) -> str:
    """Hold an export that lies at `out` against `model`, as `export` did before it got its name; the same line. Of the
    forms but gguf. Raises Mismatch when it is another model's, or was changed."""
    _refuse(to, dtype, require_reader)
    parts, kind = _wanted(model, dtype)
    return verify(to, Path(str(storage.place(out))), parts, FORMS[to].read, kind)


def read(source: Location, form: str | None = None) -> tuple[str, Parts]:
    """The form and the parts of a model from elsewhere; InputError for what is none, or is damaged."""
    place = storage.place(source)
    found = form or _form(place)
    return found, FORMS[found].read(place)


def take(source: Location, out: Location, *, form: str | None = None, dtype: str | None = None) -> Parts:
    """Write the model at `source` as a folder that `puna.load` takes, with origin.json; its parts.

    Raises InputError for what is damaged, is no LLaMA, or does more than Puna's model does.
    """
    target = _free(out)
    found, parts = read(source, form)
    if dtype is not None:
        parts = parts.cast(DTYPES[dtype])
    place = storage.place(source)
    files = (
        {name: storage.digest(place / name) for name in storage.tree(place)}
        if storage.is_folder(place)
        else {place.name: storage.digest(place)}
    )
    with storage.create_folder(target) as folder:
        own.write(folder, parts, {"from": found, "name": place.name, "files": files})
    return parts


def _refuse(to: str, dtype: str | None, require_reader: bool) -> None:
    """InputError for a dtype that the form does not have, and for a reader that is insisted on and not there."""
    form = FORMS[to]
    if dtype is not None and dtype not in form.dtypes:
        raise InputError(f"{to} is not written as {dtype}", mend=f"there are {', '.join(form.dtypes)}")
    if require_reader and foreign.installed(to) is None:
        name, package = foreign.READERS.get(to, (form.what, ""))
        mend = f"install {package}" if package else "leave --require-reader out"
        raise InputError(f"the reader of {to} that is asked for, {name}, is not installed", mend=mend)


def _wanted(model: Location, dtype: str | None) -> tuple[Parts, str]:
    """The parts as an export is to say them, and the dtype's name."""
    parts = own.read(model)
    if dtype in DTYPES:
        parts = parts.cast(DTYPES[dtype])
    elif len({tensor.dtype for tensor in parts.state.values()}) > 1:
        parts = parts.cast(parts.dtype)
    return parts, dtype or NAMES[parts.dtype]


def _form(place: Place) -> str:
    """Which form the model at `place` has; InputError when none is known by what lies there."""
    if not storage.exists(place):
        raise InputError("no such file or folder", where=str(place))
    if storage.is_folder(place) and huggingface.is_one(place):
        return "hf"
    if storage.is_folder(place):
        return "meta" if meta.is_one(place) else "puna"
    if not storage.is_file(place):  # a pipe, say, which is never read to its end
        raise InputError("is no file and no folder", where=str(place))
    with storage.open_read(place) as file:
        if file.read(4) == gguf_file.MAGIC:
            return "gguf"
    raise InputError("is no model in a form that is known", where=str(place), mend=f"known are {', '.join(FORMS)}")


@contextmanager
def _aside(target: Place) -> Iterator[Path]:
    """A name beside `target` for a file, which gets its name when the block ends without an exception."""
    sweep_beside(Path(str(target)))
    path = storage.aside(Path(str(target)))
    try:
        yield path
        _free(target)  # somebody else may have been faster
        storage.move(path, target)
    finally:
        storage.remove(path)


def _free(out: Location) -> Place:
    place = storage.place(out)
    if storage.exists(place):
        raise InputError("is there already", where=str(out), mend="give another name, or remove it")
    if storage.is_remote(place):
        raise InputError("is on an object store", where=str(out), mend="give a folder of this machine, and copy it")
    return place
