"""How long a step takes: a roofline of matmuls, memory and network, with what of them runs beside what.

A rank's forward pass of a micro-batch is, layer by layer, its matmuls at a share of the GPU's peak, attention at
another, and the small functions between them at a share of the memory's bandwidth; the backward pass is twice that, and
what its mode computes again (model/modes.py). Shares are those of efficiency.toml. Then the collectives:

- shard: each layer's weights are gathered in 16 bits before its forward and, with `reshard`, its backward pass, and its
  gradient is summed in f32 behind it, each micro-batch. A pipeline gathers and sums once a step. Hidden behind the
  computation of the same layer, up to the share `overlap_shard` of it.
- tensor: with sequence parallelism two gathers and two sums of a layer's activations forward, and backward as many as
  the mode does (parallel/formula.py). `overlap_tensor` of their time is hidden.
- replicate: gradients are summed once a step, beside the last backward pass.
- pipeline: 1F1B, whose bubble is (stages - 1) / (micro-batches x interleave) of a step.

A collective among GPUs of one node takes bytes over the link; among nodes, the slower of that and of bytes over the
network cards that the group has in a node; and a latency a hop of the ring. Not counted: slow ranks, restarts, saving.
"""

from __future__ import annotations

from dataclasses import dataclass

from puna.model import flop
from puna.model.config import ModelConfig
from puna.parallel.formula import COLLECTIVES
from puna.parallel.layout import Layout
from puna.plan import shapes
from puna.plan.efficiency import Efficiency, efficiency
from puna.plan.gpus import Gpu

SHORT, WIDE = 2, 4  # bytes of an element in 16 bits, and of a master, moment or summed gradient
OPTIMIZER = 30  # bytes moved a weight: master, moments and gradient read, the first three and a short copy written
GRADIENT = 16  # bytes moved a weight and micro-batch: its gradient widened and added up, weights copied in and out


@dataclass(frozen=True, slots=True)
class Step:
    """Seconds of a step of the slowest rank, by what they are spent on, and what follows from them."""

    matmul: float
    attention: float
    elementwise: float
    shard: float
    tensor: float
    replicate: float
    bubble: float
    optimizer: float
    tokens: int
    """Of a step, over all ranks."""
    ranks: int

    @property
    def seconds(self) -> float:
        computing = self.matmul + self.attention + self.elementwise
        return computing + self.shard + self.tensor + self.replicate + self.bubble + self.optimizer

    @property
    def tokens_per_second_per_gpu(self) -> float:
        return self.tokens / self.seconds / self.ranks

    def parts(self) -> dict[str, float]:
        names = ("matmul", "attention", "elementwise", "shard", "tensor", "replicate", "bubble", "optimizer")
        return {name: getattr(self, name) for name in names}


def step(config: ModelConfig, layout: Layout, windows: int, gpu: Gpu, factors: Efficiency | None = None) -> Step:
    """A step of `windows` windows of config.context tokens. factors: else those of the GPU's family."""
    factors = factors or efficiency(gpu.family)
    times = layout.micro_batches(windows)
    forward, backward = _layer(config, layout, gpu, factors)
    layers = layout.stage_layers(config)
    head = _head(config, layout, gpu, factors)
    matmul, attention, elementwise = (
        layers * (ahead + behind) + of_head for ahead, behind, of_head in zip(forward, backward, head, strict=True)
    )
    shard = _shard(config, layout, times, sum(forward), sum(backward), gpu, factors)
    tensor = layers * _tensor(config, layout, gpu, factors)
    sent = _send(config, layout, gpu, factors)
    busy = times * (matmul + attention + elementwise + tensor + sent)
    bubble = busy * (layout.pipeline - 1) / (times * layout.interleave) + times * sent  # idle, or sending
    held = shapes.held_elements(config, layout)
    return Step(
        matmul=times * matmul,
        attention=times * attention,
        elementwise=times * elementwise,
        shard=shard,
        tensor=times * tensor,
        replicate=_replicate(held, layout, layers * sum(backward), gpu, factors),
        bubble=bubble,
        optimizer=OPTIMIZER * held / (gpu.bandwidth * factors.elementwise),
        tokens=windows * config.context,
        ranks=layout.ranks,
    )


def executed_flop(config: ModelConfig, mode: str) -> float:
    """FLOP of a token that a training step does: `flop.token_flop`, and what the mode computes again."""
    return flop.token_flop(config, config.context) + config.layers * again_flop(config, mode)


def again_flop(config: ModelConfig, mode: str) -> float:
    """FLOP of a token and layer that are done again for the backward pass: the whole layer in `full`, the output of w3
    in `lean`. What norms and the SwiGLU take is not counted as FLOP, here or anywhere."""
    if mode == "full":
        return 2 * _layer_matmul(config) + 2 * config.dim * (config.context + 1)
    return 2 * config.dim * config.hidden if mode == "lean" else 0.0


def collective(size: float, members: int, apart: int, gpu: Gpu, factors: Efficiency) -> float:
    """Seconds to gather `size` bytes on each of `members` ranks that hold a part each, or to sum them back into parts.
    apart: ranks from one member to the next; ranks fill node after node."""
    if members == 1:
        return 0.0
    here = max(1, min(members, gpu.node // apart))
    nodes = -(-members // here)
    seconds = size * (members - 1) / members / (gpu.link * factors.link) if here > 1 else 0.0
    if nodes > 1:
        seconds = max(seconds, size * (nodes - 1) / nodes / (here * gpu.network * factors.network))
    return seconds + (nodes - 1) * factors.network_latency + (here - 1) * factors.link_latency


def _layer_matmul(config: ModelConfig) -> int:
    """Weights of a layer that a token is multiplied with."""
    keys = config.kv_heads * config.head_dim
    return config.dim * (2 * config.dim + 2 * keys + 3 * config.hidden)


def _layer(
    config: ModelConfig, layout: Layout, gpu: Gpu, factors: Efficiency
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Seconds of one layer's (matmuls, attention, small functions) of a micro-batch, forward and backward."""
    tokens = layout.micro_batch * config.context / layout.tensor
    dim, keys, hidden = config.dim, config.kv_heads * config.head_dim, config.hidden
    matmul = 2 * _layer_matmul(config) * tokens / (gpu.flops * factors.matmul)
    attention = 2 * dim * (config.context + 1) * tokens / (gpu.flops * factors.attention)
    # Elements that are read and written, each small function as one loop: two norms, the turn, two sums, the product.
    ahead, behind = 8 * dim + 2 * keys + 3 * hidden, 18 * dim + 2 * keys + 6 * hidden
    moved = SHORT * tokens / (gpu.bandwidth * factors.elementwise)
    weights = GRADIENT * shapes.layer_elements(config, layout.tensor) / (gpu.bandwidth * factors.elementwise)
    again = again_flop(config, layout.mode) * tokens
    if layout.mode == "full":
        backward = 3 * matmul, 3.5 * attention, (ahead + behind) * moved + weights
    else:
        backward = 2 * matmul + again / (gpu.flops * factors.matmul), 2.5 * attention, behind * moved + weights
    return (matmul, attention, ahead * moved), backward


def _head(config: ModelConfig, layout: Layout, gpu: Gpu, factors: Efficiency) -> tuple[float, float, float]:
    """Seconds of output and loss of a micro-batch, forward and backward, and of the weights around the layers."""
    tokens = layout.micro_batch * config.context / layout.tensor
    logits = 5 * SHORT * config.vocabulary * tokens
    weights = GRADIENT * shapes.around_elements(config, layout.tensor)
    matmul = 6 * config.vocabulary * config.dim * tokens / (gpu.flops * factors.matmul)
    return matmul, 0.0, (logits + weights) / (gpu.bandwidth * factors.elementwise)


def _shard(
    config: ModelConfig, layout: Layout, times: int, forward: float, backward: float, gpu: Gpu, factors: Efficiency
) -> float:
    """Seconds of a step in which nothing but gathering weights and summing gradients goes on."""
    if layout.shard == 1:
        return 0.0
    elements = shapes.layer_elements(config, layout.tensor)
    gather = collective(SHORT * elements, layout.shard, layout.tensor, gpu, factors)
    reduce = collective(WIDE * elements, layout.shard, layout.tensor, gpu, factors)
    around = shapes.around_elements(config, layout.tensor)
    ends = collective((SHORT + WIDE) * around, layout.shard, layout.tensor, gpu, factors)
    layers = layout.stage_layers(config)
    ahead = max(0.0, gather - factors.overlap_shard * forward)
    if layout.pipeline > 1:
        return layers * (ahead + max(0.0, reduce - factors.overlap_shard * backward)) + ends
    behind = max(0.0, reduce + gather * layout.reshard - factors.overlap_shard * backward)
    return layers * (ahead * (times if layout.reshard else 1) + times * behind) + times * ends


def _tensor(config: ModelConfig, layout: Layout, gpu: Gpu, factors: Efficiency) -> float:
    """Seconds a layer and micro-batch for which its matmuls wait for the other ranks of the tensor group."""
    size = SHORT * layout.micro_batch * config.context * config.dim
    return (
        (1 - factors.overlap_tensor) * sum(COLLECTIVES[layout.mode]) * collective(size, layout.tensor, 1, gpu, factors)
    )


def _send(config: ModelConfig, layout: Layout, gpu: Gpu, factors: Efficiency) -> float:
    """Seconds a micro-batch to hand activations to the next stage and gradients back."""
    if layout.pipeline == 1:
        return 0.0
    size = SHORT * layout.micro_batch * config.context * config.dim / layout.tensor
    return 2 * layout.interleave * (size / (gpu.network * factors.network) + factors.network_latency)


def _replicate(held: int, layout: Layout, backward: float, gpu: Gpu, factors: Efficiency) -> float:
    """Seconds a step for which the last backward pass is over and gradients are still summed over replicas."""
    apart = layout.tensor * layout.shard
    seconds = 2 * collective(WIDE * held, layout.replicate, apart, gpu, factors)
    return max(0.0, seconds - factors.overlap_shard * backward)
