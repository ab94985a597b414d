"""The training steps of other projects, for the same model, tokens and hyper-parameters.

Each is the plain loop that its users write: the project's model, torch's fused AdamW, the norm clipped. In bfloat16 the
weights themselves are bfloat16 there, where Puna keeps masters in float32. A project that is not installed is left out
and said; none is a dependency of Puna.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

import torch
from torch import Tensor, nn

from puna.model.config import ModelConfig
from puna.recipe import Train

Losses = Callable[[Tensor, Tensor], Tensor]  # (tokens, targets), (batch, length) each -> mean nats per token


@dataclass(frozen=True)
class Peer:
    """One project's way to train, in one type."""

    project: str
    """What pip installs."""
    dtype: str
    make: Callable[[ModelConfig], tuple[nn.Module, Losses]]
    """Raises ImportError where the project is not installed."""
    compiles: bool = False

    def step(self, config: ModelConfig, train: Train, state: Mapping[str, Tensor] | None = None) -> PeerStep:
        """state: the first weights, under the peer's names; None: its own."""
        model, losses = self.make(config)
        if state is not None:
            model.load_state_dict(state)
        model.to(getattr(torch, self.dtype))
        if self.compiles:
            model.compile(dynamic=False)
        return PeerStep(model, losses, train)


class PeerStep:
    """Calling it takes one step on tokens_BL1, (windows, context + 1), at `rate`; returns mean nats before it."""

    def __init__(self, model: nn.Module, losses: Losses, train: Train) -> None:
        self.model, self._losses, self._train = model, losses, train
        tensors = list(model.parameters())
        groups = [
            {"params": [tensor for tensor in tensors if tensor.dim() == 2], "weight_decay": train.weight_decay},
            {"params": [tensor for tensor in tensors if tensor.dim() != 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(groups, betas=(train.beta1, train.beta2), eps=train.epsilon, fused=True)

    def __call__(self, tokens_BL1: Tensor, rate: float) -> float:
        nats = self.gradients(tokens_BL1)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._train.clip)
        for group in self._adamw.param_groups:
            group["lr"] = rate
        self._adamw.step()
        self._adamw.zero_grad()
        return nats

    def gradients(self, tokens_BL1: Tensor) -> float:
        nats = 0.0
        for part in torch.split(tokens_BL1, self._train.micro_batch or len(tokens_BL1)):
            loss = self._losses(part[:, :-1], part[:, 1:].contiguous()) * (len(part) / len(tokens_BL1))
            torch.autograd.backward(loss)
            nats += loss.item()
        return nats

    @torch.no_grad()
    def loss(self, tokens_BL1: Tensor) -> float:
        """Mean nats per token."""
        return self._losses(tokens_BL1[:, :-1], tokens_BL1[:, 1:].contiguous()).item()


def _transformers(config: ModelConfig) -> tuple[nn.Module, Losses]:
    project = import_module("transformers")
    shape = project.LlamaConfig(
        vocab_size=config.vocabulary,
        hidden_size=config.dim,
        intermediate_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        max_position_embeddings=config.context,
        rms_norm_eps=config.norm_epsilon,
        rope_theta=config.rope_base,
        tie_word_embeddings=config.tied,
        attn_implementation="sdpa",
        use_cache=False,
    )
    model = project.LlamaForCausalLM(shape).train()
    return model, lambda tokens, targets: model(input_ids=tokens, labels=targets, shift_labels=targets).loss


def _litgpt(config: ModelConfig) -> tuple[nn.Module, Losses]:
    project, loss = import_module("litgpt.model"), import_module("litgpt.utils").chunked_cross_entropy
    shape = project.Config(
        block_size=config.context,
        vocab_size=config.vocabulary,
        padded_vocab_size=config.vocabulary,
        n_layer=config.layers,
        n_head=config.heads,
        n_query_groups=config.kv_heads,
        n_embd=config.dim,
        intermediate_size=config.hidden,
        rotary_percentage=1.0,
        rope_base=int(config.rope_base),
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=config.norm_epsilon,
        mlp_class_name="LLaMAMLP",
    )
    model = project.GPT(shape)
    return model, lambda tokens, targets: loss(model(tokens), targets)


PEERS: Mapping[str, Peer] = {
    "transformers-f32": Peer("transformers", "float32", _transformers),
    "transformers-f32-compiled": Peer("transformers", "float32", _transformers, compiles=True),
    "transformers-bf16": Peer("transformers", "bfloat16", _transformers),
    "transformers-bf16-compiled": Peer("transformers", "bfloat16", _transformers, compiles=True),
    "litgpt-bf16": Peer("litgpt", "bfloat16", _litgpt),
}


def transformers_names(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's tensors under transformers' names, copied.

    There the halves of a head turn together, element i with i + head_dim / 2, and here neighbours do: rows of wq and wk
    are put in that order, which leaves every score what it is.
    """
    moved = {"tok_embeddings.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    moved["output.weight"] = "lm_head.weight"
    parts = {
        "attention.wq": "self_attn.q_proj",
        "attention.wk": "self_attn.k_proj",
        "attention.wv": "self_attn.v_proj",
        "attention.wo": "self_attn.o_proj",
        "feed_forward.w1": "mlp.gate_proj",
        "feed_forward.w2": "mlp.down_proj",
        "feed_forward.w3": "mlp.up_proj",
        "attention_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    found = {}
    for name, tensor in state.items():
        if name in moved:
            found[moved[name]] = tensor.clone()
            continue
        _, number, part, _ = re.split(r"^layers\.(\d+)\.(.*)\.weight$", name)
        if part in ("attention.wq", "attention.wk"):
            tensor = tensor.view(-1, config.head_dim // 2, 2, config.dim).transpose(1, 2).reshape(-1, config.dim)
        found[f"model.layers.{number}.{parts[part]}.weight"] = tensor.clone()
    if config.tied:
        found["lm_head.weight"] = found["model.embed_tokens.weight"]
    return found
