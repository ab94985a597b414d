"""Where a recipe's values come from: a TOML file, the one it extends, the command line; nothing is judged here.

Layers are laid over each other, tables key by key, and every value keeps the name of the layer that set it, so that
`puna recipe show` can say of each number who chose it. `extends` goes one level: with two files open a reader knows
every value, with a chain nobody does.
"""

from __future__ import annotations

import datetime
import difflib
import re
import stat
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.formats import RECIPE
from puna.progress import size

RECIPES = Path(__file__).with_name("recipes")
LARGEST = 1_000_000  # bytes of a recipe
DEEPEST = 8  # levels of tables; no key of a recipe has more than three
COMMAND_LINE = "command line"
DEFAULT = "default"
ALTERNATIVES = (("train", "tokens", "steps"), ("train", "steps", "tokens"))  # setting one replaces the other below it

Key = tuple[str, ...]  # ("train", "tokens")
Values = dict[str, Any]
Origins = dict[Key, str]


def gather(name_or_path: str | Path, overrides: Sequence[str] = ()) -> tuple[Values, Origins]:
    """The values of one recipe, resolved but not yet validated, and the origin of each.

    name_or_path: a name in recipes/, or the path of a TOML file. Raises InputError: no such recipe, a file that cannot
    be read or is not TOML, no `name`, more than one level of `extends`, an override that is not key=value.
    """
    own, origin, folder = read(str(name_or_path))
    if "name" not in own:
        raise InputError("name is missing", where=origin, mend='begin it with name = "..."')
    values: Values = {}
    origins: Origins = {}
    if "extends" in own:
        extended, extended_origin = _extended(own.pop("extends"), origin, folder)
        lay(values, origins, extended, extended_origin)
    lay(values, origins, own, origin)
    lay(values, origins, _overrides(overrides), COMMAND_LINE)
    return values, origins


def read(name_or_path: str, folder: Path = Path()) -> tuple[Values, str, Path]:
    """One recipe file as it stands: its values, how it is named in messages, and its folder.

    folder: what a relative path is relative to. Raises InputError; Newer when its `format` is one of a newer Puna.
    """
    if not name_or_path:
        raise InputError("the name of a recipe is empty", mend=f"the recipes are {', '.join(names())}")
    if name_or_path in names():
        path, origin = RECIPES / f"{name_or_path}.toml", f"recipes/{name_or_path}.toml"
    else:
        path, origin = folder / name_or_path, name_or_path
    if storage.is_remote(name_or_path):
        raw, path = storage.read(name_or_path), folder / "recipe.toml"
    else:
        raw = _bytes(path, origin, name_or_path)
    values = _parsed(raw, origin)
    _refuse_format(values.pop("format", 1), origin)
    return values, origin, path.parent


def names() -> list[str]:
    """The recipes inside the package."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


def lay(values: Values, origins: Origins, layer: Values, origin: str) -> None:
    """Lays `layer` over `values` in place: tables merge key by key, anything else replaces what was below."""
    for section, key, other in ALTERNATIVES:
        upper, lower = layer.get(section), values.get(section)
        if isinstance(upper, dict) and isinstance(lower, dict) and key in upper and other not in upper:
            lower.pop(other, None)
            origins.pop((section, other), None)
    _lay_table(values, origins, layer, origin, ())


def _lay_table(values: Values, origins: Origins, layer: Values, origin: str, above: Key) -> None:
    if len(above) > DEEPEST:
        what = f"unknown key {'.'.join(above[:3])}..., {len(above)} levels deep"
        raise InputError(what, where=origin, mend="puna recipe keys lists them all")
    for name, value in layer.items():
        key = (*above, name)
        is_table = isinstance(value, dict)
        if not (is_table and isinstance(values.get(name), dict)):
            values[name] = {} if is_table else value
            for lost in [known for known in origins if known[: len(key)] == key]:
                del origins[lost]
        if is_table:
            _lay_table(values[name], origins, value, origin, key)
        else:
            origins[key] = origin


def _extended(extends: object, origin: str, folder: Path) -> tuple[Values, str]:
    if not isinstance(extends, str):
        raise InputError("extends takes the name or path of one recipe, in quotes", where=origin)
    try:
        values, extended_origin, _ = read(extends, folder)
    except InputError as error:
        raise InputError(f"extends: {error}", where=origin) from None
    if "extends" in values:
        what = f"extends {extends}, which itself extends {values['extends']}"
        raise InputError(
            what, where=origin, mend="only one level is allowed: extend the last one and repeat what differs"
        )
    values.pop("name", None)
    return values, extended_origin


def _overrides(overrides: Sequence[str]) -> Values:
    """`section.key=value` words as one layer; what is not TOML is text, so "4M tokens" needs no quotes."""
    layer: Values = {}
    for override in overrides:
        name, equals, text = override.partition("=")
        key = _toml(f"{name} = 0") if equals and "\n" not in name else None
        if not key:
            raise InputError(f'"{override}" is not section.key=value', mend="for example train.learning_rate=1e-3")
        if name.strip() in ("extends", "format"):
            raise InputError(f"{name.strip()} cannot be given on the command line", mend="write it in a recipe file")
        value = _value(text.strip())
        if isinstance(value, str) and value[:1] in ("[", "{"):
            raise InputError(
                f"{name.strip()}: {text} is not TOML", mend="""quote it for the shell: 'section.key=["en", "de"]'"""
            )
        _lay_table(layer, {}, _with_leaf(key, value), COMMAND_LINE, ())
    return layer


def _value(text: str) -> Any:
    table = _toml(f"value = {text}")
    value = table["value"] if table and len(table) == 1 else text
    return text if isinstance(value, datetime.date | datetime.time) else value


def _with_leaf(table: Values, value: Any) -> Values:
    """{"train": {"tokens": 0}} -> {"train": {"tokens": value}}"""
    return {name: _with_leaf(below, value) if isinstance(below, dict) else value for name, below in table.items()}


def _toml(text: str) -> Values | None:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError):
        return None


def _bytes(path: Path, origin: str, name_or_path: str) -> bytes:
    """A whole file. What is none is refused before it is opened, since a named pipe would be waited for without end."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise InputError("is a folder", where=origin, mend="a recipe is a TOML file in it or a name")
        if not stat.S_ISREG(status.st_mode):
            raise InputError("is not a regular file", where=origin, mend="write the recipe to a file")
        if status.st_size > LARGEST:
            what = f"holds {size(status.st_size)}; a recipe is TOML of at most {size(LARGEST)}"
            raise InputError(what, where=origin, mend="is it another file?")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise _missing(name_or_path) from None
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=origin) from None


def _parsed(raw: bytes, origin: str) -> Values:
    try:
        return tomllib.loads(raw.decode("utf-8-sig"), parse_float=Decimal)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError("not UTF-8 text", where=f"{origin}, line {line}", mend="save it as UTF-8") from None
    except (ValueError, ArithmeticError, RecursionError) as error:
        what, found = re.subn(r" \(at (line (\d+), column \d+|end of document)\)$", "", str(error))
        at = re.search(r"\(at line (\d+)", str(error)) if found else None
        line = int(at[1]) if at else max(1, len(raw.splitlines()))
        raise InputError(f"broken TOML: {what}", where=f"{origin}, line {line}") from None


def _refuse_format(found: object, origin: str) -> None:
    """A file without a format, as people write them, is read as this Puna writes it."""
    RECIPE.refuse_newer(found, origin)
    if type(found) is not int or found < 1:
        raise InputError(f"format takes a whole number from 1, not {found!r}", where=origin, mend="leave it out")


def _missing(name_or_path: str) -> InputError:
    known = names()
    stem = Path(name_or_path).name.removesuffix(".toml")
    close = difflib.get_close_matches(stem, known, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]}? " if close else ""
    is_path = name_or_path.endswith(".toml") or "/" in name_or_path
    what = f"no recipe file {name_or_path}" if is_path else f'no recipe "{name_or_path}"'
    return InputError(what, mend=f"{guess}the recipes are {', '.join(known)}, or the path of a TOML file")
