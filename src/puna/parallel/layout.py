"""How ranks share a model and a batch: the mesh, and what else decides memory and time of a step.

The mesh has four axes, from the outermost, whose neighbours may be far apart, to the innermost, which stays within a
node: pipeline x replicate x shard x tensor. Ranks that differ in `tensor` share heads, hidden columns and the sequence
between them (paper, section 2.4); in `shard`, weights, gradients and moments (FSDP); in `replicate`, nothing, and they
sum their gradients; in `pipeline` they hold other layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from puna.errors import InputError
from puna.model.config import ModelConfig
from puna.recipe import Mesh as Wanted


@dataclass(frozen=True, slots=True)
class Layout:
    replicate: int = 1
    shard: int = 1
    tensor: int = 1
    pipeline: int = 1
    micro_batch: int = 1
    """Windows of one forward pass of a rank."""
    mode: str = "hand"
    """Which layer trains (model/modes.py)."""
    reshard: bool = True
    """Whether weights gathered for the forward pass are let go and gathered again for the backward pass."""
    interleave: int = 1
    """Stages of a pipeline rank; more shorten the bubble."""

    @property
    def ranks(self) -> int:
        return self.replicate * self.shard * self.tensor * self.pipeline

    @property
    def data(self) -> int:
        """Ranks that read windows of their own."""
        return self.replicate * self.shard

    def micro_batches(self, windows: int) -> int:
        """Forward passes of a rank in a step of that many windows; the rank that has most decides."""
        return -(-windows // (self.data * self.micro_batch))

    def stage_layers(self, config: ModelConfig) -> int:
        """Layers of a rank; where they do not divide, those of the fullest."""
        return -(-config.layers // self.pipeline)

    def layers_of(self, stage: int, layers: int) -> range:
        """Which of so many layers a stage of the pipeline holds. The later stages have one less where they do not
        divide: the last one has the output too."""
        return range(*(-(-layers * each // self.pipeline) for each in (stage, stage + 1)))

    def stage_of(self, layer: int, layers: int) -> int:
        """`layers_of` undone."""
        return layer * self.pipeline // layers

    def mesh(self) -> dict[str, int]:
        return {"replicate": self.replicate, "shard": self.shard, "tensor": self.tensor, "pipeline": self.pipeline}


def fits_shape(config: ModelConfig, layout: Layout) -> bool:
    """Whether heads, columns and layers can be cut so."""
    tensor = layout.tensor
    cut = (config.heads, config.kv_heads, config.hidden)
    return all(count % tensor == 0 for count in cut) and layout.pipeline * layout.interleave <= config.layers


def filled(wanted: Wanted, ranks: int) -> Layout:
    """The layout that a recipe asks for: the shard axis takes what the others leave. InputError: ranks are left over,
    or too few."""
    pipeline, replicate, tensor = wanted.pipeline or 1, wanted.replicate or 1, wanted.tensor or 1
    others = pipeline * replicate * tensor
    shard = wanted.shard or max(1, ranks // others)
    layout = Layout(replicate, shard, tensor, pipeline, reshard=wanted.reshard)
    if layout.ranks != ranks:
        told = [f"{axis} {count}" for axis, count in layout.mesh().items() if count > 1 or getattr(wanted, axis)]
        what = f"{' x '.join(told)} is for {layout.ranks:,} rank{'s' * (layout.ranks > 1)}, and there are {ranks:,}"
        mend = "change an axis (0 leaves it to Puna), or the ranks: torchrun --nproc-per-node, --gpus of a plan"
        raise InputError(what, where="train.mesh", mend=mend)
    return layout


def said(layout: Layout) -> str:
    """`replicate 2 x shard 4`: the axes that have more than one rank; `1 rank`."""
    told = [f"{axis} {count}" for axis, count in layout.mesh().items() if count > 1]
    return " x ".join(told) if told else "1 rank"
