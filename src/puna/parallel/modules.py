"""The oracle of tensor parallelism: the same model as torch's own modules, cut by torch's `parallelize_module`.

Every tensor that flows is a DTensor or the local part of one, and torch decides what is sent: ColwiseParallel and
RowwiseParallel for linear weights, SequenceParallel for norms, `loss_parallel` for the cross-entropy. It is slower (the
overhead of DTensor's dispatch, and collectives that nothing overlaps) and it is not ours: what tensor.py's fast form is
tested against. Parameters have Meta's names and the same placements, so weights go from one form to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    loss_parallel,
    parallelize_module,
)

from puna.model.attention import attention
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.loss import Loss
from puna.model.modes import selectively
from puna.model.rotary import Rope, rope_table, rotate


class ModuleLlama(nn.Module):
    """A LLaMA of torch's modules; `selective` is set by who wants matmuls and attention kept alone (modes.py)."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.config, self.selective = config, False
        self.tok_embeddings = nn.Embedding(config.vocabulary, config.dim, dtype=dtype)
        self.layers = nn.ModuleList(ModuleLayer(config, dtype) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.dim, config.norm_epsilon, dtype=dtype)
        self.output = nn.Linear(config.dim, config.vocabulary, bias=False, dtype=dtype)

    def forward(self, tokens_BL: Tensor, segments: Tensor | None = None) -> DTensor:
        """Logits, (batch, length, vocabulary), cut over the vocabulary."""
        x_BOD = self.tok_embeddings(tokens_BL)
        rope = rope_table(tokens_BL.shape[1], self.config.head_dim, self.config.rope_base, device=tokens_BL.device)
        for block in self.layers:
            x_BOD = selectively(block, x_BOD, rope, segments) if self.selective else block(x_BOD, rope, segments)
        return cast(DTensor, self.output(self.norm(x_BOD)))

    def loss(self, tokens_BL1: Tensor, segments: Tensor | None = None) -> Loss:
        """As `Llama.loss`."""
        assert isinstance(self.norm.weight, DTensor)
        size = self.norm.weight.device_mesh.size()
        tokens_BL, targets_BL = tokens_BL1[:, :-1], tokens_BL1[:, 1:]
        fill = (0, -tokens_BL.shape[1] % size)
        segments = None if segments is None else F.pad(segments, fill, value=-1)
        logits_BLV = self(F.pad(tokens_BL, fill), segments)
        filled_BL = F.pad(targets_BL, fill, value=IGNORED)
        nats, each_N = _LossParallel.apply(logits_BLV.flatten(0, 1), filled_BL.flatten())  # type: ignore[no-untyped-call]
        each_BL = each_N.view(filled_BL.shape)[:, : targets_BL.shape[1]]
        return Loss(nats, torch.tensor(targets_BL.numel()), each_BL.flatten())


class ModuleLayer(nn.Module):
    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim, config.norm_epsilon, dtype=dtype)
        self.attention = ModuleAttention(config, dtype)
        self.ffn_norm = nn.RMSNorm(config.dim, config.norm_epsilon, dtype=dtype)
        self.feed_forward = ModuleFeedForward(config, dtype)

    def forward(self, x_BOD: Tensor, rope: Rope, segments: Tensor | None) -> Tensor:
        x_BOD = x_BOD + self.attention(self.attention_norm(x_BOD), rope, segments)
        return cast(Tensor, x_BOD + self.feed_forward(self.ffn_norm(x_BOD)))


class ModuleAttention(nn.Module):
    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        linear: Callable[[int, int], nn.Linear] = partial(nn.Linear, bias=False, dtype=dtype)
        keys = config.kv_heads * config.head_dim
        self.wq, self.wk, self.wv = (linear(config.dim, wide) for wide in (config.dim, keys, keys))
        self.wo = linear(config.dim, config.dim)

    def forward(self, x_BLD: Tensor, rope: Rope, segments: Tensor | None) -> Tensor:
        q, k, v = (each(x_BLD).unflatten(-1, (-1, self.head_dim)) for each in (self.wq, self.wk, self.wv))
        q, k, v = (each.transpose(1, 2) for each in (rotate(q, rope), rotate(k, rope), v))
        return cast(Tensor, self.wo(attention(q, k, v, segments)[0].transpose(1, 2).flatten(2)))


class ModuleFeedForward(nn.Module):
    def __init__(self, config: ModelConfig, dtype: torch.dtype) -> None:
        super().__init__()
        linear: Callable[[int, int], nn.Linear] = partial(nn.Linear, bias=False, dtype=dtype)
        self.w1, self.w3 = (linear(config.dim, config.hidden) for _ in range(2))
        self.w2 = linear(config.hidden, config.dim)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return cast(Tensor, self.w2(F.silu(self.w1(x_BLD)) * self.w3(x_BLD)))


IGNORED = -100  # the target that torch's cross-entropy does not score


def as_modules(model: Llama, mesh: DeviceMesh) -> ModuleLlama:
    """The module form of a model that every rank has whole, cut over the one axis of `mesh`."""
    made = ModuleLlama(model.config, model.dtype)
    state = dict(model.state_dict())
    state.setdefault("output.weight", state["tok_embeddings.weight"])
    made.load_state_dict(state)
    parallelize_module(made, mesh, _ends())
    for block in made.layers:
        parallelize_module(block, mesh, _halves())
    if model.config.tied:
        made.output.weight = made.tok_embeddings.weight
    return made


def _ends() -> dict[str, ParallelStyle]:
    return {
        "tok_embeddings": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1)),
        "norm": SequenceParallel(),
        "output": ColwiseParallel(input_layouts=Shard(1), output_layouts=Shard(-1), use_local_output=False),
    }


def _halves() -> dict[str, ParallelStyle]:
    gathered = (Shard(1), None, None), (Replicate(), None, None)
    return {
        "attention_norm": SequenceParallel(),
        "attention": PrepareModuleInput(input_layouts=gathered[0], desired_input_layouts=gathered[1]),
        "attention.wq": ColwiseParallel(),
        "attention.wk": ColwiseParallel(),
        "attention.wv": ColwiseParallel(),
        "attention.wo": RowwiseParallel(output_layouts=Shard(1)),
        "ffn_norm": SequenceParallel(),
        "feed_forward": PrepareModuleInput(input_layouts=(Shard(1),), desired_input_layouts=(Replicate(),)),
        "feed_forward.w1": ColwiseParallel(),
        "feed_forward.w3": ColwiseParallel(),
        "feed_forward.w2": RowwiseParallel(output_layouts=Shard(1)),
    }


class _LossParallel(torch.autograd.Function):
    """Cross-entropy and its gradient together, since torch's `loss_parallel` must be entered for both."""

    @staticmethod
    def forward(ctx: Any, logits_NV: DTensor, targets_N: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad(), loss_parallel():
            leaf_NV = logits_NV.detach().requires_grad_()
            wide = torch.promote_types(leaf_NV.dtype, torch.float32)
            each_N = F.cross_entropy(leaf_NV.to(wide), targets_N, ignore_index=IGNORED, reduction="none")
            (gradient_NV,) = torch.autograd.grad(each_N.sum(), leaf_NV)
        ctx.save_for_backward(gradient_NV)
        local_N = each_N.full_tensor().detach() if isinstance(each_N, DTensor) else each_N.detach()
        ctx.mark_non_differentiable(local_N)
        return local_N.sum(dtype=torch.float64), local_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor, None]:
        (gradient_NV,) = ctx.saved_tensors
        return gradient_NV * float(scale), None
