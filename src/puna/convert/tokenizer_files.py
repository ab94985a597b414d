"""A tokenizer in Hugging Face's files: tokenizer.json, tokenizer_config.json, and tokenizer.model where there is one.

The same files, without what transformers alone wants, are what a Puna folder holds of a model from elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from puna import storage
from puna.convert.parts import Parts
from puna.convert.safetensors_file import within
from puna.errors import InputError
from puna.storage import Place
from puna.tokenizer import Tokenizer, pieces
from puna.tokenizer.tokenizer_json import LONGEST, JsonTokenizer, default_template, load_json, written

KEPT = ("bos_token", "eos_token", "unk_token", "pad_token", "add_bos_token", "chat_template")


def read(folder: Place, rows: int) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of a folder, and the settings beside it. rows: of the embedding, which may have more than there are
    pieces. A tokenizer.model of Puna's kind goes before the tokenizer.json beside it, which says the same."""
    said = settings(folder)
    model, plain = folder / "tokenizer.model", folder / "tokenizer.json"
    if storage.is_file(model):
        data = _bytes(folder, "tokenizer.model")
        with suppress(InputError):
            tokenizer = Tokenizer(data, str(model))
            if tokenizer.vocabulary == rows:
                return tokenizer, said
        if not storage.is_file(plain):
            return from_pieces(pieces.parse(data, str(model)), said, str(model), rows), said
    if storage.is_file(plain):
        within(folder, "tokenizer.json", str(folder))
        return load_json(plain, rows=rows), said
    raise InputError("holds neither tokenizer.model nor tokenizer.json", where=str(folder))


def from_pieces(found: pieces.Pieces, settings: dict[str, Any], where: str, rows: int = 0) -> Tokenizer:
    """The tokenizer of SentencePiece's pieces; `settings` are filled up with what it needs."""
    if not found.prefix and len(found.pieces) == (rows or len(found.pieces)):
        with suppress(InputError):  # where its control pieces are others than Puna's own
            return Tokenizer(pieces.serialise(found), where)
    settings.setdefault("bos_token", "<s>")
    settings.setdefault("eos_token", "</s>")
    settings.setdefault("add_bos_token", True)
    bos, eos = written(settings["bos_token"]), written(settings["eos_token"])
    if bos not in found.pieces:
        raise InputError(f"has no piece {bos!r}", where=where)
    data = pieces.to_json(found, bos=bos)
    return JsonTokenizer(data, where, bos=bos, eos=eos, adds_bos=bool(settings["add_bos_token"]), rows=rows)


def write(folder: Place, parts: Parts, *, own: bool = False) -> None:
    """Write the files of the parts' tokenizer. own: as a Puna folder holds them, without what transformers wants."""
    tokenizer, settings = parts.tokenizer, {key: parts.settings[key] for key in KEPT if key in parts.settings}
    if isinstance(tokenizer, JsonTokenizer):
        storage.write(folder / "tokenizer.json", tokenizer.model)
        held = len(json.loads(tokenizer.model)["model"]["vocab"])
        if own and tokenizer.vocabulary != held:
            settings["rows"] = tokenizer.vocabulary
        settings |= {"bos_token": tokenizer.pieces[tokenizer.bos], "eos_token": tokenizer.pieces[tokenizer.eos]}
        settings["add_bos_token"] = tokenizer.adds_bos
    else:
        storage.write(folder / "tokenizer.model", tokenizer.model)
        settings |= {"bos_token": "<s>", "eos_token": "</s>"}
        if not own:
            found = pieces.parse(tokenizer.model)
            storage.write(folder / "tokenizer.json", pieces.to_json(found))
            settings |= {"unk_token": "<unk>", "add_bos_token": True}
    if not own:
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        settings["clean_up_tokenization_spaces"] = False
        settings["model_max_length"] = parts.config.context
        # Nothing in a text is a control piece, but where a template writes them into it.
        settings["split_special_tokens"] = parts.chat_template is None
    if not own or isinstance(tokenizer, JsonTokenizer) or parts.chat_template is not None:
        storage.write_json(folder / "tokenizer_config.json", settings)


def write_template(folder: Place, parts: Parts) -> None:
    """Write the chat template by itself, for a form that has no place for it."""
    if parts.chat_template is not None:
        storage.write(folder / "chat_template.jinja", parts.chat_template.encode(errors="replace"))


def settings(folder: Place) -> dict[str, Any]:
    """What tokenizer_config.json and chat_template.jinja say, of the keys that are kept."""
    path = folder / "tokenizer_config.json"
    value = _json(folder, path.name) if storage.is_file(path) else {}
    if not isinstance(value, Mapping):
        raise InputError("is no JSON object", where=str(path))
    found = {key: value[key] for key in KEPT if value.get(key) is not None}
    for key in KEPT[:4]:
        if key in found:
            found[key] = written(found[key])
    template = default_template(found.pop("chat_template", None))
    if storage.is_file(folder / "chat_template.jinja"):
        template = _bytes(folder, "chat_template.jinja").decode(errors="replace")
    if isinstance(template, str):
        found["chat_template"] = template
    return found


def _json(folder: Place, name: str) -> Any:
    try:
        return json.loads(_bytes(folder, name))
    except (ValueError, RecursionError):
        raise InputError("is not valid JSON", where=str(folder / name)) from None


def _bytes(folder: Place, name: str) -> bytes:
    path = within(folder, name, str(folder))
    if storage.size(path) > LONGEST:
        raise InputError(f"is {storage.size(path):,} bytes, and may be {LONGEST:,}", where=str(path))
    return storage.read(path)
