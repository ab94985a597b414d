"""The five ways to train a layer, which differ in what they keep for the backward pass, and not in what they compute.

Paper, section 2.4. `reference`: autograd as it is, which keeps what every operation asks for. `hand`: the backward pass
written by hand (hand.py); `lean`: that, with one more of its matmuls computed again. `selective`: autograd that keeps
what matmuls and attention gave and computes the rest again (torch's selective checkpointing). `full`: autograd that
keeps the layer's input alone and computes the layer twice.
Each is a function with the signature of `layer`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from puna.model.cache import LayerCache
from puna.model.comm import Comm
from puna.model.hand import hand_layer
from puna.model.kernels import compiled
from puna.model.layer import LayerWeights, layer
from puna.model.llama import Layer, Llama
from puna.model.rotary import Rope

Mode = Literal["reference", "selective", "full", "hand", "lean"]

aten = torch.ops.aten
KEPT = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    torch.ops.puna.attention_by_documents.default,
}


def use(model: Llama, mode: Mode, *, compiles: bool) -> None:
    """Have `model` train its layers that way. compiles: through torch.compile, layer by layer, so that all of them
    share one compilation, and its time does not grow with their number."""
    for block in cast(list[Layer], model.layers):
        if mode in ("hand", "lean"):
            block.function = partial(FUNCTIONS[mode], kernels=compiled()) if compiles else FUNCTIONS[mode]
            continue
        block.function = FUNCTIONS[mode]
        if compiles and block.comm is None:  # collectives are not compiled
            block.compile(dynamic=False)
    if mode == "selective":
        # It warns of operations in place under a checkpoint, of which a layer has none.
        logging.getLogger("torch._higher_order_ops.wrap").setLevel(logging.ERROR)


def selective_layer(
    x_BLD: Tensor,
    weights: LayerWeights,
    rope: Rope,
    segments: Tensor | None = None,
    comm: Comm | None = None,
    *,
    epsilon: float = 1e-6,
    cache: LayerCache | None = None,
) -> Tensor:
    """`layer`, of which the outputs of matmuls and of attention are kept."""
    return _unless_generating(selectively, x_BLD, weights, rope, segments, comm, epsilon, cache)


def full_layer(
    x_BLD: Tensor,
    weights: LayerWeights,
    rope: Rope,
    segments: Tensor | None = None,
    comm: Comm | None = None,
    *,
    epsilon: float = 1e-6,
    cache: LayerCache | None = None,
) -> Tensor:
    """`layer`, of which the input alone is kept."""
    return _unless_generating(_checkpointed, x_BLD, weights, rope, segments, comm, epsilon, cache)


FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "reference": layer,
    "selective": selective_layer,
    "full": full_layer,
    "hand": hand_layer,
    "lean": partial(hand_layer, lean=True),
}


def selectively(function: Callable[..., Tensor], *given: Any) -> Tensor:
    """What `function` gives, of which the outputs of matmuls and of attention are kept, and the rest is computed again
    in the backward pass."""
    return _checkpointed(function, *given, context_fn=partial(create_selective_checkpoint_contexts, policy))


def _checkpointed(function: Callable[..., Tensor], *given: Any, **how: Any) -> Tensor:
    # No random number is drawn in a layer, so none has to be drawn again.
    return cast(Tensor, checkpoint(function, *given, use_reentrant=False, preserve_rng_state=False, **how))


def _unless_generating(
    way: Callable[..., Tensor],
    x_BLD: Tensor,
    weights: LayerWeights,
    rope: Rope,
    segments: Tensor | None,
    comm: Comm | None,
    epsilon: float,
    cache: LayerCache | None,
) -> Tensor:
    if cache is not None or not torch.is_grad_enabled():
        return layer(x_BLD, weights, rope, segments, comm, epsilon=epsilon, cache=cache)
    return way(partial(layer, epsilon=epsilon), x_BLD, weights, rope, segments, comm)


def policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """What torch's selective checkpointing keeps in the mode `selective`."""
    return CheckpointPolicy.MUST_SAVE if operation in KEPT else CheckpointPolicy.PREFER_RECOMPUTE
