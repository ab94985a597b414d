"""Labels as fastText tells them, whatever else is in the batch, and no trust in what a model's file says of itself."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import made_classifier
from puna.data.quality import classifier, language, lid
from puna.data.quality.classifier import OtherModelError
from puna.data.quality.known_words import KnownWords, keys_of, words_of
from puna.data.quality.lid import Scorer
from puna.errors import InputError

TEXTS = (
    "The river runs through the old town, and people walk along it in the evening.",
    "Der Fluss fließt durch die alte Stadt, und abends gehen die Leute an ihm entlang.",
    "日本語の文章は言葉の間に空白がないので、一つの長い語になることが多いです。 日本",
    "Город стоит на реке.\nLe fleuve traverse la ville\tet ses ponts.\r\n한국어 문장 😀😀 é",
    "a </s> und was dahinter steht, zählt nicht",
    "a </s>b x</s> </x>",
    "__label__en __label__never und the __label_ __label__",
    "nul\0parts\x0bwords\x0cand\x1cthis does not",
    "x",
    "",
    "= " * 40 + "=" * 300,
    "the " * 3000,
)
PIECES = st.sampled_from(["the", "river", "日本", "é", "😀", "</s>", "__label__", "x" * 33, "\0", " ", "\n", "\t", "ß"])
KINDS = (
    {},
    {"loss": 3},
    {"quantised": True},
    {"quantised": True, "pruned": True, "dimensions": 7},
    {"quantised": True, "pruned": True, "quantised_output": True, "loss": 3},
    {"shortest": 1, "longest": 3},
    {"shortest": 0, "longest": 1},
    {"shortest": 3, "longest": 9},
    {"shortest": 0, "longest": 0, "buckets": 0},
    {"shortest": 4, "longest": 3},
    {"words": ("the", "und")},
    {"labels": ("one",)},
    {"labels": tuple(f"l{number}" for number in range(90))},
)


def scored(scorer: Scorer, texts: Sequence[str]) -> list[tuple[int, float]]:
    found = list(scorer.best(texts))
    return [pair for label, score in found for pair in zip(label.tolist(), score.tolist(), strict=True)]


def by_fasttext(file: Path, texts: Sequence[str]) -> list[list[tuple[float, str]]]:
    predict = pytest.importorskip("fasttext").load_model(str(file)).f.predict
    return [predict(text.replace("\n", " ").replace("\r", " ") + "\n", 2, 0.0, "strict") for text in texts]


def agree(file: Path, texts: Sequence[str]) -> float:
    """The largest difference of scores; labels may differ only where fastText's best two are as close."""
    scorer, most = Scorer(classifier.load(file)), 0.0
    for text, (label, score), told in zip(texts, scored(scorer, texts), by_fasttext(file, texts), strict=True):
        if not told:
            assert label == -1, text
            continue
        name = "__label__" + scorer.model.labels[label].decode()
        assert name == told[0][1] or told[0][0] - told[1][0] < 1e-4, text
        most = max(most, abs(score - told[0][0]))
    assert most < 1e-4
    return most


def test_labels_and_scores_are_those_of_fasttext(samples: Path, proved: Any) -> None:
    import gzip
    import json

    with gzip.open(samples / "c4" / "c4-train.00000-of-01024.json.gz", "rt", encoding="utf-8") as file:
        pages = [json.loads(line)["text"] for line in file][:200]
    most = agree(Path(str(language.model_file(None))), [*TEXTS, *pages])
    proved(f"{len(pages)} pages of C4 in the language that fastText tells, scores {most:.0e} apart")


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_of_model_is_read_as_fasttext_reads_it(kind: dict[str, Any], tmp_path: Path) -> None:
    for seed in range(2):
        (tmp_path / "made").write_bytes(made_classifier.model(seed, **kind))
        agree(tmp_path / "made", TEXTS)


@pytest.mark.promise("order")
@pytest.mark.parametrize("kind", [{}, {"quantised": True, "pruned": True}, {"shortest": 1}, {"loss": 3}], ids=str)
def test_a_score_does_not_depend_on_its_batch(kind: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier.parse(made_classifier.model(1, **kind), "made")
    kept = Scorer(model)

    @settings(deadline=None, max_examples=25)
    @given(st.lists(st.lists(PIECES, max_size=20).map("".join), max_size=6), st.integers(20, 200), st.integers(40, 200))
    def law(texts: list[str], batch: int, piece: int) -> None:
        fresh = Scorer(model)
        alone = [scored(fresh, [text])[0] for text in reversed(texts)][::-1]
        assert scored(kept, texts) == alone
        monkeypatch.setattr(lid, "BATCH", batch)
        monkeypatch.setattr(lid, "PIECE", piece)
        monkeypatch.setattr(lid, "MOST_BYTES", batch)
        monkeypatch.setattr(lid, "FEW", piece // 20)
        monkeypatch.setattr(lid, "AT_ONCE", 1 + batch % 5)
        assert scored(Scorer(model), texts) == alone
        monkeypatch.undo()

    law()


@pytest.mark.promise("order")
def test_a_long_text_and_a_long_word_are_cut_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier.parse(made_classifier.model(2, shortest=1, longest=5), "made")
    texts = ["é日😀x" * 60, "the river " * 50 + "y" * 200, " " * 500, "z" * 300 + "\n" + "ab " * 100]
    whole = scored(Scorer(model), texts)
    for size in (64, 150):
        monkeypatch.setattr(lid, "BATCH", size)
        monkeypatch.setattr(lid, "PIECE", size)
        assert scored(Scorer(model), texts) == whole


@settings(deadline=None, max_examples=40)
@given(st.lists(st.lists(st.binary(max_size=40) | st.sampled_from([b"a", b"ab", b"a" * 32]), max_size=20), max_size=8))
def test_words_are_numbered_as_by_a_dictionary(batches: list[list[bytes]]) -> None:
    known, numbers = KnownWords(50), dict[bytes, int]()
    for texts in batches:
        words = words_of(texts)
        each = [text.translate(bytes.maketrans(b"\0", b" ")).split() for text in texts]
        assert words.counts.tolist() == [len(found) for found in each]
        listed = [word for found in each for word in found]
        assert [words.text(index) for index in range(len(words.starts))] == listed
        short = np.flatnonzero(words.lengths <= 32)
        found, new = known.numbers(keys_of(words, short))
        for place, number in zip(short.tolist(), found.tolist(), strict=True):
            assert numbers.setdefault(listed[place], number) == number
        assert [found[index] for index in new] == list(range(known.count - len(new), known.count))
    assert sorted(numbers.values()) == list(range(known.count))


def test_words_that_are_made_to_meet_in_a_slot_are_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from puna.data.quality import known_words

    model = classifier.parse(made_classifier.model(3), "made")
    texts = [" ".join(f"w{number}" for number in range(200)), "w7 w8 the"]
    usual = scored(Scorer(model), texts)
    monkeypatch.setattr(known_words, "FACTORS", np.zeros(4, np.uint64))
    assert scored(Scorer(model), texts) == usual


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_model_is_refused_in_one_line_and_in_little_memory(data: st.DataObject) -> None:
    made = bytearray(made_classifier.model(quantised=True, pruned=True, dimensions=3, buckets=60))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, 500) | st.integers(0, len(made) - 9))
        value = data.draw(st.sampled_from([-1, 0, 1, 255, 1 << 20, (1 << 31) - 1, -(1 << 31), 1 << 40, (1 << 63) - 1]))
        size = data.draw(st.sampled_from([1, 4, 8]))
        made[place : place + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
    made = made[: data.draw(st.integers(0, len(made)) | st.just(len(made)))]
    refused, model = "made.ftz", None
    tracemalloc.start()
    try:
        model = classifier.parse(bytes(made), "made.ftz")
    except InputError as error:
        refused = str(error)
    except OtherModelError:
        pass
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 64_000_000
    assert "made.ftz" in refused
    assert "\n" not in refused
    if model:
        scored(Scorer(model), TEXTS[:4])


def test_sizes_are_not_believed() -> None:
    made = made_classifier.model()
    for place, form, value in ((8, "<i", 1 << 30), (40, "<i", 1 << 30), (64, "<i", 1 << 30), (84, "<q", 1 << 60)):
        lying = bytearray(made)
        struct.pack_into(form, lying, place, value)
        with pytest.raises(InputError, match="fastText"):
            classifier.parse(bytes(lying), "made")
    for end in range(0, len(made), 997):
        with pytest.raises(InputError, match="fastText"):
            classifier.parse(made[:end], "made")


def test_a_model_that_only_fasttext_reads_is_left_to_it(tmp_path: Path) -> None:
    for number, kind in enumerate(({"ngrams": 2}, {"loss": 2}, {"loss": 4}, {"longest": 20}, {"dimensions": 1200})):
        file = tmp_path / f"{number}.bin"
        file.write_bytes(made_classifier.model(**kind))
        with pytest.raises(OtherModelError):
            classifier.load(file)
        rows = language.told(TEXTS, file)
        told = by_fasttext(file, TEXTS)
        assert language.codes(rows) == [
            each[0][1].removeprefix("__label__") if text.strip() else "" for text, each in zip(TEXTS, told, strict=True)
        ]
