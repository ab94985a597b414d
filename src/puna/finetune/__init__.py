"""Instruction finetuning (paper, section 4): examples of questions and answers in, a model that answers out."""

from __future__ import annotations

from typing import Any

from puna import storage
from puna.errors import InputError
from puna.storage import Place

ENERGY = "energy.json"
"""In a finetuning's folder: what each of its parts took, in the order in which they ended."""


def parts_taken(folder: Place) -> list[dict[str, Any]]:
    """What each part of a finetuning took, by that file; none before the first ended. InputError when damaged."""
    file = folder / ENERGY
    if not storage.is_file(file):
        return []
    told = storage.read_json(file)
    steps = told.get("steps") if isinstance(told, dict) else None
    if not isinstance(steps, list) or not all(isinstance(each, dict) for each in steps):
        raise InputError("is no account of energy", where=str(file), mend="remove it, and energy is unknown")
    return steps
