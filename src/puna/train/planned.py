"""The mesh that the planner finds fastest for the GPUs that are here, when a recipe leaves it to Puna; and with it the
windows of a forward pass, where the recipe leaves these open too.

puna.plan knows kinds of GPUs by name and memory. Where these are of no kind that it knows, or none at all, all ranks
share the weights, which needs the least memory and divides by any number.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from puna.parallel.layout import Layout, said
from puna.plan.gpus import Gpu, gpus
from puna.plan.search import Wanted, best
from puna.progress import say
from puna.train.course import Course


def planned(course: Course, at: torch.device, ranks: int) -> Layout | None:
    """The fastest mesh of so many ranks, without a pipeline, which depends on a recipe's own micro-batches; None where
    the GPUs are not known. at: this rank's device. InputError: the model does not fit on them."""
    gpu = known(torch.cuda.get_device_name()) if at.type == "cuda" else None
    if gpu is None:
        return None
    train = course.settings
    wanted = Wanted(None if train.layer == "auto" else train.layer, train.micro_batch or None, pipelines=False)
    layout = best(course.config, course.reading.rows, ranks, gpu, wanted, where="train.mesh").layout
    say(f"{layout.micro_batch} windows a forward pass, and {said(layout)}: as planned for {ranks:,} x {gpu.name}")
    return replace(layout, reshard=layout.reshard and train.mesh.reshard)


def known(name: str) -> Gpu | None:
    """The kind whose parts all stand in the name that the driver gives: A100-80GB in "NVIDIA A100-SXM4-80GB"."""
    letters = "".join(name.lower().split())
    fitting = (kind for kind in gpus().values() if all(part in letters for part in kind.name.lower().split("-")))
    return next(fitting, None)
