"""Embedding and cross-entropy over a vocabulary that ranks share, against one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from puna.model.comm import Comm
from puna.model.loss import cross_entropy, plain_cross_entropy
from puna.model.vocabulary import cut_cross_entropy, embed, own_pieces
from thread_ranks import on_ranks

pytestmark = pytest.mark.usefixtures("one_thread")


def made(*shape: int, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * scale).to(dtype)


def own_rows(weight_VD: Tensor, comm: Comm) -> Tensor:
    own = own_pieces(len(weight_VD), comm.rank, comm.size)
    return weight_VD[own.start : own.stop].detach().clone().requires_grad_()


@given(vocabulary=st.integers(1, 70), size=st.integers(1, 9))
def test_each_piece_has_one_owner_and_ranks_have_what_torch_gives_them(vocabulary: int, size: int) -> None:
    ranges = [own_pieces(vocabulary, rank, size) for rank in range(size)]
    assert [piece for pieces in ranges for piece in pieces] == list(range(vocabulary))
    chunks = [len(chunk) for chunk in torch.arange(vocabulary).chunk(size)]
    assert [len(pieces) for pieces in ranges if pieces] == chunks


@settings(deadline=None, max_examples=12)
@given(
    size=st.sampled_from([1, 2, 3]),
    vocabulary=st.integers(5, 31),
    length=st.integers(1, 4),
    chunk=st.sampled_from([1, 2, 3, None]),
    unscored=st.booleans(),
)
def test_nats_and_gradients_are_those_of_one_process(
    size: int, vocabulary: int, length: int, chunk: int | None, unscored: bool
) -> None:
    hidden, weight = made(2, length * size, 6), made(vocabulary, 6, scale=3.0)
    targets = torch.randint(vocabulary, hidden.shape[:2], generator=torch.Generator().manual_seed(2))
    if unscored:
        targets[0, 0] = targets[1, -1] = -1
    exact = [tensor.clone().requires_grad_() for tensor in (hidden, weight)]
    expected = plain_cross_entropy(exact[0].flatten(0, 1), exact[1], targets.flatten())
    gradients = torch.autograd.grad(expected.nats * 0.5, exact)

    def work(comm: Comm) -> Any:
        part = hidden.chunk(size, 1)[comm.rank].clone().requires_grad_()
        own = own_rows(weight, comm)
        loss = cut_cross_entropy(part, own, targets, vocabulary, comm, chunk=chunk)
        with torch.no_grad():
            again = cut_cross_entropy(part, own, targets, vocabulary, comm, chunk=chunk)
        assert torch.equal(again.each, loss.each)
        assert torch.equal(again.nats, loss.nats)
        return loss, torch.autograd.grad(loss.nats * 0.5, (part, own))

    results = on_ranks(size, work)
    for loss, _ in results:
        torch.testing.assert_close(loss.nats, expected.nats)
        torch.testing.assert_close(loss.each, expected.each)
        assert loss.tokens == expected.tokens
        assert torch.equal(loss.each, results[0][0].each)  # the same bits on every rank
    torch.testing.assert_close(torch.cat([part for _, (part, _) in results], 1), gradients[0])
    torch.testing.assert_close(torch.cat([own for _, (_, own) in results]), gradients[1])


def test_in_a_short_type_it_gives_the_nats_of_one_process_and_its_gradients_within_a_rounding() -> None:
    hidden, weight, targets = made(1, 8, 16).bfloat16(), made(64, 16).flip(0).bfloat16(), torch.arange(8)[None]
    whole = [tensor.clone().requires_grad_() for tensor in (hidden, weight)]
    loss = cross_entropy(whole[0].flatten(0, 1), whole[1], targets.flatten()).nats
    expected = torch.autograd.grad(loss, whole)

    def work(comm: Comm) -> Any:
        part = hidden.chunk(2, 1)[comm.rank].clone().requires_grad_()
        own = own_rows(weight, comm)
        found = cut_cross_entropy(part, own, targets, 64, comm)
        return found.nats.detach(), torch.autograd.grad(found.nats, (part, own))

    results = on_ranks(2, work)
    assert results[0][0] == pytest.approx(loss.item(), rel=1e-5)
    for number, axis in enumerate((1, 0)):
        joined = torch.cat([gradients[number] for _, gradients in results], axis)
        assert joined.dtype == torch.bfloat16
        assert (joined.double() - expected[number].double()).norm() / expected[number].double().norm() <= 2**-8


@pytest.mark.parametrize("size", [1, 2, 3])
def test_rows_and_their_gradients_are_those_of_one_process(size: int) -> None:
    weight, tokens = made(7, 5), torch.tensor([[0, 1, 2, 3, 4, 5], [6, 6, 0, 0, 3, 6]])
    pull = made(2, 6, 5)
    whole = weight.clone().requires_grad_()
    expected = F.embedding(tokens, whole)
    gradient = torch.autograd.grad(expected, whole, pull)[0]

    def work(comm: Comm) -> Any:
        own = own_rows(weight, comm)
        rows = embed(tokens, own, 7, comm)
        return rows.detach(), torch.autograd.grad(rows, own, pull.chunk(size, 1)[comm.rank])[0]

    results = on_ranks(size, work)
    torch.testing.assert_close(torch.cat([rows for rows, _ in results], 1), expected.detach())
    torch.testing.assert_close(torch.cat([own for _, own in results]), gradient)
