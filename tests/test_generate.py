"""Decoding on the cache says what decoding without one says, and text comes whole, in time and up to its stop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from puna import storage
from puna import tokenizer as tokenizers
from puna.errors import InputError
from puna.generate import Generator, find, load
from puna.generate.decode import Context, continuation, generate, to_text
from puna.generate.sampling import Sampling, candidates
from puna.generate.text import TextStream
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import initialise, write_model
from puna.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")

CONTEXT = 12
GREEDY = Sampling(temperature=0)
few = settings(deadline=None, max_examples=20)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes and a few pieces over them."""
    text = "the cat and the hat and the bat. the end is near, the end is here. naïve café, 東京 🦜\n"
    return Tokenizer(tokenizers.train([text] * 3, pieces=290, character_coverage=0.98))


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Llama:
    """Random weights, large enough that a different past gives a different next token."""
    config = ModelConfig(
        dim=16, heads=4, kv_heads=2, layers=2, hidden=24, vocabulary=tokenizer.vocabulary, context=CONTEXT
    )
    model = Llama(config)
    initialise(model, 2)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(6)
    return model


@pytest.fixture(scope="module")
def run(tokenizer: Tokenizer, model: Llama, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a tokenizer and two checkpoints, the older of which is no model at all."""
    folder = tmp_path_factory.mktemp("runs") / "a run"
    storage.write(folder / "tokenizer" / "tokenizer.model", tokenizer.model)
    storage.write_json(folder / "checkpoints" / "step-000001" / "checkpoint.json", {"format": 1, "files": {}})
    newest = folder / "checkpoints" / "step-000002"
    write_model(newest, model.config, model.state_dict(), tokenizer=tokenizer.digest)
    storage.write_json(newest / "checkpoint.json", {"format": 1, "step": 2, "files": {}})
    return folder


@torch.no_grad()
def without_cache(model: Llama, ids: Sequence[int], tokens: int, eos: int, sampling: Sampling) -> Iterator[int]:
    """The readable twin of `continuation`: the whole window is read anew for every token."""
    chance = sampling.generator()
    window = list(ids)
    for _ in range(tokens):
        if len(window) > CONTEXT:
            window = window[-CONTEXT // 2 :]
        drawn = sampling.draw(model.logits(torch.tensor([window]))[0, -1], chance)
        if drawn == eos:
            return
        yield drawn
        window.append(drawn)


@given(prompt=st.lists(st.integers(0, 289), min_size=1, max_size=30), seed=st.integers(0, 5), greedy=st.booleans())
@few
def test_decoding_with_and_without_the_cache_agree_beyond_the_context(
    model: Llama, prompt: list[int], seed: int, greedy: bool
) -> None:
    sampling = Sampling(temperature=0 if greedy else 1.0, top_p=1.0, seed=seed)
    cached = list(continuation(model, prompt, tokens=40, eos=2, sampling=sampling))
    assert cached == list(without_cache(model, prompt, 40, 2, sampling))


def test_no_position_beyond_the_context_is_ever_read(model: Llama) -> None:
    context = Context(model)
    read = []
    hook = model.register_forward_pre_hook(lambda module, args: read.append(args[0].shape[1]))
    try:
        context.feed(list(range(10)))
        for number in range(9):
            context.feed([number])
    finally:
        hook.remove()
    assert read == [10, 1, 1, 6, 1, 1, 1, 1, 1, 1]


def test_generating_ends_at_the_end_sign_and_at_the_number_of_tokens(model: Llama) -> None:
    ids = list(continuation(model, [1, 70], tokens=20, eos=-1, sampling=GREEDY))
    assert len(ids) == 20
    end = ids[7]
    assert list(continuation(model, [1, 70], tokens=20, eos=end, sampling=GREEDY)) == ids[: ids.index(end)]
    assert list(continuation(model, [1, 70], tokens=0, eos=-1, sampling=GREEDY)) == []


def test_the_same_seed_gives_the_same_text_and_another_another(model: Llama, tokenizer: Tokenizer) -> None:
    own = Generator(model, tokenizer, Path())
    first, again, other = (own.generate("the ", tokens=30, temperature=1, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert own.generate("the ", tokens=30, temperature=0, seed=1) == own.generate(
        "the ", tokens=30, temperature=0, seed=2
    )
    assert "".join(own.stream("the ", tokens=30, temperature=1, seed=1)) == first


@given(text=st.text(max_size=12), seed=st.integers(0, 3))
@few
def test_only_whole_characters_are_streamed_and_all_of_them(tokenizer: Tokenizer, text: str, seed: int) -> None:
    bytewise = [3 + byte for byte in text.encode()]
    pieces = list(to_text(iter(bytewise), tokenizer))
    assert "".join(pieces) == text
    assert all(len(piece) == 1 for piece in pieces)
    noise = np.random.default_rng(seed).integers(0, tokenizer.vocabulary, 30).tolist()
    assert "".join(to_text(iter(noise), tokenizer)) == tokenizer.decode(noise)


@given(
    text=st.text(alphabet="ab\n", max_size=14),
    stop=st.lists(st.text(alphabet="ab\n", min_size=1, max_size=4), max_size=3),
)
@settings(deadline=None, max_examples=80)
def test_text_ends_before_the_first_stop_string_across_tokens(tokenizer: Tokenizer, text: str, stop: list[str]) -> None:
    found = "".join(to_text(iter([3 + byte for byte in text.encode()]), tokenizer, stop))
    at_once = TextStream(stop)
    assert at_once.feed(text.encode()) + at_once.close() == found
    # The first stop string is the one that is whole first: nothing behind its end is ever read.
    read = next((text[:end] for end in range(len(text) + 1) if any(word in text[:end] for word in stop)), text)
    assert found == read[: min((read.index(word) for word in stop if word in read), default=len(read))]


def test_the_borders_of_tokens_do_not_say_which_stop_string_was_met() -> None:
    stops, texts = ("abcX", "c"), []
    for pieces in (["abcX"], ["abc", "X"], ["ab", "cX"], ["a", "b", "c"]):
        stream = TextStream(stops)
        texts.append("".join(stream.feed(piece.encode()) for piece in pieces) + stream.close())
    assert texts == ["ab"] * 4


def test_text_is_held_back_only_while_it_may_be_a_stop(tokenizer: Tokenizer) -> None:
    ids = [3 + byte for byte in b"a\n\nb\n\n\nc"]
    assert list(to_text(iter(ids), tokenizer, ["\n\n\n"])) == ["a", "\n\nb"]
    assert list(to_text(iter(ids), tokenizer)) == list("a\n\nb\n\n\nc")


def test_likeliest_pieces_are_kept_by_number_and_by_share() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3], dtype=torch.float64).log()

    def kept(top_k: int, top_p: float, temperature: float = 1.0) -> tuple[list[int], list[float]]:
        ids, probabilities = candidates(logits, temperature, top_k, top_p)
        return ids.tolist(), [round(value, 9) for value in probabilities.tolist()]

    assert kept(0, 1.0) == ([1, 3, 2, 0], [0.4, 0.3, 0.2, 0.1])
    assert kept(2, 1.0) == ([1, 3], [round(4 / 7, 9), round(3 / 7, 9)])
    assert kept(0, 0.65) == ([1, 3], [round(4 / 7, 9), round(3 / 7, 9)])
    assert kept(0, 1e-9) == ([1], [1.0])
    assert kept(0, 1.0, 0.5)[1] == [round(value / 0.3, 9) for value in (0.16, 0.09, 0.04, 0.01)]
    assert kept(9, 1.0)[0] == [1, 3, 2, 0]


def test_draws_follow_the_probabilities() -> None:
    logits = torch.tensor([0.5, 0.3, 0.2]).log()
    sampling = Sampling(temperature=1, top_p=1)
    chance = sampling.generator()
    counts = np.bincount([sampling.draw(logits, chance) for _ in range(2000)], minlength=3)
    np.testing.assert_allclose(counts / 2000, [0.5, 0.3, 0.2], atol=0.05)


def test_a_row_with_impossible_pieces_and_a_tiny_temperature_is_drawn_from() -> None:
    logits = torch.tensor([-torch.inf, 1.0, 1.0, 0.0])
    sampling = Sampling(temperature=1e-300, top_p=1)
    assert sampling.draw(logits, sampling.generator()) in (1, 2)
    assert GREEDY.draw(logits, GREEDY.generator()) == 1


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"tokens": -1}, "tokens"),
        ({"stop": [""]}, "stop string"),
    ],
)
def test_values_that_make_no_sense_are_refused_at_once(
    model: Llama, tokenizer: Tokenizer, values: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        generate(model, tokenizer, "a", **values)  # type: ignore[arg-type]


@pytest.mark.promise("formats")
def test_a_run_and_its_checkpoint_load_to_the_same_model(
    run: Path, model: Llama, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Generator(model, tokenizer, run).generate("the end", tokens=20, seed=4)
    newest = run / "checkpoints" / "step-000002"
    exported = shutil.copytree(newest, tmp_path / "exported")
    shutil.copy(run / "tokenizer" / "tokenizer.model", exported)
    monkeypatch.chdir(newest)
    for place in (run, str(run), newest, ".", exported):
        loaded = load(place)
        assert loaded.generate("the end", tokens=20, seed=4) == expected
    assert load(run).folder == newest


@pytest.mark.promise("errors")
def test_what_holds_no_model_is_refused_with_the_mend(run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load(tmp_path / "nothing")
    with pytest.raises(InputError, match="neither a run nor a checkpoint"):
        load(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match="puna train"):
        find(tmp_path)
    alone = shutil.copytree(run / "checkpoints" / "step-000002", tmp_path / "alone")
    with pytest.raises(InputError, match=r"has no tokenizer.model"):
        load(alone)
    storage.write(alone / "tokenizer.model", tokenizers.train(["another text of words"] * 9, pieces=275))
    with pytest.raises(InputError, match=r"is not the tokenizer that alone was trained with"):
        load(alone)
    with pytest.raises(InputError, match=r"config.json: no such file"):
        load(run / "checkpoints" / "step-000001")


def test_chance_comes_from_the_seed_alone(model: Llama) -> None:
    """Not from torch's global state, which other code may use."""

    def drawn() -> list[int]:
        return list(continuation(model, [1], tokens=10, eos=-1, sampling=Sampling(temperature=1, seed=3)))

    first = drawn()
    state: Tensor = torch.get_rng_state()
    torch.manual_seed(99)
    assert drawn() == first
    torch.set_rng_state(state)
