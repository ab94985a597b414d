"""Going back before a spike: the state behind an earlier step, and a range of windows that is not read any more.

Back to which step depends on the recipe alone: the last multiple of `checkpoint_every` before the spike. Where its
checkpoint is gone or damaged, an older one does (or the seed, where there is none), since the steps from there to it
give the same bits again and the range lies ahead of them. So neither kills nor checkpoints that were made on a signal
change what a rewind gives, and nothing is written for it: a process that is killed after a rewind goes on from a
checkpoint before it, comes upon the same spike, and goes back again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from puna.errors import InputError, PunaError
from puna.model import weights
from puna.train import checkpoint
from puna.train.callbacks import Training
from puna.train.checkpoint import Checkpoint
from puna.train.position import Position, first_window, joined
from puna.train.spikes import Spike


def rewind(training: Training, spike: Spike, initial: Callable[[str], Tensor]) -> Spike:
    """Take model, optimizer and position back before a spike; returns it with what was done.

    initial: the first weights of a tensor. No checkpoint may be under way. PunaError when the training went back
    `max_rewinds` times before.
    """
    settings, now = training.settings, training.position
    if now.rewinds >= settings.max_rewinds:
        what = (
            f"loss {spike.loss:.3f} at step {spike.step} is a spike, and training went back {now.rewinds} times before"
        )
        mend = "puna trace RUN --step N names the documents; a higher train.max_rewinds goes on"
        raise PunaError(what, where="training", mend=mend)
    back_to = (spike.step - 1) // settings.checkpoint_every * settings.checkpoint_every
    start = back_to + 1 if settings.spike_margin is None else max(back_to + 1, spike.step - settings.spike_margin)
    windows = spike.read[1] - spike.read[0]
    passed = (first_window(start, windows, now.rewound), spike.read[1])
    folder, mesh = training.folder / "checkpoints", training.mesh
    told = mesh.told(lambda: _newest(training, back_to))
    if told is None:
        _restart(training, initial)
        position = Position()
    else:
        found = Checkpoint.from_json(folder, told)
        position = found.position
        masters, moments = (read(found.path, mesh.part) for read in (checkpoint.read_masters, checkpoint.read_moments))
        training.optimizer.restore(masters, moments, position.taken)
    rewound = joined([*now.rewound, *position.rewound, passed])
    training.position = replace(position, rewound=rewound, rewinds=now.rewinds + 1)
    training.saved = None
    return replace(spike, back_to=back_to, rewound=passed)


def _newest(training: Training, back_to: int) -> dict[str, Any] | None:
    """The newest intact checkpoint up to that step; those behind it are removed."""
    folder = training.folder / "checkpoints"
    checkpoint.remove_behind(folder, back_to, training.fingerprint)
    try:
        found = checkpoint.newest(folder, training.fingerprint)
    except InputError:  # damaged ones only, which was said
        return None
    return found.as_json() if found else None


def _restart(training: Training, initial: Callable[[str], Tensor]) -> None:
    """The first weights, and moments of no step."""
    optimizer = training.optimizer
    part = training.mesh.region
    shapes = weights.shapes(training.model.config)
    masters = {name: initial(name)[part(name, shapes[name])] for name in optimizer.masters}
    moments = {name: torch.zeros_like(moment) for name, moment in optimizer.state().items()}
    optimizer.restore(masters, moments, 0)
