"""Every token of a held-out document is scored once, with the context that was promised."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.model.bits import bits
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import initialise

VOCABULARY = 20


@pytest.fixture(scope="module")
def model() -> Llama:
    model = Llama(ModelConfig(dim=8, heads=2, kv_heads=1, layers=2, hidden=12, vocabulary=VOCABULARY, context=16))
    initialise(model, 1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(8)
    return model


def documents(lengths: list[int]) -> list[np.ndarray]:
    chance = np.random.default_rng(5)
    return [np.array([1, *chance.integers(3, VOCABULARY, length), 2], dtype=np.uint16) for length in lengths]


@torch.no_grad()
def one_at_a_time(model: Llama, ids: np.ndarray, context: int, stride: int) -> float:
    """Each token from the context of the window it belongs to, in a forward pass of its own."""
    nats = 0.0
    for position in range(len(ids) - 1):
        late = max(0, position - context + 1)
        start = -(-late // stride) * stride  # the first window that reaches the position
        assert position == start == 0 or position - start >= min(position, context - stride)
        logits = model.logits(torch.from_numpy(ids[start : position + 1].astype(np.int64))[None])[0, -1]
        nats -= float(logits.double().log_softmax(-1)[int(ids[position + 1])])
    return nats


@pytest.mark.promise("twins")
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    windows=st.sampled_from([(16, 8), (16, 16), (16, 1), (7, 3), (1, 1), (5, 4)]),
    batch=st.sampled_from([1, 3, 64]),
)
@settings(deadline=None, max_examples=15)
def test_batched_windows_cost_what_single_tokens_cost(
    model: Llama, lengths: list[int], windows: tuple[int, int], batch: int
) -> None:
    held = documents(lengths)
    counted: list[float] = []
    found = bits(model, held, *windows, batch=batch, advance=counted.append)
    np.testing.assert_allclose(found.nats, [one_at_a_time(model, ids, *windows) for ids in held], rtol=1e-5)
    assert found.tokens.tolist() == [length + 1 for length in lengths]
    assert sum(counted) == found.tokens.sum()


def test_a_document_within_the_context_is_read_whole(model: Llama) -> None:
    (ids,) = documents([14])
    with torch.no_grad():
        expected = model.loss(torch.from_numpy(ids.astype(np.int64))[None])
    found = bits(model, [ids], context=16, stride=4)
    assert found.nats[0] == pytest.approx(float(expected.nats), rel=1e-6)


def test_the_other_documents_of_a_batch_do_not_matter(model: Llama) -> None:
    held = documents([3, 30, 11, 25])
    together = bits(model, held, 16, 8).nats
    np.testing.assert_allclose(together, [bits(model, [ids], 16, 8).nats[0] for ids in held], rtol=1e-6)


def test_bfloat16_is_near_float32(model: Llama) -> None:
    narrow = Llama(model.config, dtype=torch.bfloat16)
    narrow.load_state_dict(model.state_dict())
    held = documents([30, 12])
    np.testing.assert_allclose(bits(narrow, held, 16, 8).nats, bits(model, held, 16, 8).nats, rtol=0.02)


def test_nothing_to_score_costs_nothing(model: Llama) -> None:
    found = bits(model, [np.array([1], dtype=np.uint16)], 16, 8)
    assert (found.nats.tolist(), found.tokens.tolist()) == ([0.0], [0])
    assert bits(model, [], 16, 8).nats.shape == (0,)


@pytest.mark.parametrize("stride", [0, 17])
def test_a_stride_that_would_skip_text_is_refused(model: Llama, stride: int) -> None:
    with pytest.raises(ValueError, match="stride"):
        bits(model, [], 16, stride)
