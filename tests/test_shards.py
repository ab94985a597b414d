"""Promises of token shards and their manifest: what was written comes back, and damage is named with its file."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_tokens import Documents, Spelling, document, stream, write_tokens
from puna.errors import InputError
from puna.tokens import manifest
from puna.tokens.shards import Part, Shard, write_shard

TEXTS = st.lists(st.text(max_size=30), max_size=12)
THREE = [(document(1), "ab"), (document(2), ""), (document(2**127), "xyz")]


def numbered(texts: list[str]) -> Documents:
    return [(document(7 * number + 1), text) for number, text in enumerate(texts)]


@settings(deadline=None, max_examples=50)
@given(texts=TEXTS, vocabulary=st.sampled_from([300, 65_536, 65_537]))
def test_documents_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], vocabulary: int
) -> None:
    stem = tmp_path_factory.mktemp("shard") / "00000"
    spelling = Spelling(vocabulary)
    documents = numbered(texts)
    counts = write_shard(stem, iter(documents), spelling)
    shard = Shard.open(stem)
    shard.verify()
    assert shard.tokens.tolist() == stream(documents, spelling)
    assert shard.tokens.dtype == ("<u2" if vocabulary <= 65_536 else "<u4")
    assert shard.ids == [name for name, _ in documents]
    for row, (_, text) in enumerate(documents):
        tokens = shard.tokens[int(shard.offsets[row]) : int(shard.offsets[row + 1])]
        assert (tokens[1:-1] - 3).astype(np.uint8).tobytes().decode() == text
        assert (tokens[0], tokens[-1]) == (1, 2)
    weight = sum(len(text.encode()) for text in texts)
    assert counts == {"tokens": len(shard.tokens), "documents": len(texts), "bytes": weight}


def test_the_files_are_those_of_the_format(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000", THREE, Spelling())
    assert (tmp_path / "00000.bin").read_bytes().hex() == "01006400650002000100020001007b007c007d000200"
    index = [
        "70756e61746f6b0a",  # magic
        "0100 0200 2c010000",  # version, bytes a token, vocabulary
        "0b00000000000000 0300000000000000 0500000000000000",  # tokens, documents, bytes of text
        "88d5887661d4de3d9acf4ababe1eae2c",  # digest of the .bin
        "941d6666b61e1124678fd9265c2349a8",  # of the content
        "edc7c994736c4f838be0dad1c480eec1",  # of the index
        "0000000000000000 0400000000000000 0600000000000000 0b00000000000000",  # offsets
        "00000000000000000000000000000001 00000000000000000000000000000002 80000000000000000000000000000000",  # ids
    ]
    assert (tmp_path / "00000.idx").read_bytes() == bytes.fromhex("".join(index))


def test_a_stretch_of_tokens_names_its_documents(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000", THREE, Spelling())
    shard = Shard.open(tmp_path / "00000")
    one, two, three = (name for name, _ in THREE)
    assert shard.parts(0, 11) == [Part(one, 0, 4), Part(two, 4, 6), Part(three, 6, 11)]
    assert shard.parts(1, 3) == [Part(one, 0, 2)]
    assert shard.parts(3, 7) == [Part(one, 0, 1), Part(two, 1, 3), Part(three, 3, 4)]
    assert shard.parts(4, 6) == [Part(two, 0, 2)]


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([(document(2), "a"), (document(1), "b")], "comes after"),
        ([(document(2), "a"), (document(2), "b")], "comes after"),
        ([("12", "a")], "not a document id"),
        ([("Z" * 32, "a")], "not a document id"),
        ([("A" * 32, "a")], "not a document id"),
    ],
)
def test_documents_out_of_order_or_without_a_proper_id_are_refused(
    tmp_path: Path, documents: Documents, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_shard(tmp_path / "00000", documents, Spelling())
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stem = tmp_path_factory.mktemp("written") / "00000"
    write_shard(stem, THREE, Spelling())
    return stem


def read_all(stem: Path) -> None:
    Shard.open(stem).verify()


@settings(deadline=None, max_examples=150)
@given(data=st.data(), kind=st.sampled_from(["bin", "idx"]))
def test_a_changed_byte_or_another_length_is_named_with_its_file(
    tmp_path_factory: pytest.TempPathFactory, written: Path, data: st.DataObject, kind: str
) -> None:
    stem = tmp_path_factory.mktemp("damaged") / "00000"
    for suffix in (".bin", ".idx"):
        shutil.copy(f"{written}{suffix}", f"{stem}{suffix}")
    path = Path(f"{stem}.{kind}")
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good) - 1))
    damage = data.draw(st.sampled_from(["flip", "cut", "longer"]))
    if damage == "flip":
        bad = bytearray(good)
        bad[place] ^= 1 << data.draw(st.integers(0, 7))
    else:
        bad = bytearray(good[:place] if damage == "cut" else good + b"\0")
    path.write_bytes(bad)
    # Counts stand in the index alone, so a changed one may show as a .bin of the wrong length.
    with pytest.raises(InputError, match=re.escape(str(path if kind == "bin" else stem))):
        read_all(stem)


def test_a_missing_file_and_another_format_are_named(tmp_path: Path, written: Path) -> None:
    with pytest.raises(InputError, match=r"none\.idx"):
        Shard.open(tmp_path / "none")
    stem = tmp_path / "00000"
    shutil.copy(f"{written}.idx", f"{stem}.idx")
    with pytest.raises(InputError, match=r"00000\.bin"):
        Shard.open(stem)
    for data in (b"", b"MMIDIDX\0\0" + bytes(200), Path(f"{written}.bin").read_bytes() * 20):
        Path(f"{stem}.idx").write_bytes(data)
        with pytest.raises(InputError, match=r"00000\.idx: not the index of a token shard"):
            Shard.open(stem)
    newer = bytearray(Path(f"{written}.idx").read_bytes())
    newer[8] = 2
    Path(f"{stem}.idx").write_bytes(newer)
    with pytest.raises(InputError, match=r"00000\.idx: this token shard was written by a newer Puna"):
        Shard.open(stem)


def test_the_manifest_comes_back_with_counts_and_digests(tmp_path: Path) -> None:
    built = write_tokens(tmp_path, {"wikipedia": [THREE[:1], [], THREE[1:]], "github": [THREE]}, Spelling())
    found = manifest.read(tmp_path)
    assert found == built
    assert list(found.sources) == ["github", "wikipedia"]
    wikipedia, github = found.sources["wikipedia"], found.sources["github"]
    assert (wikipedia.tokens, wikipedia.documents, wikipedia.bytes) == (11, 3, 5)
    assert (github.tokens, github.content) == (wikipedia.tokens, wikipedia.content)
    assert [shard.first for shard in wikipedia.shards] == [document(1), "", document(2)]
    manifest.verify(tmp_path, found)
    written = json.loads((tmp_path / "tokens" / "manifest.json").read_text())
    assert written["digest"] == built.digest
    assert written["sources"]["wikipedia"]["documents"] == 3


@pytest.mark.promise("order")
def test_the_digest_is_of_the_content_whatever_the_folder_and_the_cut(tmp_path: Path) -> None:
    def digest(name: str, cuts: list[Documents], vocabulary: int = 300) -> str:
        return write_tokens(tmp_path / name, {"books": cuts}, Spelling(vocabulary)).digest

    one = digest("one", [THREE])
    assert one == "xxh3:e9c2f86cf555454998f35d14c6bcecc3"
    assert digest("a é", [THREE[:1], THREE[1:]]) == one
    assert digest("three", [[], THREE[:2], THREE[2:]]) == one
    others = [
        digest("text", [[*THREE[:2], (THREE[2][0], "xyZ")]]),
        digest("id", [[*THREE[:2], (document(2**126), "xyz")]]),
        digest("fewer", [THREE[:2]]),
        digest("pieces", [THREE], 301),
    ]
    assert len({one, *others}) == 5


def test_shards_that_are_not_rising_id_ranges_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"00001\.idx: its first document"):
        write_tokens(tmp_path, {"books": [THREE[1:], THREE[:1]]}, Spelling())
    with pytest.raises(InputError, match=r"00001\.idx: its first document"):
        write_tokens(tmp_path / "again", {"books": [THREE, THREE[2:]]}, Spelling())


def test_a_shard_of_another_tokenizer_is_refused(tmp_path: Path) -> None:
    write_shard(manifest.stem(tmp_path, "books", "00000"), THREE, Spelling(299))
    with pytest.raises(InputError, match=r"00000\.idx: made with another tokenizer"):
        manifest.build(tmp_path, {"books": ["00000"]}, Spelling())


def test_an_exchanged_shard_is_found(tmp_path: Path) -> None:
    built = write_tokens(tmp_path, {"books": [THREE]}, Spelling())
    write_shard(manifest.stem(tmp_path, "books", "00000"), THREE[:2], Spelling())
    with pytest.raises(InputError, match=r"00000\.idx: not the shard"):
        manifest.verify(tmp_path, built)


def test_a_missing_changed_or_newer_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `puna tokens` first"):
        manifest.read(tmp_path)
    write_tokens(tmp_path, {"books": [THREE]}, Spelling())
    path = tmp_path / "tokens" / "manifest.json"
    good = path.read_text()
    for old, new, message in [
        ('"tokens": 11', '"tokens": 12', "does not match its own digest"),
        ('"format": 1', '"format": 9', r"newer Puna \(format 9"),
        ('"shards"', '"pieces"', "not a manifest"),
        (good, "[]", "not a manifest"),
        (good, "{", "not valid JSON"),
    ]:
        path.write_text(good.replace(old, new))
        with pytest.raises(InputError, match=rf"manifest\.json: .*{message}"):
            manifest.read(tmp_path)
