"""A model that ranks share trains as one process does: losses, gradient norms, weights; by this package's layers and by
torch's own tensor parallelism.

In f32 two ways of summing differ by some 1e-7 of a value, and 20 steps let that grow tenfold; 1e-5 is what is promised.
In bfloat16 each rank's summands are rounded (2^-9) before they are summed: losses agree to 1e-3, the norm of all
gradients to 2e-2 of itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

from puna.errors import InputError
from puna.model import modes
from puna.model.bits import bits
from puna.model.config import ModelConfig
from puna.model.documents import segments
from puna.model.llama import Llama
from puna.model.weights import initialise
from puna.parallel.modules import ModuleLlama
from puna.parallel.tensor import cut, joined, parts, placement, refuse_uneven, sum_gradients
from ranks import Ranks

pytestmark = pytest.mark.usefixtures("one_thread")

Group = Callable[[int], Ranks]
STEPS = 20
PLAIN = ModelConfig(dim=32, heads=8, kv_heads=8, layers=2, hidden=48, vocabulary=64)
# Grouped keys; embedding and output are one tensor, whose rows do not divide by any number of ranks.
ODD = ModelConfig(dim=32, heads=8, kv_heads=4, layers=2, hidden=40, vocabulary=61, tied=True)


class Trained(NamedTuple):
    losses: list[float]
    norms: list[float]
    weights: dict[str, torch.Tensor]


@pytest.mark.parametrize(
    ("count", "form", "mode", "config"),
    [
        (2, "hand", "hand", ODD),
        (2, "hand", "selective", ODD),
        (2, "dtensor", "selective", ODD),
        *(
            pytest.param(*case, marks=pytest.mark.prove)
            for case in [
                (2, "hand", "hand", PLAIN),
                (4, "hand", "hand", ODD),
                (2, "dtensor", "selective", PLAIN),
                *((2, "hand", mode, ODD) for mode in ("lean", "full", "reference")),
                *((4, form, "selective", ODD) for form in ("hand", "dtensor")),
                (8, "hand", "hand", ODD),
                (8, "hand", "selective", PLAIN),
                (8, "dtensor", "selective", ODD),
            ]
        ),
    ],
    ids=lambda value: {PLAIN: "plain", ODD: "odd"}.get(value) if isinstance(value, ModelConfig) else str(value),
)
def test_twenty_steps_are_those_of_one_process(
    ranks: Group, proved: Any, count: int, form: str, mode: str, config: ModelConfig
) -> None:
    if config.kv_heads % count:
        config = replace(config, kv_heads=config.heads)
    expected = trained_alone(config, mode)
    results = ranks(count).run(trained, config, count, form, mode)
    apart = max(farthest(found, expected) for found in results)
    assert apart <= 1e-5
    assert expected.losses[-1] < expected.losses[0] - 0.5
    for found in results:
        assert found.losses == results[0].losses  # the same bits on every rank
        for name, weight in expected.weights.items():
            assert (found.weights[name] - weight).norm() <= 1e-4 * weight.norm(), name
    proved(f"{count} ranks, {form}, {mode}: losses and gradient norms at most {apart:.1e} of themselves apart")


@pytest.mark.parametrize("mode", ["hand", pytest.param("selective", marks=pytest.mark.prove)])
def test_in_a_short_type_they_stay_within_its_rounding(ranks: Group, mode: str) -> None:
    expected = trained_alone(ODD, mode, torch.bfloat16)
    for found in ranks(2).run(trained, ODD, 2, "hand", mode, torch.bfloat16):
        for ours, theirs, bound in ((found.losses, expected.losses, 1e-3), (found.norms, expected.norms, 2e-2)):
            assert max(abs(a - b) / b for a, b in zip(ours, theirs, strict=True)) <= bound


def test_held_out_documents_cost_what_they_cost_one_process(ranks: Group) -> None:
    expected = scored(made(ODD))
    for found in ranks(2).run(scored_by_ranks, 2):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_whole_tensors_come_back_from_their_parts(ranks: Group) -> None:
    ranks(2).run(round_trip, 2)


def test_a_model_without_values_is_cut_too(ranks: Group) -> None:
    shapes = ranks(2).run(cut_shapes, 2)
    assert shapes[0]["layers.0.feed_forward.w2.weight"] == (32, 20)
    assert [each["tok_embeddings.weight"] for each in shapes] == [(31, 32), (30, 32)]


@given(rows=st.integers(1, 20), columns=st.integers(1, 20), size=st.integers(1, 9), dim=st.sampled_from([None, 0, 1]))
def test_what_is_cut_is_joined_again(rows: int, columns: int, size: int, dim: int | None) -> None:
    tensor = torch.arange(rows * columns).view(rows, columns)
    how = Replicate() if dim is None else Shard(dim)
    held = parts(tensor, how, size)
    assert len(held) == size
    assert torch.equal(joined(held, how), tensor)
    if dim is not None:
        assert [len(part) for part in parts(tensor.movedim(dim, 0), Shard(0), size) if len(part)] == [
            len(chunk) for chunk in tensor.movedim(dim, 0).chunk(size)
        ]


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        ({"kv_heads": 2}, 4, "mesh: kv_heads = 2 cannot be cut over 4 ranks; choose a tensor axis that divides"),
        ({"hidden": 42}, 4, "hidden = 42 cannot be cut over 4 ranks"),
        ({"vocabulary": 5}, 4, "a vocabulary of 5 pieces leaves one of 4 ranks without any; choose a smaller"),
    ],
)
def test_what_cannot_be_cut_is_refused(changes: dict[str, int], size: int, message: str) -> None:
    refuse_uneven(PLAIN, 4)
    config = replace(PLAIN, **changes)
    with pytest.raises(InputError, match=message):
        refuse_uneven(config, size)


def made(config: ModelConfig, dtype: torch.dtype = torch.float32) -> Llama:
    model = Llama(config)
    initialise(model, seed=1)
    return model.to(dtype)


def batches(config: ModelConfig) -> torch.Tensor:
    """Steps of three windows of 13 tokens, with an order to be learned: each is the one before it plus one or two."""
    chance = torch.Generator().manual_seed(1)
    steps = torch.randint(1, 3, (STEPS, 3, 14), generator=chance).cumsum(2)
    return (steps + torch.randint(50, (STEPS, 3, 1), generator=chance)) % config.vocabulary


def train(model: Llama | ModuleLlama, config: ModelConfig) -> tuple[list[float], list[float]]:
    """Losses and norms of steps that sum gradients of two parts, and clip them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, foreach=False)
    losses, norms = [], []
    for tokens in batches(config):
        nats, scored = 0.0, tokens[:, 1:].numel()
        for part in (tokens[:1], tokens[1:]):
            loss = model.loss(part, segments(part[:, :-1], end=7) if config.tied else None)
            (loss.nats / scored).backward()
            nats += loss.nats.item()
        sum_gradients(model.parameters())
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        norms.append((norm.full_tensor() if isinstance(norm, DTensor) else norm).item())
        losses.append(nats / scored)
        optimizer.step()
        optimizer.zero_grad()
    return losses, norms


@cache
def trained_alone(config: ModelConfig, mode: str, dtype: torch.dtype = torch.float32) -> Trained:
    model = made(config, dtype)
    modes.use(model, mode, compiles=False)  # type: ignore[arg-type]
    return Trained(*train(model, config), dict(model.state_dict()))


def trained(config: ModelConfig, count: int, form: Any, mode: Any, dtype: torch.dtype = torch.float32) -> Trained:
    model = cut(made(config, dtype), mesh_of(count), form)
    if isinstance(model, ModuleLlama):
        model.selective = mode == "selective"
    else:
        modes.use(model, mode, compiles=False)
    losses, norms = train(model, config)
    return Trained(losses, norms, {name: tensor.full_tensor() for name, tensor in model.state_dict().items()})


def farthest(found: Trained, expected: Trained) -> float:
    pairs = [*zip(found.losses, expected.losses, strict=True), *zip(found.norms, expected.norms, strict=True)]
    return max(abs(ours - theirs) / theirs for ours, theirs in pairs)


@cache
def mesh_of(count: int) -> DeviceMesh:
    return init_device_mesh("cpu", (count,), mesh_dim_names=("tensor",))


def scored(model: Llama) -> np.ndarray[Any, Any]:
    documents = [np.arange(length) % 61 for length in (3, 9, 14)]
    return bits(model, documents, context=7, stride=5, batch=2).nats


def scored_by_ranks(count: int) -> np.ndarray[Any, Any]:
    return scored(cut(made(ODD), mesh_of(count)))


def round_trip(count: int) -> None:
    whole = dict(made(ODD).state_dict())
    state = cut(made(ODD), mesh_of(count)).state_dict()
    for name, tensor in whole.items():
        local = parts(tensor, placement(name), count)[mesh_of(count).get_local_rank()]
        assert torch.equal(state[name].to_local(), local)
        assert torch.equal(state[name].full_tensor(), tensor)


def cut_shapes(count: int) -> dict[str, tuple[int, ...]]:
    model = cut(Llama(ODD, device="meta"), mesh_of(count))
    return {name: tuple(tensor.to_local().shape) for name, tensor in model.state_dict().items()}
