"""A run's cloze items and answers: of its own text, the same whatever shards and workers, scored as each text alone."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from puna import recipe, storage, tokenizer
from puna.data.document import Document, Origin, document_id, write_documents
from puna.data.quality import ngram
from puna.errors import InputError
from puna.evaluate import cloze, cloze_answers, cloze_items, heldout
from puna.evaluate.cloze import Item, Text, most_bytes
from puna.evaluate.cloze_items import Questions, ngram_scores
from small_recipe import RECIPE

WORDS = [f"{first}{second}word" for first in "abcdefgh" for second in "aeiou"]


@pytest.fixture
def small(tmp_path: Path) -> recipe.Recipe:
    storage.write(tmp_path / "small.toml", RECIPE.encode())
    return recipe.load(tmp_path / "small.toml")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with held-out text, training text and a tokenizer."""
    folder = tmp_path / "run"
    texts = [text for source in ("github", "wikipedia") for text in _made(source, "documents")]
    model = tokenizer.train(texts, pieces=340, character_coverage=1.0)
    storage.write(folder / "tokenizer" / "tokenizer.model", model)
    for source in ("github", "wikipedia"):
        for kind in ("documents", "heldout"):
            _write(folder / kind / source, source, _made(source, kind), shards=2)
    return folder


def _made(source: str, kind: str) -> list[str]:
    """Texts in which each word is followed by one of three others."""
    chance = random.Random(f"{source} {kind}")
    texts = []
    for _ in range(24 if kind == "documents" else 4):
        place = chance.randrange(len(WORDS))
        said = []
        for _ in range(200):
            place = (place * 3 + chance.randrange(3)) % len(WORDS)
            said.append(WORDS[place])
        texts.append("In " + " ".join(said))
    return texts


def _write(folder: Path, source: str, texts: Sequence[str], shards: int) -> None:
    """As a run has them: sorted by id, each shard a range of ids."""
    storage.remove(folder)
    nowhere = Origin("dump", "key", "file", 0, "", "", "", "")
    ids = {document_id(source, folder.parent.name, str(number)): text for number, text in enumerate(texts)}
    documents = [Document(key, source, "group", "en", ids[key], nowhere) for key in sorted(ids)]
    size = -(-len(documents) // shards)
    for number in range(shards):
        write_documents(folder / f"{number:05}.parquet", documents[number * size : (number + 1) * size])


def test_items_are_those_of_the_held_out_text_by_the_words_of_the_training_text(
    run: Path, small: recipe.Recipe
) -> None:
    counts = cloze_items.make(run, small)
    found = cloze_items.read(run)
    assert counts == {source: len(each.items) for source, each in found.items()}
    assert list(found) == ["github", "wikipedia"]
    for source, each in found.items():
        held, training = (
            [
                Text(document_id(source, kind, str(number)), "en", text)
                for number, text in enumerate(_made(source, kind))
            ]
            for kind in ("heldout", "documents")
        )
        assert list(each.items) == cloze.items(training, held, seed=small.seed, limit=300)
        assert len(each.items) >= 12


@pytest.mark.parametrize("limit", [1, 30])
def test_their_room_is_foreseen(run: Path, limit: int) -> None:
    storage.write(run.parent / "few.toml", RECIPE.encode())
    cloze_items.make(run, recipe.load(run.parent / "few.toml", (f"evaluate.cloze_items={limit}",)))
    held = [sum(len(text.encode()) for text in _made(source, "heldout")) for source in ("github", "wikipedia")]
    real, foreseen = (run / "evaluations" / cloze_items.NAME).stat().st_size, sum(most_bytes(limit, of) for of in held)
    assert real <= foreseen <= 20 * real


@pytest.mark.promise("order")
def test_neither_workers_nor_shards_change_a_byte_of_the_items(run: Path, small: recipe.Recipe) -> None:
    cloze_items.make(run, small)
    before = (run / "evaluations" / cloze_items.NAME).read_bytes()
    for source in ("github", "wikipedia"):
        for kind in ("documents", "heldout"):
            _write(run / kind / source, source, _made(source, kind), shards=3)
    cloze_items.make(run, small, workers=2)
    assert (run / "evaluations" / cloze_items.NAME).read_bytes() == before


@pytest.mark.promise("house")
def test_making_items_loads_no_torch(run: Path, small: recipe.Recipe, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from puna import recipe; from puna.evaluate.cloze_items import make;"
        "make(Path(sys.argv[1]), recipe.load(sys.argv[2])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(run), str(tmp_path / "small.toml")], check=True)


class Letters:
    """A tokenizer of words of one letter."""

    bos = 1

    def begin(self, text: str) -> list[int]:
        return [self.bos, *(3 + "abcde".index(word) for word in text.split())]


def test_the_n_gram_model_scores_a_choice_as_worked_by_hand() -> None:
    """Of ab, ab, ac. Bigrams: <s>a 3, ab 2, b</s> 2, ac 1, c</s> 1, so that n1, n2, n3, n4 = 2, 2, 1, 0 and the
    discounts are 1/3, 3/2, 3. Unigrams by what stands left of them: a 1, b 1, c 1, </s> 2, of which no discounts can be
    told: 1/2 and 1. Seven pieces can come."""
    model = ngram.train([[3, 4], [3, 4], [3, 5]], order=2, vocabulary=8, bos=1, eos=2)
    rest = (1 / 2 * 3 + 1) / 5 / 7
    behind_a = (3 / 2 + 1 / 3) / 3
    b = (2 - 3 / 2) / 3 + behind_a * ((1 - 1 / 2) / 5 + rest)
    c = (1 - 1 / 3) / 3 + behind_a * ((1 - 1 / 2) / 5 + rest)
    d = behind_a * rest
    behind_d_c = (1 - 1 / 2) / 5 + rest  # nothing was seen behind d
    item = Item("", 0, "a", ("b", "c", "d", "d c"), 0, (2, 1, 0, 0))
    (scores,) = ngram_scores(model, Letters(), [item])  # type: ignore[arg-type]
    assert scores == pytest.approx([math.log(b), math.log(c), math.log(d), math.log(d * behind_d_c)], abs=1e-5)
    assert [round(value, 4) for value in (b, c, d)] == [0.2714, 0.327, 0.0437]


def _item(number: int, right: int, *counts: int) -> Item:
    return Item(f"{number:032x}", 0, "", ("a", "b", "c", "d"), right, counts or (5, 5, 5, 5))


def test_the_table_by_hand() -> None:
    """Model: right, wrong, right, right; n-gram: right, right, wrong, wrong; so their difference is 0, -1, 1, 1."""
    items = (_item(0, 0), _item(1, 1, 5, 6, 5, 5), _item(2, 2, 6, 5, 5, 5), _item(3, 3))
    scores = ((-1.0, -2.0, -2.0, -2.0), (-3.0, -1.0, -3.0, -3.0), (-1.0, -1.0, -1.0, -1.0), (-9.0, -8.0, -9.0, -9.0))
    questions = {"books": Questions(items, scores), "arxiv": Questions(items[:1], None)}
    found = cloze_answers.results(questions, {"books": [0, 0, 2, 3], "arxiv": [1]}, {"books": 1, "arxiv": 0})
    books = found["books"]
    assert (books["items"], books["cut"]) == (4, 1)
    assert books["model"] == {"mean": 0.75, "error": pytest.approx(math.sqrt(0.75 / 3 / 4))}
    assert books["ngram"] == {"mean": 0.5, "error": pytest.approx(math.sqrt(1 / 3 / 4))}
    assert books["frequency"]["mean"] == (0.25 + 1 + 0 + 0.25) / 4
    assert books["difference"] == {"mean": 0.25, "error": pytest.approx(math.sqrt(2.75 / 3 / 4))}
    assert books["chance"] == {"mean": 0.25, "error": pytest.approx(math.sqrt(0.25 * 0.75 / 4))}
    assert found["arxiv"]["model"] == {"mean": 0.0, "error": None}
    assert found["all"].keys() == {"items", "cut", "model", "frequency", "chance"}
    assert (found["all"]["items"], found["all"]["model"]["mean"]) == (5, 0.6)


def test_the_model_is_asked_as_the_readable_twin_is(run: Path, small: recipe.Recipe, one_thread: None) -> None:
    from puna.evaluate import reference
    from puna.evaluate.ranking import best, both
    from puna.model.weights import load_checkpoint

    cloze_items.make(run, small)
    _write_checkpoint(run, small, knows=8)
    found = cloze_answers.evaluate(run)
    assert json.loads((run / "evaluations" / cloze_answers.NAME).read_text()) == found
    assert (found["checkpoint"], found["norm"], found["rule"]) == ("step-000010", "none", 1)
    model = load_checkpoint(run / "checkpoints" / "step-000010")
    encoding = tokenizer.load(run / "tokenizer" / "tokenizer.model")
    for source, questions in cloze_items.read(run).items():
        answers = [reference.answer(model, encoding, item.asked, alone=False) for item in questions.items]
        pairs = zip(questions.items, answers, strict=True)
        picked = [best(*both(item.asked, answer), "none") for item, answer in pairs]
        assert found["picked"][source] == picked
        right = [one == item.right for one, item in zip(picked, questions.items, strict=True)]
        assert found["results"][source]["model"]["mean"] == pytest.approx(sum(right) / len(right))
        assert 0 < found["results"][source]["cut"] <= len(right)  # the context is of 32 tokens
        assert found["results"][source]["ngram"]["mean"] > 0.4
        assert abs(found["results"][source]["frequency"]["mean"] - 0.25) < 0.2


def test_a_source_with_too_much_training_text_is_asked_without_an_n_gram_model(
    run: Path, small: recipe.Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (heldout, cloze_items):
        monkeypatch.setattr(module, "MOST_TRAINING_TEXT", 2_000)
    cloze_items.make(run, small)
    assert {each.ngram for each in cloze_items.read(run).values()} == {None}


@pytest.mark.promise("errors")
def test_too_little_held_out_text_is_told_in_a_line_and_the_run_goes_on(
    run: Path, small: recipe.Recipe, capsys: pytest.CaptureFixture[str], one_thread: None
) -> None:
    _write(run / "heldout" / "github", "github", ["Nothing of it."], shards=1)
    _write(run / "heldout" / "wikipedia", "wikipedia", _made("wikipedia", "heldout")[:1], shards=1)
    assert set(cloze_items.make(run, small)) == {"wikipedia"}
    said = capsys.readouterr().err
    assert "github: no cloze item in its held-out text" in said
    assert "wikipedia: only 4 cloze items in its held-out text, too few to tell much" in said
    _write(run / "heldout" / "github", "github", [], shards=1)
    storage.remove(run / "heldout" / "wikipedia")
    assert cloze_items.make(run, small) == {}
    assert "held-out text" not in capsys.readouterr().err
    _write_checkpoint(run, small)
    assert cloze_answers.evaluate(run)["results"] == {}


def test_no_items_are_made_where_none_are_asked_for(
    run: Path, small: recipe.Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    none = small.model_copy(update={"evaluate": small.evaluate.model_copy(update={"cloze_items": 0})})
    assert cloze_items.make(run, none) == {}
    assert "cloze" not in capsys.readouterr().err


def test_answers_need_items(run: Path, small: recipe.Recipe) -> None:
    with pytest.raises(InputError, match=r"cloze_items\.json: no such file"):
        cloze_answers.evaluate(run)


def _write_checkpoint(run: Path, small: recipe.Recipe, knows: float = 0) -> None:
    """A checkpoint of first weights times `knows`."""
    import torch

    from puna.model.config import ModelConfig
    from puna.model.weights import initial, shapes, write_model

    config = ModelConfig.from_recipe(small, tokenizer.load(run / "tokenizer" / "tokenizer.model").vocabulary)
    state: dict[str, Any] = {
        name: torch.from_numpy(np.asarray(initial(config, name, seed=1))) * knows for name in shapes(config)
    }
    folder = run / "checkpoints" / "step-000010"
    write_model(folder, config, state)
    storage.write_json(folder / "checkpoint.json", {"format": 1, "files": {}})
