"""Held-out bits per byte: one definition of what is scored, sums by source, nothing measured on other text."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna import recipe, storage, tokenizer
from puna.data.document import Document, Origin, document_id, write_documents
from puna.data.quality import ngram
from puna.errors import InputError
from puna.evaluate import heldout
from puna.evaluate.compression import compressed_sizes
from puna.evaluate.heldout import Size, baselines, bits_per_byte, evaluate
from small_recipe import RECIPE

HELD = {
    "wikipedia": ["The cat sat on the mat.\nIt was é.\n", "", "A dog ran after the cat in 1905. " * 5],
    "github": ["def square(x):\n    return x * x\n"],
}
TRAINING = {
    "wikipedia": [f"The cat number {n} sat on the mat, and the dog ran after it.\n" for n in range(60)],
    "github": [f"def power_{n}(x):\n    return x ** {n}\n" for n in range(60)],
}
NAMES = {"xz", "xz_primed", "zstd", "zstd_primed", "ngram", "uniform"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with held-out text, training text and a tokenizer."""
    storage.write(tmp_path / "tokenizer" / "tokenizer.model", _tokenizer_model())
    for kind, texts in (("heldout", HELD), ("documents", TRAINING)):
        for source, of_source in texts.items():
            for number, part in enumerate((of_source[:1], of_source[1:])):
                _write(tmp_path / kind / source / f"{number:05}.parquet", source, part)
    return tmp_path


@pytest.fixture
def small(tmp_path: Path) -> recipe.Recipe:
    file = tmp_path / "small.toml"
    file.write_text(RECIPE)
    return recipe.load(file)


def test_every_baseline_is_measured_for_every_source_and_for_all(run: Path, small: recipe.Recipe) -> None:
    result = baselines(run, small)
    assert json.loads((run / "evaluations" / "baselines.json").read_text()) == result
    assert {source: set(row) for source, row in result["bits_per_byte"].items()} == {
        "all": NAMES,
        "github": NAMES,
        "wikipedia": NAMES,
    }
    sizes = {source: sum(len(text.encode()) for text in texts) for source, texts in HELD.items()}
    assert result["bytes"] == {**sizes, "all": sum(sizes.values())}
    assert result["documents"] == {"wikipedia": 3, "github": 1, "all": 4}
    for name in NAMES:
        summed = sum(result["bits_per_byte"][source][name] * sizes[source] for source in HELD)
        assert result["bits_per_byte"]["all"][name] == pytest.approx(summed / sum(sizes.values()))


def test_what_is_scored_is_every_piece_and_one_end_a_document(run: Path, small: recipe.Recipe) -> None:
    result = baselines(run, small)
    encoding = tokenizer.load(run / "tokenizer" / "tokenizer.model")
    for source, texts in HELD.items():
        tokens = sum(len(encoding.encode(text)) + 1 for text in texts)
        uniform = math.log2(encoding.vocabulary) * tokens / result["bytes"][source]
        assert result["tokens"][source] == tokens
        assert result["bits_per_byte"][source]["uniform"] == pytest.approx(uniform)


def test_the_ngram_model_knows_the_training_text_of_its_source_alone(run: Path, small: recipe.Recipe) -> None:
    result = baselines(run, small)
    encoding = tokenizer.load(run / "tokenizer" / "tokenizer.model")
    pieces = {"vocabulary": encoding.vocabulary, "bos": encoding.bos, "eos": encoding.eos}
    for source, texts in HELD.items():
        model = ngram.train(encoding.encode_batch(TRAINING[source]), order=3, **pieces)
        nats = 0.0
        for text in texts:
            ids = [encoding.bos, *encoding.encode(text), encoding.eos]
            nats -= float(model.log10_probabilities(ids).sum()) * math.log(10)
        assert result["bits_per_byte"][source]["ngram"] * result["bytes"][source] == pytest.approx(nats / math.log(2))


def test_compressors_see_the_texts_joined_by_a_newline(run: Path, small: recipe.Recipe) -> None:
    result = baselines(run, small)
    for source in HELD:
        training, held = ("\n".join(texts[source]).encode() for texts in (TRAINING, HELD))
        for name in ("xz", "zstd"):
            sizes = compressed_sizes(name, training, held)
            found = [result["bits_per_byte"][source][key] for key in (name, f"{name}_primed")]
            assert found == pytest.approx([8 * size / result["bytes"][source] for size in sizes])


@pytest.mark.promise("order")
def test_two_workers_measure_what_one_does(run: Path, small: recipe.Recipe) -> None:
    assert baselines(run, small, workers=2) == baselines(run, small)


@pytest.mark.promise("house")
def test_baselines_load_no_torch(run: Path, small: recipe.Recipe) -> None:
    code = (
        "import sys; from pathlib import Path; from puna import recipe; from puna.evaluate.heldout import baselines;"
        "baselines(Path(sys.argv[1]), recipe.load(sys.argv[2])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(run), str(run / "small.toml")], check=True, capture_output=True)


def test_too_much_or_no_training_text_leaves_out_what_needs_it_and_says_so(
    run: Path, small: recipe.Recipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(heldout, "MOST_TRAINING_TEXT", 2_000)
    storage.remove(run / "documents" / "github")
    result = baselines(run, small)
    assert all(set(row) == {"xz", "zstd", "uniform"} for row in result["bits_per_byte"].values())
    said = capsys.readouterr().err
    assert "wikipedia has more than 2,000 bytes of training text" in said
    assert "github has no training text" in said


def test_a_run_without_held_out_text_says_so(
    run: Path, small: recipe.Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    storage.remove(run / "heldout")
    result = baselines(run, small)
    assert result["bits_per_byte"] == {"all": {}}
    assert result["bytes"] == {"all": 0}
    assert "no text is held out" in capsys.readouterr().err


def test_a_model_that_knows_nothing_measures_uniform(run: Path, small: recipe.Recipe) -> None:
    before = baselines(run, small)
    _write_checkpoint(run, small)
    result = evaluate(run, small)
    assert json.loads((run / "evaluations" / "heldout.json").read_text()) == result
    assert result["checkpoint"] == "step-000010"
    assert (result["context"], result["stride"]) == (32, 16)
    for source, row in result["bits_per_byte"].items():
        assert row["model"] == pytest.approx(row["uniform"], rel=1e-5)
        assert {name: value for name, value in row.items() if name != "model"} == before["bits_per_byte"][source]
    assert all(result[key] == before[key] for key in ("bytes", "documents", "tokens"))


def test_the_model_is_scored_with_the_context_and_stride_that_are_written_beside_it(
    run: Path, small: recipe.Recipe
) -> None:
    from puna.model.bits import bits
    from puna.model.weights import load_checkpoint

    baselines(run, small)
    _write_checkpoint(run, small, knows=8)
    result = evaluate(run, small)
    model = load_checkpoint(run / "checkpoints" / "step-000010")
    encoding = tokenizer.load(run / "tokenizer" / "tokenizer.model")
    ids = [np.array([encoding.bos, *encoding.encode(text), encoding.eos]) for text in HELD["wikipedia"]]
    found = result["bits_per_byte"]["wikipedia"]["model"] * result["bytes"]["wikipedia"] * math.log(2)
    assert found == pytest.approx(bits(model, ids, result["context"], result["stride"]).nats.sum(), rel=1e-5)
    assert found != pytest.approx(bits(model, ids, result["context"], result["context"]).nats.sum(), rel=1e-4)


def test_baselines_of_other_held_out_text_are_refused(run: Path, small: recipe.Recipe) -> None:
    baselines(run, small)
    _write_checkpoint(run, small)
    _write(run / "heldout" / "github" / "00002.parquet", "github", ["x = 1\n"])
    with pytest.raises(InputError, match=r"baselines\.json.*other held-out text"):
        evaluate(run, small)


def test_a_model_cannot_be_measured_before_its_baselines(run: Path, small: recipe.Recipe) -> None:
    with pytest.raises(InputError, match=r"baselines\.json: no such file"):
        evaluate(run, small)


measured = st.dictionaries(st.sampled_from(sorted(NAMES)), st.floats(0, 1e9), max_size=6)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from("abc"), st.tuples(measured, st.integers(1, 10**9)), min_size=1, max_size=3))
def test_all_is_summed_bits_over_summed_bytes_of_what_every_source_has(
    sources: dict[str, tuple[dict[str, float], int]],
) -> None:
    bits = {source: found for source, (found, _) in sources.items()}
    table = bits_per_byte(bits, {source: Size(size, 1, 1) for source, (_, size) in sources.items()})
    for name in NAMES:
        if all(name in found for found in bits.values()):
            total = sum(found[name] for found in bits.values()) / sum(size for _, size in sources.values())
            assert table["all"][name] == pytest.approx(total)
        else:
            assert name not in table["all"]


def _tokenizer_model() -> bytes:
    texts = [text for of_source in TRAINING.values() for text in of_source]
    return tokenizer.train(texts, pieces=340, character_coverage=1.0)


def _write(location: Path, source: str, texts: Sequence[str]) -> None:
    nowhere = Origin("dump", "key", "file", 0, "", "", "", "")
    documents = [
        Document(document_id(source, location.name, str(number)), source, "group", "en", text, nowhere)
        for number, text in enumerate(texts)
    ]
    write_documents(location, documents)


def _write_checkpoint(run: Path, small: recipe.Recipe, knows: float = 0) -> None:
    """A checkpoint of first weights times `knows`; at 0 every piece is as likely as any other."""
    import torch

    from puna.model.config import ModelConfig
    from puna.model.weights import initial, shapes, write_model

    config = ModelConfig.from_recipe(small, tokenizer.load(run / "tokenizer" / "tokenizer.model").vocabulary)
    state = {name: torch.from_numpy(np.asarray(initial(config, name, seed=1))) for name in shapes(config)}
    for tensor in state.values():
        tensor *= knows
    folder = run / "checkpoints" / "step-000010"
    write_model(folder, config, state)
    storage.write_json(folder / "checkpoint.json", {"format": 1, "files": {}})
