"""The parts of a tokenizer.json that are taken, and GGUF's names for the ways in which text is split.

A part is compared with what models of LLaMA's family have; nothing that is not written here is ever run.
"""

from __future__ import annotations

from typing import Any

from puna.errors import InputError

_MEND = "only the parts of known LLaMA tokenizers are taken; convert it from the model's GGUF, or ask for this one"
_WORDS = "'s|'t|'re|'ve|'m|'ll|'d"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA_3 = rf"(?i:{_WORDS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
QWEN_2 = rf"(?i:{_WORDS})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
EXPRESSIONS = (LLAMA_3, QWEN_2)
MOST_PARTS = 4


def _split(expression: str) -> list[dict[str, Any]]:
    pieces = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return [pieces, {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]


_GPT_2: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_DIGITS = {"type": "Digits", "individual_digits": True}

# `tokenizer.ggml.pre` -> the pre-tokenizer that splits text so, as a list, and whether whole words skip the merges.
PRE: dict[str, tuple[list[dict[str, Any]], bool]] = {
    "gpt-2": ([_GPT_2], False),
    "smollm": ([_DIGITS, _GPT_2], False),
    "llama-bpe": (_split(LLAMA_3), True),
    "qwen2": (_split(QWEN_2), False),
}


def pre_name(value: dict[str, Any]) -> str | None:
    """GGUF's name of the way in which a tokenizer.json splits text; None when it has none."""
    parts = _flat(value.get("pre_tokenizer"), "pretokenizers")
    key = [_essence(part) for part in parts]
    for name, (known, ignores) in PRE.items():
        if key == [_essence(part) for part in known] and ignores == bool(value["model"].get("ignore_merges")):
            return name if not _flat(value.get("normalizer"), "normalizers") else None
    return None


def normalizer(value: Any, where: str) -> Any:
    """The normaliser, if it is none that changes more than spaces; at most one of each kind."""
    parts = _flat(value, "normalizers")
    for part in parts:
        match part:
            case {"type": "NFC"}:
                pass
            case {"type": "Prepend", "prepend": "\u2581"}:
                pass
            case {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}:
                pass
            case _:
                raise _unknown("normalizer", part, where)
    if len({str(part) for part in parts}) < len(parts):
        raise InputError("it has a normalizer twice", where=where, mend=_MEND)
    return {"type": "Sequence", "normalizers": parts} if parts else None


def pre_tokenizer(value: Any, where: str) -> Any:
    """What splits a text before the merges, if it is known."""
    parts = _flat(value, "pretokenizers")
    for part in parts:
        match part:
            case {"type": "ByteLevel" | "Digits"}:
                pass
            case {"type": "Metaspace", "replacement": "\u2581"}:
                pass
            case {"type": "Split", "pattern": {"Regex": str(expression)}} if expression in EXPRESSIONS:
                pass
            case {"type": "Split", "pattern": {"String": str()}}:
                pass
            case _:
                raise _unknown("pre_tokenizer", part, where)
    if len(parts) > MOST_PARTS:
        raise InputError(f"it has {len(parts)} pre-tokenizers, and may have {MOST_PARTS}", where=where, mend=_MEND)
    return {"type": "Sequence", "pretokenizers": parts} if parts else None


def decoder(value: dict[str, Any], where: str) -> str:
    """How its pieces spell text: "bytes" (GPT-2's characters for bytes) or "pieces" (text, with pieces for bytes)."""
    parts = _flat(value.get("decoder"), "decoders")
    kinds = [part.get("type") if isinstance(part, dict) else None for part in parts]
    if kinds == ["ByteLevel"]:
        return "bytes"
    if set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}:
        return "pieces"
    raise _unknown("decoder", value.get("decoder"), where)


def _flat(value: Any, inner: str) -> list[Any]:
    """The parts of a sequence, or the one part that stands by itself."""
    if value is None:
        return []
    if isinstance(value, dict) and value.get("type") == "Sequence":
        parts = value.get(inner)
        return list(parts) if isinstance(parts, list) else [value]
    return [value]


def _essence(part: Any) -> Any:
    """A part without what changes no id: where offsets begin and end."""
    return {key: each for key, each in part.items() if key != "trim_offsets"} if isinstance(part, dict) else part


def _unknown(what: str, part: Any, where: str) -> InputError:
    said = str(part.get("type") if isinstance(part, dict) else part)[:60]
    return InputError(f"its {what} {said!r}, as it is set there, is not known", where=where, mend=_MEND)
