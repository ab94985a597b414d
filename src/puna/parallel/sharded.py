"""A model of which each rank holds a part: cut over the tensor axis, then sharded layer by layer (FSDP2).

The paper (section 2.4) shares the model over GPUs; sharding weights, gradients and moments (Zhao et al. 2023, "PyTorch
FSDP") is what took the place of replicas since. A layer's weights are gathered before it runs, in the type of the
computation, and let go behind it; its gradients are summed in float32, each rank getting those of its part. While a
layer computes, the weights of the next one are gathered (of the one before, backward). What a rank keeps is float32:
the masters that the optimizer works on.

With more than one replica (hybrid sharding) gradients are summed over replicas too, and weights gathered within one.
"""

from __future__ import annotations

import warnings
from itertools import pairwise

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.parallel import tensor
from puna.parallel.mesh import Mesh


def sharded(config: ModelConfig, mesh: Mesh, dtype: torch.dtype) -> Llama:
    """A model in float32 of which this rank holds its parts, not yet filled; it computes in `dtype`."""
    assert mesh.devices is not None
    # A layer's output may be a view, and nothing is added to it where it stands.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    layout = mesh.layout
    if layout.pipeline > 1:
        from puna.parallel.pipeline import Stage  # it loads more of torch than the other axes need

        model: Llama = Stage(config, mesh, dtype)
    else:
        model = Llama(config, device="meta", dtype=torch.float32)
    if layout.tensor > 1:
        tensor.cut(model, mesh.devices["tensor"])
    axes = mesh.devices["replicate", "shard"] if layout.replicate > 1 else mesh.devices["shard"]
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    # A pipeline makes many passes in a step, and gathers weights and sums gradients once.
    reshard = layout.reshard and layout.pipeline == 1
    layers = [fully_shard(layer, mesh=axes, mp_policy=policy, reshard_after_forward=reshard) for layer in model.layers]
    # The embedding's weights are asked for first and last, and in a tied model by the loss too, so they stay.
    root = fully_shard(model, mesh=axes, mp_policy=policy, reshard_after_forward=False)
    root.set_modules_to_forward_prefetch(layers[:1])
    for before, after in pairwise(layers):
        before.set_modules_to_forward_prefetch([after])
        after.set_modules_to_backward_prefetch([before])
    for module in (root, *layers):
        module.set_gradient_divide_factor(1.0)  # the loss is divided by the tokens of all ranks already
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    model.to_empty(device=mesh.devices.device_type)
    return model
