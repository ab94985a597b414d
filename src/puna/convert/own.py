"""Puna's own form: a run, a checkpoint, or the folder that `puna import` makes (docs/run-folder.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from puna import storage
from puna import tokenizer as tokenizers
from puna.convert import tokenizer_files
from puna.convert.keys import read_settings
from puna.convert.parts import Parts
from puna.errors import InputError
from puna.formats import ORIGIN
from puna.model.folder import find
from puna.model.weights import read_config, read_tensors, verify, write_model
from puna.storage import Location, Place


def read(model: Location) -> Parts:
    """The parts of a run's newest checkpoint, of a checkpoint or of an imported model, as they are stored.

    InputError, naming the file, when one is missing, damaged or newer, or when they do not fit each other.
    """
    checkpoint, file = find(model)
    verify(checkpoint)
    config, digest = read_config(checkpoint)
    tokenizer = tokenizers.load(file)
    if digest and digest != tokenizer.digest:
        raise InputError(f"is not the tokenizer that {checkpoint.name} was trained with", where=str(file))
    state = read_tensors(checkpoint / "model.safetensors")
    settings = tokenizer_files.settings(checkpoint)
    generation = storage.find(checkpoint / "generation_config.json")
    said = read_settings(checkpoint / "generation_config.json") if generation else {}
    # A checkpoint is called after its run, which people know, not after its step.
    named = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
    return Parts(config, state, tokenizer, settings, said, named.name).checked(str(checkpoint))


def write(folder: Place, parts: Parts, origin: Mapping[str, Any]) -> None:
    """Write a model that `puna.load` takes. origin: what it was made from, kept in origin.json."""
    write_model(folder, parts.config, parts.state, tokenizer=parts.tokenizer.digest)
    tokenizer_files.write(folder, parts, own=True)
    if parts.generation:
        storage.write_json(folder / "generation_config.json", dict(parts.generation))
    storage.write_json(folder / "origin.json", {"format": ORIGIN.version, **origin})
