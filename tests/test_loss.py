"""The chunked cross-entropy is the plain one, without its memory."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from puna.model import loss as losses
from puna.model.loss import cross_entropy, plain_cross_entropy, token_nats

few = settings(deadline=None, max_examples=25)


def case(tokens: int, dim: int, vocabulary: int, dtype: torch.dtype, skipped: int = 0) -> tuple[torch.Tensor, ...]:
    chance = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, dim, dtype=torch.float64, generator=chance).to(dtype).requires_grad_()
    weight = torch.randn(vocabulary, dim, dtype=torch.float64, generator=chance).to(dtype).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), generator=chance)
    targets[:skipped] = -1
    return hidden, weight, targets


@given(
    tokens=st.integers(1, 40),
    dim=st.integers(1, 9),
    vocabulary=st.integers(1, 30),
    chunk=st.integers(1, 45),
    skipped=st.integers(0, 3),
)
@few
def test_loss_and_gradients_equal_the_plain_ones_for_every_chunk(
    tokens: int, dim: int, vocabulary: int, chunk: int, skipped: int
) -> None:
    hidden, weight, targets = case(tokens, dim, vocabulary, torch.float32, min(skipped, tokens))
    losses = cross_entropy(hidden, weight, targets, chunk=chunk), plain_cross_entropy(hidden, weight, targets)
    assert losses[0].tokens == losses[1].tokens == tokens - min(skipped, tokens)
    torch.testing.assert_close(losses[0].nats, losses[1].nats, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(loss.nats / tokens, (hidden, weight)) for loss in losses]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-5)


def test_the_gradient_is_the_derivative() -> None:
    hidden, weight, targets = case(7, 3, 5, torch.float64, skipped=1)
    assert torch.autograd.gradcheck(lambda h, w: cross_entropy(h, w, targets, chunk=3).nats, (hidden, weight))


def test_bfloat16_stays_near_float32_over_many_chunks() -> None:
    hidden, weight, targets = case(4000, 16, 12, torch.bfloat16)
    exact = [tensor.detach().float().requires_grad_() for tensor in (hidden, weight)]
    loss, expected = cross_entropy(hidden, weight, targets, chunk=10), plain_cross_entropy(*exact, targets)
    torch.testing.assert_close(loss.nats, expected.nats, rtol=2e-3, atol=0)
    found = torch.autograd.grad(loss.nats, (hidden, weight))
    wanted = torch.autograd.grad(expected.nats, exact)
    for gradient, true in zip(found, wanted, strict=True):
        assert gradient.dtype == torch.bfloat16
        assert (gradient.float() - true).norm() < 0.01 * true.norm()


def test_a_likely_target_has_its_true_gradient_in_bfloat16() -> None:
    hidden, weight = torch.tensor([[4.0]]), torch.tensor([[1.5], [0.0]])
    short = [tensor.bfloat16().requires_grad_() for tensor in (hidden, weight)]
    loss = cross_entropy(*short, torch.tensor([0]))
    found = torch.autograd.grad(loss.nats, short)[1][0].item()
    assert found == pytest.approx(-4 / (1 + math.exp(6)), rel=2**-7)  # a bfloat16 of p is 1 there, and p - 1 is 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_itself_it_takes_as_many_tokens_as_the_limit_of_logits_holds(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, weight, targets = case(50, 4, 100, dtype)
    monkeypatch.setattr(losses, "LOGITS", 23 * 100 * dtype.itemsize)
    monkeypatch.setattr(losses, "CACHED", 4 * 100 * 4)
    assert losses.chunk_of(50, 100, dtype) == 17  # three chunks of one size but the last
    loss, expected = cross_entropy(hidden, weight, targets), cross_entropy(hidden, weight, targets, chunk=17)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(loss, expected, strict=True))
    torch.testing.assert_close(
        torch.autograd.grad(loss.nats, (hidden, weight)),
        torch.autograd.grad(expected.nats, (hidden, weight)),
        atol=0,
        rtol=0,
    )
    monkeypatch.setattr(losses, "LOGITS", 1)
    assert losses.chunk_of(50, 100, dtype) == 1


def test_nats_of_each_token_sum_to_the_loss_and_need_no_gradient() -> None:
    hidden, weight, targets = case(23, 4, 9, torch.float32, skipped=2)
    nats = token_nats(hidden, weight, targets, chunk=5)
    assert nats.shape == (23,)
    assert not nats.requires_grad
    assert nats[:2].tolist() == [0, 0]
    with torch.no_grad():
        loss = cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(loss.nats, nats.sum(dtype=torch.float64))
    torch.testing.assert_close(loss.nats, plain_cross_entropy(hidden, weight, targets).nats, rtol=1e-5, atol=1e-5)


def test_nats_are_summed_in_float64() -> None:
    hidden, weight, targets = case(4000, 4, 9, torch.float32)
    loss = cross_entropy(hidden, weight, targets, chunk=700)
    assert loss.nats.item() == pytest.approx(loss.each.sum(dtype=torch.float64).item(), rel=1e-14)


def test_an_impossible_target_costs_its_true_nats() -> None:
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[0.0], [-500.0]])
    assert token_nats(hidden, weight, torch.tensor([1])).item() == pytest.approx(500.0)


def test_only_one_chunk_of_logits_is_ever_in_memory() -> None:
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    hidden, weight, targets = case(640, 4, 100, torch.float32)
    with Watch():
        cross_entropy(hidden, weight, targets, chunk=32).nats.backward()
    assert largest == 32 * 100
