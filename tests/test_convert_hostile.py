"""Model files from outside that lie, are cut, lead elsewhere or hold code are refused in one line, and nothing runs."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import made_parts
from puna import convert, storage
from puna.convert import comparison, gguf, gguf_file, gguf_tokenizer, huggingface, meta, safetensors_file
from puna.convert.keys import LONGEST, Keys
from puna.errors import InputError
from puna.tokenizer import pieces
from puna.tokenizer.tokenizer_json import JsonTokenizer, byte_characters


def refused(action: Callable[[], object], *said: str) -> str:
    with pytest.raises(InputError) as error:
        action()
    line = str(error.value)
    assert "\n" not in line
    assert not said or any(word in line for word in said), line
    return line


def safetensors(entries: Any, data: bytes = b"", length: int | None = None) -> bytes:
    head = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(head) if length is None else length) + head + data


def _one(**changed: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changed}}


LIARS = {
    "empty": b"",
    "cut in its length": b"\x08\0\0",
    "a header of 2^63": safetensors({}, length=2**63),
    "a header of 2^64 - 1": safetensors({}, length=2**64 - 1),
    "a header beyond the file": safetensors({}, length=99),
    "no JSON": safetensors(b"{"),
    "nested JSON": safetensors(b"[" * 100_000),
    "a list": safetensors([]),
    "a name twice": safetensors(b'{"a": {}, "a": {}}'),
    "sizes near 2^63": safetensors(_one(shape=[2**62, 2], data_offsets=[0, 2**63 - 1]), bytes(8)),
    "sizes that multiply to 0": safetensors(_one(shape=[2**62, 0]), bytes(8)),
    "a negative size": safetensors(_one(shape=[-2]), bytes(8)),
    "true for a size": safetensors(_one(shape=[True]), bytes(8)),
    "offsets beyond the file": safetensors(_one(data_offsets=[800, 808]), bytes(8)),
    "too little data": safetensors(_one(), bytes(7)),
    "too much data": safetensors(_one(), bytes(9)),
    "overlapping": safetensors({**_one(), "b": _one()["a"]}, bytes(8)),
    "a gap": safetensors({**_one(), "b": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]}}, bytes(20)),
    "an unknown dtype": safetensors(_one(dtype="I64", shape=[1]), bytes(8)),
    "many dimensions": safetensors(_one(shape=[2] + [1] * 99), bytes(8)),
}


@pytest.mark.parametrize("what", LIARS)
def test_a_lying_safetensors_file_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(LIARS[what])
    refused(lambda: safetensors_file.tensors(path), "model.safetensors")


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    for body in (data, safetensors(data)):
        with contextlib.suppress(InputError):
            safetensors_file.header(io.BytesIO(body), len(body), "a file")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in each form: hf, out.gguf, meta."""
    place, parts = tmp_path_factory.mktemp("good"), made_parts.made()
    huggingface.write(place / "hf", parts, shard_size=50_000)
    gguf.write(place / "out.gguf", parts, dtype="f32")
    meta.write(place / "meta", parts)
    return place


def copied(good: Path, form: str, place: Path) -> Path:
    for name in storage.tree(good / form):
        storage.write(place / name, (good / form / name).read_bytes())
    return place


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..", "", "a\0b", "sub/model.safetensors"])
def test_an_index_that_points_out_of_its_folder_is_refused(name: str, good: Path, tmp_path: Path) -> None:
    folder = copied(good, "hf", tmp_path / "hf")
    path = folder / "model.safetensors.index.json"
    table = storage.read_json(path)
    table["weight_map"]["model.norm.weight"] = name
    storage.write_json(path, table)
    refused(lambda: huggingface.read(folder), "does not lie beside it")


def test_a_linked_shard_is_refused(good: Path, tmp_path: Path) -> None:
    folder = copied(good, "hf", tmp_path / "hf")
    shard = min(folder.glob("*.safetensors"))
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    refused(lambda: huggingface.read(folder), "is a link")


def test_links_of_a_download_lead_to_its_own_files_and_nowhere_else(good: Path, tmp_path: Path) -> None:
    """As the hub's client lays a model down: NAME/snapshots/REVISION/FILE leads to NAME/blobs/DIGEST."""
    model = tmp_path / "models--owner--name"
    folder, blobs = model / "snapshots" / "0123abcd", model / "blobs"
    folder.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(copied(good, "hf", tmp_path / "hf").iterdir())):
        path.rename(blobs / f"digest{number}")
        (folder / path.name).symlink_to(Path("..", "..", "blobs", f"digest{number}"))
    assert huggingface.read(folder).config == huggingface.read(good / "hf").config
    shard = min(folder.glob("*.safetensors"))
    for elsewhere in (tmp_path / "secret", model / "secret", blobs / "sub" / "secret", tmp_path / "blobs" / "secret"):
        elsewhere.parent.mkdir(exist_ok=True)
        shutil.copy(shard, elsewhere)
        shard.unlink()
        shard.symlink_to(elsewhere)
        refused(lambda: huggingface.read(folder), "is a link")


def test_weights_that_are_pickles_alone_are_refused(tmp_path: Path) -> None:
    huggingface.write(tmp_path, made_parts.made())
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    refused(lambda: huggingface.read(tmp_path), "pickles only")


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack("<I", kind) + value


def lying(keys: bytes = b"", count: int = 0, tensors: bytes = b"", number: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, number, count) + keys + tensors


def placed(shape: tuple[int, ...], kind: int = 0, offset: int = 0, name: bytes = b"t") -> bytes:
    return struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


LIARS_IN_GGUF = {
    "empty": b"",
    "another file": b"GGML" + bytes(60),
    "of a version to come": lying(version=4) + bytes(32),
    "2^63 keys": lying(count=2**63) + bytes(32),
    "2^63 tensors": lying(number=2**63) + bytes(32),
    "a name of 2^63": lying(struct.pack("<Q", 2**63), 1) + bytes(32),
    "a text of 2^63": lying(key(b"k", 8, struct.pack("<Q", 2**63)), 1) + bytes(32),
    "an array of 2^63": lying(key(b"k", 9, struct.pack("<IQ", 0, 2**63)), 1) + bytes(32),
    "an array of 2^61 numbers": lying(key(b"k", 9, struct.pack("<IQ", 12, 2**61)), 1) + bytes(32),
    "arrays in arrays": lying(key(b"k", 9, struct.pack("<IQIQ", 9, 1, 9, 1)), 1) + bytes(32),
    "an unknown type": lying(key(b"k", 77, b""), 1) + bytes(32),
    "a key twice": lying(key(b"k", 0, b"a") * 2, 2) + bytes(32),
    "an odd alignment": lying(key(b"general.alignment", 4, struct.pack("<I", 3)), 1) + bytes(32),
    "an alignment of 0": lying(key(b"general.alignment", 4, struct.pack("<I", 0)), 1) + bytes(32),
    "99 dimensions": lying(tensors=placed((1,) * 99), number=1) + bytes(64),
    "sizes near 2^63": lying(tensors=placed((2**62, 2**62)), number=1) + bytes(64),
    "an empty tensor": lying(tensors=placed((0,)), number=1) + bytes(64),
    "an unknown tensor type": lying(tensors=placed((8,), kind=99), number=1) + bytes(64),
    "rows of no whole blocks": lying(tensors=placed((8,), kind=8), number=1) + bytes(64),
    "an offset near 2^63": lying(tensors=placed((8,), offset=2**63), number=1) + bytes(64),
    "an offset between": lying(tensors=placed((8,), offset=4), number=1) + bytes(96),
    "a tensor beyond the file": lying(tensors=placed((800,)), number=1) + bytes(64),
    "overlapping": lying(tensors=placed((16,), name=b"a") + placed((16,), offset=32, name=b"b"), number=2) + bytes(200),
    "a tensor twice": lying(tensors=placed((8,)) * 2, number=2) + bytes(200),
}


@pytest.mark.parametrize("what", LIARS_IN_GGUF)
def test_a_lying_gguf_file_is_refused(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(LIARS_IN_GGUF[what])
    refused(lambda: gguf.read(path), "a.gguf")


@given(st.integers(0, 5000), st.integers(0, 255), st.integers(0, 6000))
@settings(deadline=None, max_examples=150)
def test_a_flipped_or_cut_gguf_header_is_read_or_refused(good: Path, place: int, byte: int, cut: int) -> None:
    data = bytearray((good / "out.gguf").read_bytes())
    data[place] = byte
    for body in (bytes(data), bytes(data[: cut + 24])):
        with contextlib.suppress(InputError):
            gguf_file.parse(body, len(body), "a file")


KEYS = {
    "llama.rope.scaling.type": ("text", "yarn"),
    "llama.rope.scaling.factor": ("f32", 8.0),
    "llama.rope.dimension_count": ("u32", 8),
    "llama.attention.key_length": ("u32", 128),
    "llama.expert_count": ("u32", 8),
    "general.architecture": ("text", "falcon"),
    "llama.block_count": ("u32", 0),
    "llama.attention.head_count": ("u32", 2**32 - 1),
    "tokenizer.ggml.model": ("text", "bert"),
    "tokenizer.ggml.tokens": ("[text]", ["a"]),
    "tokenizer.ggml.bos_token_id": ("u32", 2**32 - 1),
}


@pytest.mark.parametrize("changed", KEYS)
def test_a_gguf_file_of_another_model_is_refused_by_key(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = gguf._keys
    monkeypatch.setattr(gguf, "_keys", lambda parts, dtype: {**right(parts, dtype), changed: KEYS[changed]})
    gguf.write(tmp_path / "a.gguf", made_parts.made(), dtype="f32")
    line = refused(lambda: gguf.read(tmp_path / "a.gguf"))
    assert changed in line or "heads = " in line or "pieces" in line


def test_factors_of_rotary_angles_are_refused_not_passed_over(tmp_path: Path) -> None:
    parts = made_parts.made()
    keys = gguf._keys(parts, "f32")
    kind = gguf.quants.BY_NAME["F32"]
    gguf_file.write(tmp_path / "a.gguf", keys, {"rope_freqs.weight": (torch.ones(8), kind)})
    refused(lambda: gguf.read(tmp_path / "a.gguf"), "rope_freqs.weight")


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.mark.parametrize("kind", ["torch", "bare", "tar"])
def test_a_pickle_with_code_is_refused_and_not_run(kind: str, good: Path, tmp_path: Path) -> None:
    folder, mark = copied(good, "meta", tmp_path / "meta"), tmp_path / "ran"
    path = folder / "consolidated.00.pth"
    if kind == "torch":
        torch.save({"tok_embeddings.weight": Bomb(mark)}, path)
    elif kind == "bare":
        path.write_bytes(pickle.dumps({"a": Bomb(mark)}))
    else:
        torch.save({"a": Bomb(mark)}, path, _use_new_zipfile_serialization=False)
    refused(lambda: meta.read(folder), "consolidated.00.pth")
    assert not mark.exists()


def test_a_pth_that_is_cut_or_unfolds_is_refused(good: Path, tmp_path: Path) -> None:
    folder = copied(good, "meta", tmp_path / "meta")
    path = folder / "consolidated.00.pth"
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        refused(lambda: meta.read(folder), "consolidated.00.pth")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(50_000_000))
    refused(lambda: meta.read(folder), "more than its bytes")
    for value in ([1], {"a": 1}, {1: torch.ones(1)}, {"a": torch.ones(1, dtype=torch.int64)}):
        torch.save(value, path)
        refused(lambda: meta.read(folder), "consolidated.00.pth")
    torch.save({"tok_embeddings.weight": torch.ones(1).expand(10**9)}, path)
    refused(lambda: meta.read(folder), "larger than its bytes")
    torch.save(dict.fromkeys(map(str, range(1000)), torch.ones(10_000)), path)
    refused(lambda: meta.read(folder), "larger than its bytes")


def tokenizer_json(**changed: Any) -> bytes:
    value = json.loads(pieces.to_json(pieces.parse(made_parts.tokenizer().model)))
    return json.dumps({**value, **changed}).encode()


EXPLODING = {
    "no JSON": b"{",
    "deep JSON": b"[" * 200_000,
    "a list": b"[]",
    "another model": tokenizer_json(model={"type": "Unigram", "vocab": {}}),
    "a normalizer that multiplies": tokenizer_json(
        normalizer={
            "type": "Sequence",
            "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 99}] * 9,
        }
    ),
    "an expression that backtracks": tokenizer_json(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    ),
    "an unknown decoder": tokenizer_json(decoder={"type": "CTC"}),
    "ids near 2^63": tokenizer_json(added_tokens=[{"id": 2**63 - 1, "content": "x", "special": True}]),
    "a negative id": tokenizer_json(added_tokens=[{"id": -5, "content": "x", "special": True}]),
    "added tokens that are none": tokenizer_json(added_tokens=[1]),
    "merges of nothing": tokenizer_json(model={"type": "BPE", "vocab": {"<s>": 0, "</s>": 1}, "merges": [["q", "r"]]}),
}


@pytest.mark.parametrize("what", EXPLODING)
def test_a_tokenizer_json_that_explodes_is_refused(what: str) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    refused(lambda: JsonTokenizer(EXPLODING[what], "tokenizer.json", bos="<s>", eos="</s>"), "tokenizer.json")


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_pieces_or_refused(data: bytes) -> None:
    with contextlib.suppress(InputError):
        pieces.parse(data)


def test_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(LIARS_IN_GGUF["overlapping"])
    refused(lambda: convert.take(tmp_path / "a.gguf", tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.gguf"]


@pytest.mark.parametrize("name", ["tok_embeddings.weight", "layers.0.feed_forward.w1.weight"])
def test_a_meta_tensor_without_rows_is_refused_by_name(name: str, tmp_path: Path) -> None:
    parts = made_parts.made()
    meta.write(tmp_path, parts)
    torch.save({**parts.state, name: torch.tensor(1.0)}, tmp_path / "consolidated.00.pth")
    refused(lambda: meta.read(tmp_path), name)


@pytest.mark.parametrize("shape", [(), (64,), (0, 64), (64, 1, 64)])
def test_a_query_of_other_dimensions_is_refused_by_name(shape: tuple[int, ...], tmp_path: Path) -> None:
    parts = made_parts.made()
    huggingface.write(tmp_path, parts)
    path = tmp_path / "model.safetensors"
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**load_file(path), name: torch.ones(shape)}, path)
    refused(lambda: huggingface.read(tmp_path), "q_proj", "attention.wq")


@pytest.mark.parametrize(("pre", "begins"), [("llama-bpe", True), ("gpt-2", False), ("smollm", False)])
def test_a_gguf_that_does_not_say_whether_texts_begin_with_bos_is_read_as_llama_cpp_reads_it(
    pre: str, begins: bool
) -> None:
    tokens = [*byte_characters().values(), "<|b|>"]
    said = {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": [1] * 256 + [3], "merges": []}
    keys = {f"tokenizer.ggml.{name}": value for name, value in {**said, "bos_token_id": 256}.items()}
    tokenizer, _ = gguf_tokenizer.read(Keys(keys, "a file"), 257)
    assert tokenizer.begin("a") == [256] * begins + tokenizer.encode("a")


def test_settings_that_are_too_long_and_a_pipe_are_never_read(good: Path, tmp_path: Path) -> None:
    folder = copied(good, "hf", tmp_path / "hf")
    with (folder / "config.json").open("r+b") as file:
        file.truncate(LONGEST + 1)
    refused(lambda: huggingface.read(folder), "that settings may have")
    os.mkfifo(tmp_path / "pipe")
    refused(lambda: convert.read(tmp_path / "pipe"), "is no file and no folder")


def test_an_export_that_lost_how_its_maker_samples_is_refused(good: Path, tmp_path: Path) -> None:
    wanted = dataclasses.replace(made_parts.made(), generation={"temperature": 0.6, "top_k": 40})
    huggingface.write(tmp_path / "hf", wanted)
    path = tmp_path / "hf" / "generation_config.json"
    storage.write_json(path, {"temperature": 0.6})
    with pytest.raises(comparison.Mismatch, match=r"generation_config\.json has no top_k"):
        comparison.verify("hf", tmp_path / "hf", wanted, huggingface.read, "f32")
