"""The kinds of value a recipe holds: what each takes, and how a number with a unit is read and written.

Counts have a unit so that a recipe reads like the paper's Table 2 ("4M tokens", "1.4T"); K, M, B, T and KB, MB, GB, TB
are decimal. Fractional values arrive as Decimal, since the TOML reader keeps them exact: the shares of Table 1 become a
schedule of windows that two machines must agree on; all others become floats. Each kind carries a `Takes`, the one text
behind both an error ("takes ...") and the table in docs/recipe.md.
"""

from __future__ import annotations

import json
import re
import types
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, Field

LARGEST = 2**63 - 1  # what a 64-bit integer of any later station holds


@dataclass(frozen=True)
class Takes:
    """What a kind of value accepts, in words that follow "takes"; `unit` is set for counts only."""

    text: str
    unit: str = ""


_SCALES = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_BYTE_SCALES = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z\s]*)")


def count(value: object, unit: str) -> int:
    """Reads `"4M tokens"`, `"1.4T"`, `"2000 steps"`, `"10 MB"` or a bare number as a whole number of `unit`.

    unit: "tokens", "steps" or "bytes". Raises ValueError for another unit's word, a fraction, or more than 2**63 - 1.
    """
    match = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    if match:
        factor = _factors(unit).get("".join(match[2].split()).lower())
        if factor is None:
            raise ValueError(f'"{match[2].strip()}" does not count {unit}')
        number = Decimal(match[1]) * factor
    elif isinstance(value, int | Decimal) and not isinstance(value, bool):
        number = Decimal(value)
    else:
        raise ValueError
    if not number.is_finite() or not 0 <= number <= LARGEST or number != int(number):
        raise ValueError
    return int(number)


def written(number: int, unit: str) -> str:
    """The shortest exact form that `count` reads back: 4000000 tokens -> `4M tokens`, 1024 -> `1024 tokens`."""
    scales = {"tokens": _SCALES, "bytes": _BYTE_SCALES}.get(unit, {})
    for name, scale in reversed(scales.items()):
        if number >= scale and number % (scale // 10) == 0:
            digits = f"{number // scale}" if number % scale == 0 else f"{Decimal(number) / scale}"
            return f"{digits} {name}" if unit == "bytes" else f"{digits}{name} {unit}"
    return f"{number} {unit}"


def takes(annotation: Any, metadata: Sequence[Any] = ()) -> Takes:
    """What a field of this type accepts; metadata: what pydantic has moved from the type to the field."""
    arguments = get_args(annotation)
    for item in reversed(metadata):  # the last is the narrowest: kinds are built upon kinds
        if isinstance(item, Takes):
            return item
    if get_origin(annotation) is Annotated:
        return takes(arguments[0], arguments[1:])
    if get_origin(annotation) is Literal:
        return Takes("one of " + ", ".join(json.dumps(argument) for argument in arguments))
    if get_origin(annotation) is list:
        return Takes(f"a list; each is {takes(arguments[0]).text}")
    if get_origin(annotation) in (Union, types.UnionType):
        inner = takes(arguments[0])
        return Takes(f'{inner.text}, or "none"', inner.unit)
    return Takes("true or false" if annotation is bool else "a table")


def _factors(unit: str) -> dict[str, int]:
    """What may follow the number, lower case and without spaces, and what it multiplies by."""
    if unit == "bytes":
        return {"": 1, "byte": 1, "bytes": 1} | {name.lower(): scale for name, scale in _BYTE_SCALES.items()}
    scales = {"": 1} | {name.lower(): scale for name, scale in _SCALES.items()}
    return {scale + word: factor for scale, factor in scales.items() for word in ("", unit, unit.removesuffix("s"))}


def _real(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value


def _exact(value: object) -> object:
    return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _unset(value: object) -> object:
    return None if value == "none" else value


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{error}") from None
    return value


def _two_rising(value: list[float]) -> list[float]:
    if value and (len(value) != 2 or value[0] >= value[1]):
        raise ValueError("is not two rising numbers")
    return value


A_YEAR = 365 * 24 * 60  # minutes


def _none_or_a_second(value: float) -> float:
    if 0 < value < 1 / 60 or value > A_YEAR:
        raise ValueError("too few" if value < 1 else "more than a year")
    return value


T = TypeVar("T")
Maybe = Annotated[T | None, BeforeValidator(_unset)]  # TOML has no null: the word "none" lifts a value set further down

Texts = Annotated[list[str], Takes('a list of texts, such as ["en", "de"]')]
TextTable = Annotated[dict[str, str], Takes('a table of texts, such as {numpy = "BSD-3-Clause"}')]
Patterns = Annotated[
    list[Annotated[str, BeforeValidator(_pattern)]], Takes("a list of regular expressions, such as ['(^|/)vendor/']")
]
Whole = Annotated[int, Field(ge=0, le=LARGEST), Takes("a whole number, 0 or more")]
Integer = Annotated[int, Field(ge=-LARGEST, le=LARGEST), Takes("a whole number, such as -3")]
Positive = Annotated[int, Field(gt=0, le=LARGEST), Takes("a whole number above 0")]
Number = Annotated[float, BeforeValidator(_real), Field(ge=0, allow_inf_nan=False), Takes("a number, 0 or more")]
Minutes = Annotated[Number, AfterValidator(_none_or_a_second), Takes("minutes, 1/60 or more, or 0")]
PositiveNumber = Annotated[float, BeforeValidator(_real), Field(gt=0, allow_inf_nan=False), Takes("a number above 0")]
Fraction = Annotated[float, BeforeValidator(_real), Field(ge=0, le=1), Takes("a number from 0 to 1")]
Percentiles = Annotated[
    list[Annotated[float, BeforeValidator(_real), Field(gt=0, lt=100)]],
    AfterValidator(_two_rising),
    Takes("two rising numbers between 0 and 100, such as [30, 60], or none"),
]
Share = Annotated[
    Decimal,
    BeforeValidator(_exact),
    Field(gt=0, le=1, decimal_places=9),
    Takes("a number above 0, at most 1, with at most 9 decimals"),
]
Tokens = Annotated[
    int, BeforeValidator(partial(count, unit="tokens")), Field(gt=0), Takes('tokens, such as "4M tokens"', "tokens")
]
Steps = Annotated[
    int, BeforeValidator(partial(count, unit="steps")), Field(ge=0), Takes('steps, such as "2000 steps"', "steps")
]
PositiveSteps = Annotated[Steps, Field(gt=0), Takes('at least one step, such as "1000 steps"', "steps")]
Bytes = Annotated[
    int, BeforeValidator(partial(count, unit="bytes")), Field(ge=0), Takes('bytes, such as "10 MB"', "bytes")
]
PositiveBytes = Annotated[Bytes, Field(gt=0), Takes('at least one byte, such as "10 MB"', "bytes")]
