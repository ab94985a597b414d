"""The same weights and tokens under transformers' LlamaForCausalLM: the same logits, gradients, and trained weights."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import made_training as made
from puna.model import modes
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import initialise
from puna.train.optimizer import Optimizer
from puna.train.speed.peers import PEERS, PeerStep, transformers_names

SHAPES = [{"kv_heads": 4, "tied": False}, {"kv_heads": 2, "tied": True}, {"kv_heads": 1, "tied": False}]
STEPS = 100


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    """No look at the hub, and one thread: tensors are so small here that a second one does nothing but wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)


def both(mode: Any, factor: float = 1.0, **shape: Any) -> tuple[Llama, PeerStep]:
    """Puna's model and transformers', with the same weights: `factor` times those drawn, and norms that are not 1."""
    values = {"dim": 32, "heads": 4, "layers": 2, "hidden": 44, "vocabulary": 60, "context": 32}
    config = ModelConfig(**(values | shape))
    model = Llama(config, dtype=torch.float32)
    initialise(model, 1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(tensor + 0.2 * torch.arange(len(tensor)).sin() if tensor.dim() == 1 else factor * tensor)
    modes.use(model, mode, compiles=False)
    train = made.recipe().train
    return model, PEERS["transformers-f32"].step(config, train, transformers_names(config, model.state_dict()))


def draw(steps: int) -> Tensor:
    """Windows of tokens with an order to be learned: each is the one before it plus one or two."""
    return torch.randint(1, 3, (steps, 4, 33), generator=torch.Generator().manual_seed(1)).cumsum(2) % 60


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["reference", "hand"])
def test_logits_and_gradients_are_those_of_transformers(shape: dict[str, Any], mode: str) -> None:
    model, peer = both(mode, 5.0, **shape)
    tokens = draw(1)[0]
    with torch.no_grad():
        logits = peer.model(input_ids=tokens[:, :-1]).logits
        torch.testing.assert_close(model.logits(tokens[:, :-1]), logits, rtol=1e-5, atol=1e-5)
    loss = model.loss(tokens)
    torch.autograd.backward(loss.nats / loss.tokens)
    assert loss.nats.item() / int(loss.tokens) == pytest.approx(peer.gradients(tokens), rel=1e-6)
    gradients = {name: tensor.grad for name, tensor in model.named_parameters() if tensor.grad is not None}
    found = transformers_names(model.config, gradients)
    for name, tensor in peer.model.named_parameters():
        assert tensor.grad is not None
        assert float((found[name] - tensor.grad).norm() / tensor.grad.norm()) <= 1e-5, name


def test_a_hundred_steps_end_at_the_weights_of_a_plain_loop_over_transformers(proved: Any) -> None:
    """Within what rounding allows: gradients are 1e-6 of their norm apart at most, and AdamW moves a weight by the rate
    times a quotient of moments that carries that error. Over a hundred steps, in which the weights change by about
    their own size, that is 1e-6 of their norm; tenfold for what grows in between."""
    model, peer = both("hand", kv_heads=2, tied=False)
    train = made.recipe().train
    optimizer = Optimizer(model, torch.float32, train)
    worst = 0.0
    for tokens in draw(STEPS):
        loss = model.loss(tokens)
        torch.autograd.backward(loss.nats / loss.tokens)
        optimizer.collect()
        optimizer.step(1e-3, optimizer.gradient_norm())
        optimizer.drop_gradients()
        ours, theirs = loss.nats.item() / int(loss.tokens), peer(tokens, 1e-3)
        worst = max(worst, abs(ours - theirs) / theirs)
    assert ours < 0.6 * math.log(60)  # it learned
    assert worst <= 1e-5
    masters = transformers_names(model.config, optimizer.masters)
    apart = {
        name: float((masters[name] - tensor).norm() / tensor.norm()) for name, tensor in peer.model.state_dict().items()
    }
    assert max(apart.values()) <= 1e-5
    proved(f"{STEPS} steps beside transformers: losses {worst:.1e} apart, weights {max(apart.values()):.1e}")
