"""A tokenizer as GGUF's keys, both ways: `llama` (SentencePiece) and `gpt2` (byte-level byte-pair encoding).

GGUF says how text is split before the merges by a name alone, whose meaning lies in llama.cpp; those that are known are
in tokenizer/known_parts.py, and others are refused by name. Of a tokenizer of Puna's own the whole tokenizer.model goes
along, in the key `puna.tokenizer.model`, so that it comes back as the same bytes; other programs pass over it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from puna.convert import tokenizer_files
from puna.convert.keys import Keys
from puna.convert.parts import Parts
from puna.errors import InputError
from puna.progress import say
from puna.tokenizer import Tokenizer, pieces
from puna.tokenizer.known_parts import PRE, pre_name
from puna.tokenizer.tokenizer_json import JsonTokenizer, unended

OWN = "puna.tokenizer.model"
_NAME = "tokenizer.ggml."


def read(keys: Keys, rows: int) -> tuple[Tokenizer, dict[str, Any]]:
    """The tokenizer of a file's keys, and its settings. rows: of the embedding."""
    kind = keys.text(f"{_NAME}model")
    tokens = _list(keys, "tokens", str)
    kinds = _list(keys, "token_type", int) or [pieces.NORMAL] * len(tokens)
    if len(tokens) > pieces.MOST_PIECES or len(kinds) != len(tokens):
        raise InputError(f"holds {len(tokens)} pieces with {len(kinds)} kinds", where=keys.where)
    settings: dict[str, Any] = {}
    for name, key in (("bos", "bos_token_id"), ("eos", "eos_token_id"), ("unk", "unknown_token_id")):
        number = keys.values.get(f"{_NAME}{key}")
        if type(number) is int and 0 <= number < len(tokens):
            settings[f"{name}_token"] = tokens[number]
        elif number is not None:
            raise InputError(f"{_NAME}{key} = {str(number)[:40]}", where=keys.where)
    # Where a file does not say it, llama.cpp begins texts of these two kinds with <s>.
    begins = kind == "llama" or keys.text(f"{_NAME}pre") == "llama-bpe"
    settings["add_bos_token"] = keys.truth(f"{_NAME}add_bos_token", begins)
    if template := keys.text("tokenizer.chat_template"):
        settings["chat_template"] = template
    if kind == "llama":
        scores = _list(keys, "scores", float) or [0.0] * len(tokens)
        if len(scores) != len(tokens):
            raise InputError(f"holds {len(tokens)} pieces with {len(scores)} scores", where=keys.where)
        prefix = keys.truth(f"{_NAME}add_space_prefix", True)
        found = pieces.sound(pieces.Pieces(tuple(tokens), tuple(scores), tuple(kinds), prefix), keys.where)
        return _own(keys, found) or tokenizer_files.from_pieces(found, settings, keys.where, rows), settings
    if kind != "gpt2":
        raise InputError(f"{_NAME}model = {kind!r}", where=keys.where, mend="known are llama and gpt2")
    data = _byte_level(keys, tokens, kinds)
    return _json_tokenizer(data, settings, keys.where, rows), settings


def written(parts: Parts) -> dict[str, tuple[str, Any]]:
    """The keys of the parts' tokenizer, with their kinds; InputError when GGUF has no name for what it does."""
    tokenizer = parts.tokenizer
    found = _of_json(tokenizer) if isinstance(tokenizer, JsonTokenizer) else _of_pieces(pieces.parse(tokenizer.model))
    if not isinstance(tokenizer, JsonTokenizer):
        found[OWN] = ("[u8]", tokenizer.model)
    adds = tokenizer.adds_bos if isinstance(tokenizer, JsonTokenizer) else True
    found |= {
        f"{_NAME}bos_token_id": ("u32", tokenizer.bos),
        f"{_NAME}eos_token_id": ("u32", tokenizer.eos),
        f"{_NAME}add_bos_token": ("bool", adds),
        f"{_NAME}add_eos_token": ("bool", False),
    }
    if parts.chat_template is not None:
        found["tokenizer.chat_template"] = ("text", parts.chat_template)
    return found


def _of_pieces(found: pieces.Pieces) -> dict[str, tuple[str, Any]]:
    return {
        f"{_NAME}model": ("text", "llama"),
        f"{_NAME}pre": ("text", "default"),
        f"{_NAME}tokens": ("[text]", found.pieces),
        f"{_NAME}scores": ("[f32]", found.scores),
        f"{_NAME}token_type": ("[i32]", found.kinds),
        f"{_NAME}unknown_token_id": ("u32", found.kinds.index(pieces.UNKNOWN)),
        f"{_NAME}add_space_prefix": ("bool", found.prefix),
    }


def _of_json(tokenizer: JsonTokenizer) -> dict[str, tuple[str, Any]]:
    found = None if tokenizer.byte_level else pieces.from_json(tokenizer.model)
    if found is not None and len(found.pieces) == tokenizer.vocabulary:
        return _of_pieces(found)
    value = json.loads(tokenizer.model)
    name = pre_name(value) if tokenizer.byte_level else None
    if name is None:
        known = ", ".join(PRE)
        what = "GGUF has no name for the way in which this tokenizer splits text"
        raise InputError(what, mend=f"only those that are called {known} there, and SentencePiece's, can be written")
    special = {each["id"]: pieces.CONTROL if each.get("special") else pieces.USER for each in value["added_tokens"]}
    # Rows of the embedding without a piece have to be called something.
    tokens = [piece or f"[PAD{number}]" for number, piece in enumerate(tokenizer.pieces)]
    kinds = [
        special.get(number, pieces.NORMAL if piece else pieces.UNUSED) for number, piece in enumerate(tokenizer.pieces)
    ]
    merges = [each if isinstance(each, str) else " ".join(each) for each in value["model"]["merges"]]
    return {
        f"{_NAME}model": ("text", "gpt2"),
        f"{_NAME}pre": ("text", name),
        f"{_NAME}tokens": ("[text]", tokens),
        f"{_NAME}token_type": ("[i32]", kinds),
        f"{_NAME}merges": ("[text]", merges),
        f"{_NAME}add_space_prefix": ("bool", False),
    }


def _byte_level(keys: Keys, tokens: Sequence[str], kinds: Sequence[int]) -> bytes:
    """A tokenizer.json of byte-level pieces."""
    name = keys.text(f"{_NAME}pre", "default")
    if name not in PRE:
        raise InputError(f"{_NAME}pre = {name[:60]!r}", where=keys.where, mend=f"known are {', '.join(PRE)}")
    parts, ignore = PRE[name]
    if not set(kinds) <= {pieces.NORMAL, pieces.CONTROL, pieces.USER, pieces.UNUSED, pieces.UNKNOWN}:
        raise InputError("its pieces are of kinds that are not known", where=keys.where)
    merges = [each.split(" ") for each in _list(keys, "merges", str)]
    if any(len(pair) != 2 for pair in merges):
        raise InputError("a merge is not of two pieces", where=keys.where)
    apart = (pieces.CONTROL, pieces.USER, pieces.UNKNOWN)
    added = [
        {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": kinds[number] != pieces.USER}
        for number, token in enumerate(tokens)
        if kinds[number] in apart
    ]
    vocab = {token: number for number, token in enumerate(tokens) if kinds[number] != pieces.UNUSED}
    value = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": parts} if len(parts) > 1 else parts[0],
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": ignore,
            "vocab": vocab,
            "merges": merges,
        },
    }
    return json.dumps(value, ensure_ascii=False, indent=1).encode(errors="backslashreplace")


def _json_tokenizer(data: bytes, settings: dict[str, Any], where: str, rows: int) -> Tokenizer:
    bos, eos = settings.get("bos_token", ""), settings.get("eos_token", "")
    if line := unended(bos, eos, where):
        say(line)
    return JsonTokenizer(data, where, bos=bos, eos=eos, adds_bos=settings["add_bos_token"], rows=rows)


def _own(keys: Keys, found: pieces.Pieces) -> Tokenizer | None:
    """The tokenizer.model that came along, if it says what the keys say."""
    own = keys.values.get(OWN)
    if not isinstance(own, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in own):
        return None
    return Tokenizer(bytes(own), f"{keys.where}: {OWN}") if pieces.parse(bytes(own), keys.where) == found else None


def _list(keys: Keys, name: str, kind: type) -> list[Any]:
    value = keys.values.get(f"{_NAME}{name}", [])
    if not isinstance(value, list) or not all(type(each) is kind for each in value):
        raise InputError(f"{_NAME}{name} is no list of {kind.__name__}", where=keys.where)
    return value
