"""A SentencePiece encoding as its pieces and scores, apart from the library: what tokenizer.json and GGUF are made of.

`tokenizer.model` is a protocol buffer with three parts that matter here: the pieces, how they were trained (only
byte-pair encoding is taken), and how a text is normalised (only a space before it and U+2581 for spaces are taken).
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from puna.errors import InputError
from puna.tokenizer.sentencepiece_bpe import SPACE, not_text

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # SentencePiece's numbers, and GGUF's
MOST_PIECES = 1 << 20
_BPE = 2


@dataclass(frozen=True)
class Pieces:
    """Equal lengths: piece, score and kind of each id."""

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    kinds: tuple[int, ...]
    prefix: bool
    """Whether a space is put before a text."""

    def of_kind(self, kind: int) -> list[str]:
        return [piece for piece, found in zip(self.pieces, self.kinds, strict=True) if found == kind]


def parse(model: bytes, where: str = "") -> Pieces:
    """The pieces of a tokenizer.model; InputError, naming `where`, for what is damaged or does more than is known."""
    pieces, scores, kinds = [], [], []
    trainer: dict[int, Any] = {}
    normaliser: dict[int, Any] = {}
    try:
        for number, value in _fields(model):
            if number == 1:
                entry = dict(_fields(value))
                pieces.append(entry[1].decode())
                scores.append(struct.unpack("<f", entry.get(2, bytes(4)))[0])
                kinds.append(entry.get(3, NORMAL))
            elif number == 2:
                trainer = dict(_fields(value))
            elif number == 3:
                normaliser = dict(_fields(value))
    except (ValueError, KeyError, TypeError, AttributeError, struct.error):
        raise InputError("not a SentencePiece model, or damaged", where=where) from None
    if not 0 < len(pieces) <= MOST_PIECES:
        raise InputError(f"holds {len(pieces)} pieces", where=where)
    if trainer.get(3, 1) != _BPE:
        raise InputError("is no byte-pair encoding", where=where, mend="only SentencePiece's BPE is taken")
    # 2: rules for characters; 4: runs of spaces become one; 5: spaces are written as U+2581. 24: spaces end a word.
    if normaliser.get(2) or normaliser.get(4, 1) or not normaliser.get(5, 1) or trainer.get(24):
        raise InputError("it normalises text", where=where, mend="only a space before the text is known")
    return sound(Pieces(tuple(pieces), tuple(scores), tuple(kinds), bool(normaliser.get(3, 1))), where)


def sound(found: Pieces, where: str) -> Pieces:
    """`found`, if it can spell every text; InputError when it cannot, or has pieces of a kind that is not known."""
    if len(set(found.pieces)) < len(found.pieces):
        raise InputError("two of its pieces are the same", where=where)
    if found.of_kind(BYTE) != [f"<0x{byte:02X}>" for byte in range(256)]:
        raise InputError("its byte pieces are not the 256 bytes in order", where=where)
    if len(found.of_kind(UNKNOWN)) != 1 or not set(found.kinds) <= {NORMAL, UNKNOWN, CONTROL, USER, BYTE}:
        raise InputError("its pieces are of kinds that are not known", where=where)
    if any(not_text(piece) for piece in found.pieces) or "" in found.pieces:
        raise InputError("a piece is no text", where=where)
    normal = set(found.of_kind(NORMAL))
    for piece in normal:
        if len(piece) > 1 and not normal.issuperset(piece):
            raise InputError(f"its piece {piece!r} has a character that is no piece", where=where)
    return found


def serialise(found: Pieces) -> bytes:
    """A tokenizer.model of the pieces, which SentencePiece reads."""
    data = bytearray()
    for piece, score, kind in zip(found.pieces, found.scores, found.kinds, strict=True):
        entry = _bytes_field(1, piece.encode()) + b"\x15" + struct.pack("<f", score)
        data += _bytes_field(1, entry + (b"" if kind == NORMAL else _number_field(3, kind)))
    data += _bytes_field(2, _number_field(3, _BPE) + _number_field(35, 1))
    spaces = _number_field(3, int(found.prefix)) + _number_field(4, 0) + _number_field(5, 1)
    return bytes(data + _bytes_field(3, _bytes_field(1, b"identity") + spaces))


def to_json(found: Pieces, *, bos: str = "<s>") -> bytes:
    """A tokenizer.json whose ids are SentencePiece's.

    Without a prefix, pieces are written with real spaces: then U+2581 in a text is no piece and is spelt in bytes, as
    `Tokenizer.encode` spells it. With one (LLaMA's own), U+2581 stands for a space in pieces and text alike, as
    SentencePiece has it.
    """
    spelt = [piece if found.prefix or kind != NORMAL else piece.replace(SPACE, " ") for piece, kind in _with(found)]
    ids = {piece: number for number, piece in enumerate(spelt)}
    added = [
        {"id": ids[piece], "content": piece, "single_word": False, "lstrip": False, "rstrip": False}
        | {"normalized": False, "special": kind != USER}
        for piece, kind in zip(spelt, found.kinds, strict=True)
        if kind in (UNKNOWN, CONTROL, USER)
    ]
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    bytes_, fuse = {"type": "ByteFallback"}, {"type": "Fuse"}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    spaces = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}, replace]}
    begin = [{"SpecialToken": {"id": bos, "type_id": 0}}]
    first, second = ({"Sequence": {"id": name, "type_id": number}} for number, name in enumerate("AB"))
    value = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": spaces if found.prefix else None,
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [*begin, first],
            "pair": [*begin, first, {"SpecialToken": {"id": bos, "type_id": 1}}, second],
            "special_tokens": {bos: {"id": bos, "ids": [ids[bos]], "tokens": [bos]}},
        },
        "decoder": {"type": "Sequence", "decoders": [back, bytes_, fuse, strip] if found.prefix else [bytes_, fuse]},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": found.of_kind(UNKNOWN)[0],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": list(_merges(found, spelt)),
        },
    }
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


def from_json(data: bytes) -> Pieces | None:
    """The pieces of a tokenizer.json that SentencePiece could have; None when it does what SentencePiece does not.

    Scores are not in it: those given here are in the order of its merges, which is all that the encoding asks of them.
    """
    value = json.loads(data)
    model, normaliser = value["model"], value.get("normalizer") or {}
    kinds = [each.get("type") for each in normaliser.get("normalizers", [normaliser] if normaliser else [])]
    if not model.get("byte_fallback") or value.get("pre_tokenizer") or kinds not in ([], ["Prepend", "Replace"]):
        return None
    added = {each["content"]: each for each in value["added_tokens"]}
    ids = {**model["vocab"], **{content: each["id"] for content, each in added.items()}}
    ordered = sorted(ids, key=lambda piece: ids[piece])
    if [ids[piece] for piece in ordered] != list(range(len(ids))):
        return None
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(model["merges"]):
        ranks.setdefault("".join(pair.split(" ") if isinstance(pair, str) else pair), rank)
    pieces, scores, found = [], [], []
    for number, piece in enumerate(ordered):
        normal = piece not in added and not re.fullmatch("<0x[0-9A-F]{2}>", piece)
        special = CONTROL if added.get(piece, {}).get("special") else USER if piece in added else BYTE
        found.append(NORMAL if normal else UNKNOWN if piece == model.get("unk_token") else special)
        pieces.append(piece.replace(" ", SPACE) if normal else piece)
        scores.append(-float(ranks.get(piece, len(model["merges"]) + number)) if normal else 0.0)
    try:
        return sound(Pieces(tuple(pieces), tuple(scores), tuple(found), bool(kinds)), "")
    except InputError:
        return None


def _merges(found: Pieces, spelt: Iterable[str]) -> Iterator[list[str]]:
    """Pairs in the order in which they are merged: by the score of what they make.

    SentencePiece takes the leftmost of pairs that make the same piece, the library the one that stands first here. They
    meet only where a text repeats itself, and there what was merged from the left leaves its shorter rest on the right.
    """
    normal = {
        piece: score for piece, score, kind in zip(spelt, found.scores, found.kinds, strict=True) if kind == NORMAL
    }
    for piece in sorted(normal, key=lambda piece: -normal[piece]):
        for cut in range(len(piece) - 1, 0, -1):
            if piece[:cut] in normal and piece[cut:] in normal:
                yield [piece[:cut], piece[cut:]]


def _with(found: Pieces) -> Iterator[tuple[str, int]]:
    return zip(found.pieces, found.kinds, strict=True)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protocol buffer; ValueError when it is none."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(data, place)
            yield number, value
            continue
        if kind == 2:
            size, place = _varint(data, place)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"field of type {kind}")
        if size > len(data) - place:
            raise ValueError("a field is longer than the rest")
        yield number, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        if place >= len(data):
            raise ValueError("cut")
        byte = data[place]
        value, place, shift = value | (byte & 127) << shift, place + 1, shift + 7
        if byte < 128:
            return value, place
    raise ValueError("a number of more than 64 bits")


def _number_field(number: int, value: int) -> bytes:
    return _as_varint(number << 3) + _as_varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _as_varint(number << 3 | 2) + _as_varint(len(value)) + value


def _as_varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])
