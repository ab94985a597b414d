"""A second kind of tokenizer, for models from elsewhere: a `tokenizer.json` read by the tokenizers library.

It is a `Tokenizer` (encode, decode, bytes, bos, eos, controls) of another file, so that generating and scoring do not
know which one they have. Such a file is a small program: normalisers that multiply text, expressions that backtrack for
hours. So it is not handed on as it is. Only parts from a list of known ones are taken, byte-pair encoding over them,
and what is not on the list is refused by name; what the file would add around a text is left to `begin`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from puna import storage
from puna.errors import InputError
from puna.progress import say
from puna.tokenizer.known_parts import decoder, normalizer, pre_tokenizer
from puna.tokenizer.sentencepiece_bpe import SPACE, Tokenizer, dtype_for, not_text

LONGEST = 1 << 26  # bytes of a tokenizer.json; those of vocabularies of 256,000 pieces are 35 MB
MEND = "give the tokenizer.json of a LLaMA: byte-pair encoding over bytes or with byte pieces"
STRETCH = 1 << 20  # characters of one call: the library's memory grows with it


class JsonTokenizer(Tokenizer):
    """The encoding of a tokenizer.json. `model` is the bytes of the file.

    vocabulary, dtype, pieces, digest: as of `Tokenizer`; pieces are as the file writes them. bos, eos: ids; without a
    <s> of its own a model has its </s> in its place, and without a </s> its <s>. controls: special pieces and their
    ids, which no text becomes. adds_bos: whether a text begins with <s>. Pickles as its bytes.
    """

    def __init__(
        self, model: bytes, where: str = "", *, bos: str = "", eos: str = "", adds_bos: bool = False, rows: int = 0
    ) -> None:
        """bos, eos: how those pieces are written. rows: of the model, where it has more than the file has pieces."""
        self.model, self.adds_bos = model, adds_bos
        self.digest = storage.digest_bytes(model)
        self._made = (model, where, bos, eos, adds_bos, rows)
        value = _checked(model, where)
        self.byte_level = decoder(value, where) == "bytes"
        self.prefix = _prefix(value)
        self._encoding = _open(value, where)
        found = {**value["model"]["vocab"], **{each["content"]: each["id"] for each in value["added_tokens"]}}
        last = max(found.values(), default=-1) + 1
        if not 0 < last <= max(2 * len(found), len(found) + 4096) or min(found.values()) < 0:
            raise InputError("the ids of its pieces are not 0, 1, 2 and so on", where=where, mend=MEND)
        self.vocabulary = max(last, rows)
        self.pieces = [""] * self.vocabulary
        for piece, number in found.items():
            self.pieces[number] = piece
        self.dtype = dtype_for(self.vocabulary)
        self.controls: Mapping[str, int] = {
            each["content"]: each["id"] for each in value["added_tokens"] if each.get("special")
        }
        for name, written in (("eos", eos), ("bos", bos)):
            if written and written not in found:
                raise InputError(f"has no piece {written!r}, which is to be its {name}", where=where)
        if not eos and not bos:
            raise InputError("nothing beside it says which piece ends a text", where=where, mend="name its eos_token")
        self.eos = found[eos or bos]
        self.bos = found[bos or eos]

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, self._made

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without <s> and </s>. Nothing in a text becomes a control id. InputError when `text` holds
        a lone surrogate, which is no character."""
        if problem := not_text(text):
            raise problem
        return list(self._encoding.encode(text, add_special_tokens=False).ids)

    def begin(self, text: str) -> list[int]:
        """The ids with which a model reads `text` as the beginning of a document: <s> where it has one, then those of
        `encode`. A text without any id begins with <s> all the same, since a model needs something to go on from."""
        ids = self.encode(text)
        return [self.bos, *ids] if self.adds_bos or not ids else ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`; bytes that are no UTF-8 become U+FFFD. Where `encode` puts a space before a text, it is
        taken away again."""
        text = self.decode_bytes(ids).decode("utf-8", errors="replace")
        return text[1:] if self.prefix and text.startswith(" ") else text

    @cached_property
    def _spelt(self) -> dict[int, bytes]:
        """Id -> the UTF-8 bytes it stands for."""
        spell = _of_byte_characters if self.byte_level else _of_byte_pieces
        controls = set(self.controls.values())
        return {i: b"" if i in controls else spell(piece) for i, piece in enumerate(self.pieces)}


def load_json(location: storage.Location, *, rows: int = 0) -> JsonTokenizer:
    """The tokenizer of a tokenizer.json and the tokenizer_config.json beside it, which names bos and eos.

    InputError, naming the file, when one is missing, damaged, or has a part that is not known.
    """
    path = storage.place(location)
    if storage.size(path) > LONGEST:
        raise InputError(f"is {storage.size(path):,} bytes, and may be {LONGEST:,}", where=str(path), mend=MEND)
    beside = path.parent / "tokenizer_config.json"
    settings = storage.read_json(beside) if storage.is_file(beside) else {}
    if not isinstance(settings, dict):
        raise InputError("is no JSON object", where=str(beside))
    data = storage.read(path)
    said = settings.get("rows")
    rows = rows or (said if type(said) is int else 0)
    bos, eos = written(settings.get("bos_token")), written(settings.get("eos_token"))
    if line := unended(bos, eos, str(beside)):
        say(line)
    adds = settings.get("add_bos_token")
    return JsonTokenizer(
        data, str(path), bos=bos, eos=eos, adds_bos=_adds_bos(data, bos) if adds is None else adds is True, rows=rows
    )


def unended(bos: str, eos: str, where: str) -> str:
    """A line for a model of which nothing names a piece that ends a text, so that its <s> has to; else ""."""
    return (
        f"{where} names no piece that ends a text: {bos}, with which one begins, ends it too" if bos and not eos else ""
    )


def default_template(value: object) -> object:
    """The chat template that a tokenizer_config.json means: a text, or of several by name the one called default."""
    if not isinstance(value, list):
        return value
    named = ((each.get("name"), each.get("template")) for each in value if isinstance(each, dict))
    return next((template for name, template in named if name == "default"), None)


def written(token: object) -> str:
    """How a control piece is written in a tokenizer_config.json: a string, or an object that has it as `content`."""
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""


def byte_characters() -> dict[int, str]:
    """Byte -> the character that GPT-2's pieces write it as: itself where it is visible in Latin-1, else one from
    U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


_BYTES = {ord(character): byte for byte, character in byte_characters().items()}


def _of_byte_characters(piece: str) -> bytes:
    if all(ord(character) in _BYTES for character in piece):
        return bytes(_BYTES[ord(character)] for character in piece)
    return piece.encode(errors="replace")  # an added piece, which is plain text


def _of_byte_pieces(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        try:
            return bytes([int(piece[3:5], 16)])
        except ValueError:
            pass
    return piece.replace(SPACE, " ").encode(errors="replace")


def _again(model: bytes, where: str, bos: str, eos: str, adds_bos: bool, rows: int) -> JsonTokenizer:
    return JsonTokenizer(model, where, bos=bos, eos=eos, adds_bos=adds_bos, rows=rows)


def _checked(data: bytes, where: str) -> dict[str, Any]:
    """The parts of a tokenizer.json that are used, all of them known; InputError for anything else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InputError("is not valid JSON", where=where, mend=MEND) from None
    model = value.get("model") if isinstance(value, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise InputError("is no tokenizer.json of pieces with ids", where=where, mend=MEND)
    if model.get("type", "BPE") != "BPE":
        raise InputError(f"its model is {model.get('type')!r}, and only BPE is known", where=where, mend=MEND)
    if model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise InputError("its model has dropout, a prefix or a suffix", where=where, mend=MEND)
    added = value.get("added_tokens") or []
    sound = isinstance(added, list) and all(
        isinstance(each, dict) and isinstance(each.get("content"), str) and type(each.get("id")) is int
        for each in added
    )
    if not sound or not all(type(number) is int for number in model["vocab"].values()):
        raise InputError("its pieces or added tokens are damaged", where=where, mend=MEND)
    decoder(value, where)
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": normalizer(value.get("normalizer"), where),
        "pre_tokenizer": pre_tokenizer(value.get("pre_tokenizer"), where),
        "decoder": value.get("decoder"),
        "model": model,
    }


def _prefix(value: dict[str, Any]) -> bool:
    """Whether a space is put before a text."""
    return any(f'"{name}": "{said}"' in json.dumps(value[part], ensure_ascii=False) for part, name, said in _PREFIXES)


_PREFIXES = (
    ("normalizer", "type", "Prepend"),
    ("pre_tokenizer", "prepend_scheme", "always"),
    ("pre_tokenizer", "prepend_scheme", "first"),
)


def _adds_bos(data: bytes, bos: str) -> bool:
    """Whether the file itself puts `bos` before a text (its post-processor); asked where no setting says so."""
    if not bos:
        return False
    after = json.loads(data).get("post_processor")
    steps = after.get("processors", [after]) if isinstance(after, dict) else []
    for step in steps:
        first = step.get("single", [None])[0] if isinstance(step, dict) and step.get("single") else None
        if isinstance(first, dict) and isinstance(token := first.get("SpecialToken"), dict):
            return token.get("id") == bos
    return False


def _open(value: dict[str, Any], where: str) -> Any:
    try:
        from tokenizers import Tokenizer as Library
    except ImportError:
        mend = "install it: pip install 'puna[convert]'"
        raise InputError("needs the package tokenizers", where=where, mend=mend) from None
    try:
        encoding = Library.from_str(json.dumps({**value, "decoder": None}))  # ids become bytes here, not there
        encoding.encode_special_tokens = True
        encoding.encode("a 1\n", add_special_tokens=False)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise InputError(f"the tokenizers library refuses it ({said})", where=where, mend=MEND) from None
    return encoding
