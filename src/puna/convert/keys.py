"""Settings from a file that someone else wrote: each is asked for with its kind, and refused by name when it is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.storage import Place

MOST = 1 << 31  # of any size in a config
LONGEST = 64_000_000  # bytes of a file of settings; an index of many shards is the longest


def read_settings(path: Place) -> Any:
    """What a JSON file holds; InputError for one that is damaged, or too long to be settings."""
    if (size := storage.size(path)) > LONGEST:
        raise InputError(f"has {size:,} bytes, of {LONGEST:,} that settings may have", where=str(path))
    return storage.read_json(path)


class Keys:
    """The settings of one file, by key; `where` names it in errors."""

    def __init__(self, values: Any, where: str) -> None:
        if not isinstance(values, Mapping):
            raise InputError("holds no settings", where=where)
        self.values, self.where = values, where

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 on."""
        found = self._found(key, default)
        if type(found) is not int or not 1 <= found < MOST:
            raise InputError(f"{key} = {_short(found)}, but it must be a whole number from 1 on", where=self.where)
        return found

    def number(self, key: str, default: float | None = None) -> float:
        found = self._found(key, default)
        if type(found) not in (int, float) or not abs(found) < 1e300:
            raise InputError(f"{key} = {_short(found)}, but it must be a number", where=self.where)
        return float(found)

    def text(self, key: str, default: str = "") -> str:
        found = self._found(key, default)
        if not isinstance(found, str):
            raise InputError(f"{key} = {_short(found)}, but it must be text", where=self.where)
        return found

    def truth(self, key: str, default: bool) -> bool:
        found = self._found(key, default)
        if type(found) is not bool:
            raise InputError(f"{key} = {_short(found)}, but it must be true or false", where=self.where)
        return found

    def only(self, key: str, *allowed: Any, why: str) -> None:
        """Refuse by name what Puna's model does not do. A key that is not there, or null, is allowed."""
        found = self.values.get(key)
        if found is not None and found not in allowed:
            raise InputError(f"{key} = {_short(found)}: {why}", where=self.where, mend=NOT_LLAMA)

    def config(self, **settings: Any) -> ModelConfig:
        """The shape that was read; InputError, naming the file, when its numbers do not fit together."""
        try:
            return ModelConfig(**settings)
        except InputError as error:
            raise InputError(error.what, where=self.where, mend=error.mend) from None

    def _found(self, key: str, default: Any) -> Any:
        found = self.values.get(key)
        if found is None:
            found = default
        if found is None:
            raise InputError(f"says no {key}", where=self.where)
        return found


NOT_LLAMA = "only models of the shape of LLaMA are taken"


def _short(value: Any) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."
