"""On which device a training computes, chosen once: `train.device`.

All that follows goes where the model is: batches, gradients, moments, held-out text. Checkpoints are read into and
written from the memory of the machine, so that one made on any device goes on on any other. Not run on a GPU yet;
on torch's device "meta", which has shapes alone, no step computes anything on the processor (tests/test_device.py).
"""

from __future__ import annotations

import os
from typing import Literal

import torch

from puna.errors import InputError

Asked = Literal["auto", "cpu", "cuda"]

CPU = torch.device("cpu")


def chosen(asked: Asked) -> torch.device:
    """auto: the GPU where torch sees one. Of several ranks of a machine each has one GPU, by its number there; it is
    made torch's own, and its matmuls are told to give the same bits each time. InputError: there is none, or too few.
    """
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        what = "is cuda, and torch sees no GPU here"
        raise InputError(what, where="train.device", mend="puna doctor tells why; or give train.device=auto")
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        what = f"rank {local} of this machine has no GPU of its {there}"
        raise InputError(what, where="train.device", mend=f"torchrun --nproc-per-node {there}, or train.device=cpu")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS gives other bits each time
    torch.cuda.set_device(local)
    return torch.device("cuda", local)
