"""A recipe as text: the resolved TOML and JSON, the table of every key, and the one line said about a wrong value.

It walks the models of recipe.py by their fields and knows no key itself, so a key is described in one place only: its
type and the string under it.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from puna.errors import InputError
from puna.recipe_layers import COMMAND_LINE, DEFAULT, Key, Origins
from puna.recipe_values import takes, written

LINE = 120  # longer lists of a TOML file get one line an item
SHOWN = 60  # characters of a wrong value that an error repeats


class Explained(NamedTuple):
    """One resolved value: its dotted key, the value as Python holds it, and who set it."""

    key: str
    value: object
    origin: str


def explained(recipe: BaseModel, origins: Origins) -> list[Explained]:
    """Every resolved value in the schema's order; tables of free keys (`sources.github.declared`) key by key."""
    rows = []
    for key, value, _ in leaves(recipe):
        under = value if isinstance(value, dict) and value else None
        for inner, item in under.items() if under else [(None, value)]:
            full = key if inner is None else (*key, inner)
            rows.append(Explained(dotted(full), item, origins.get(full, DEFAULT)))
    return rows


def toml(recipe: BaseModel, origins: Origins | None = None) -> str:
    """The resolved recipe as a TOML file that loads to the same values; with `origins`, each line says who set it.

    Unset values are left out: TOML has no null, and what is left out is unset again when it is read.
    """
    lines: list[str] = []
    section: Key = ()
    for key, value, field in leaves(recipe):
        if value is None:
            continue
        if key[:-1] != section:
            section = key[:-1]
            lines += ["", f"[{dotted(section)}]"]
        line = f"{key[-1]} = {toml_value(value, takes(field.annotation, field.metadata).unit)}"
        if len(line) > LINE and isinstance(value, list):
            line = "\n".join([f"{key[-1]} = [", *(f"  {toml_value(item)}," for item in value), "]"])
        if origins is not None:
            who = sorted({origin for known, origin in origins.items() if known[: len(key)] == key}) or [DEFAULT]
            line += "  # " + "".join(letter if letter.isprintable() else "?" for letter in ", ".join(who))
        lines.append(line)
    return "\n".join(lines) + "\n"


def json_text(recipe: BaseModel, origins: Origins) -> str:
    """The resolved recipe as one JSON object with the sections of the TOML, counts as plain numbers, and `origins`."""
    values: dict[str, Any] = {}
    for key, value, _ in leaves(recipe):
        table = values
        for name in key[:-1]:
            table = table.setdefault(name, {})
        table[key[-1]] = float(value) if isinstance(value, Decimal) else value
    values["origins"] = {row.key: row.origin for row in explained(recipe, origins)}
    return json.dumps(values, ensure_ascii=False, indent=1) + "\n"


def table(model: type[BaseModel], *, shared: str) -> str:
    """Every key of the recipe as a Markdown table; keys that all of `shared`'s tables have are listed once."""
    rows = ["| key | takes | default | what it does |", "|---|---|---|---|"]
    seen, told = set(), dict(_told(model))
    for key, field in schema(model):
        where = (shared, shared.upper().removesuffix("S"), key[-1])
        is_common = key[0] == shared and _is_common(model, shared, key[-1])
        name = dotted(where if is_common else key)
        if name in seen:
            continue
        seen.add(name)
        kind = takes(field.annotation, field.metadata)
        default = None if field.is_required() else field.get_default(call_default_factory=True)
        shown = (
            "required" if field.is_required() else "unset" if default is None else f"`{toml_value(default, kind.unit)}`"
        )
        cells = (f"`{name}`", kind.text, shown, " ".join(told[key].split()))
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def refusal(error: ValidationError, model: type[BaseModel], origins: Origins) -> InputError:
    """The first thing wrong as one line: an unknown key with the nearest real one, or what the value's key takes."""
    first = min(error.errors(include_url=False), key=lambda found: found["type"] != "extra_forbidden")
    fields = {key: field.annotation for key, field in _everything(model)}
    place = tuple(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        key = place + _first_leaf(first["input"])
        near = _nearest(key, [("extends",), *(known for known, _ in schema(model))])
        return InputError(f"unknown key {dotted(key)}", where=_file(origins, place), mend=near)
    key = max((known for known in fields if place[: len(known)] == known), key=len, default=())
    where = _file(origins, key)
    reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else ""
    if reason and (not key or is_section(fields[key])):
        return InputError(reason, where=where)
    if is_section(fields[key]):
        needed = [known[-1] for known, field in schema(model) if known[:-1] == key and field.is_required()]
        what = f"{dotted(key)} is missing" if first["type"] == "missing" else f"{dotted(key)} takes a table"
        return InputError(
            what, where=where, mend=f"write [{dotted(key)}] and under it {', '.join(needed) or 'its keys'}"
        )
    field = dict(schema(model))[key]
    accepted = takes(field.annotation, field.metadata).text
    if first["type"] == "missing":
        return InputError(f"{dotted(key)} is missing", where=_file(origins, key[:-1]), mend=f"it takes {accepted}")
    shown = toml_value(first["input"])
    shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
    return InputError(f"{dotted(key)} takes {accepted}, not {shown}", where=where, mend=reason)


def schema(model: type[BaseModel], above: Key = ()) -> Iterator[tuple[Key, FieldInfo]]:
    """The keys that hold values, in order."""
    for key, field in _everything(model, above):
        if not is_section(field.annotation):
            yield key, field


def leaves(recipe: BaseModel, above: Key = ()) -> Iterator[tuple[Key, Any, FieldInfo]]:
    """The values of a recipe, in the schema's order; sections that are unset (sources) are passed over."""
    for name, field in type(recipe).model_fields.items():
        value = getattr(recipe, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*above, name))
        elif not is_section(field.annotation):
            yield (*above, name), value, field


def is_section(annotation: Any) -> bool:
    return _section(annotation) is not None


def dotted(key: Key) -> str:
    """("sources", "github", "share") -> sources.github.share; a name that TOML must quote is quoted."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else _quoted(part) for part in key)


def toml_value(value: Any, unit: str = "") -> str:
    """One value as TOML writes it; counts with their unit."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        is_plain = "\\" in value and "'" not in value and value.isprintable()
        return f"'{value}'" if is_plain else _quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{dotted((name,))} = {toml_value(item)}" for name, item in value.items()) + "}"
    return f'"{written(value, unit)}"' if unit else str(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _everything(model: type[BaseModel], above: Key = ()) -> Iterator[tuple[Key, FieldInfo]]:
    """Sections and the keys inside them, in order."""
    for name, field in model.model_fields.items():
        yield (*above, name), field
        inner = _section(field.annotation)
        if inner:
            yield from _everything(inner, (*above, name))


def _told(model: type[BaseModel], above: Key = ()) -> Iterator[tuple[Key, str]]:
    """The string under each key. Read when it is asked for: pydantic would read all sources in every process."""
    under = {}
    for owner in model.__mro__[::-1]:
        if issubclass(owner, BaseModel) and owner not in BaseModel.__mro__:
            for line, below in pairwise(ast.parse(inspect.getsource(owner)).body[0].body):  # type: ignore[attr-defined]
                if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr):
                    under[ast.unparse(line.target)] = str(ast.literal_eval(below.value))
    for name, field in model.model_fields.items():
        yield (*above, name), under.get(name, "")
        if inner := _section(field.annotation):
            yield from _told(inner, (*above, name))


def _section(annotation: Any) -> type[BaseModel] | None:
    for part in (annotation, *get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _is_common(model: type[BaseModel], shared: str, name: str) -> bool:
    tables = [_section(field.annotation) for key, field in _everything(model) if len(key) == 2 and key[0] == shared]
    return all(inner is not None and name in inner.model_fields for inner in tables)


def _first_leaf(value: Any) -> Key:
    """Inside an unknown table, the first key that was set: the whole of what the user typed."""
    if not isinstance(value, dict) or not value:
        return ()
    name, inner = next(iter(value.items()))
    return (str(name), *_first_leaf(inner))


def _nearest(key: Key, known: list[Key]) -> str:
    """The mend for an unknown key: the real one that is spelled most alike, weighing the whole and its last word."""

    def likeness(other: Key) -> float:
        whole = difflib.SequenceMatcher(None, dotted(key), dotted(other)).ratio()
        return (whole + difflib.SequenceMatcher(None, key[-1], other[-1]).ratio()) / 2

    best = max(known, key=likeness)
    if likeness(best) >= 0.6:
        return f"did you mean {dotted(best)}?"
    depth = max(size for size in range(len(key)) if any(other[:size] == key[:size] for other in known))
    beside = dict.fromkeys(other[depth] for other in known if other[:depth] == key[:depth] and len(other) > depth)
    return f"{dotted(key[:depth]) or 'a recipe'} has {', '.join(beside)}"


def _file(origins: Origins, key: Key) -> str:
    """The file to name in an error; nothing for what was just typed on the command line."""
    found = [origin for known, origin in origins.items() if known[: len(key)] == key]
    return "" if not found or COMMAND_LINE in found else found[-1]
