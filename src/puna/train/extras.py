"""Which packages `train.log_to` needs; loads nothing, so that a run is refused before its first step."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from puna.errors import InputError

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


def refuse_missing(names: Iterable[str]) -> None:
    """InputError when the package of one of them is not installed."""
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            what = f"{name} is not installed"
            raise InputError(what, where="train.log_to", mend=f"pip install 'puna[{name}]', or leave it out")
