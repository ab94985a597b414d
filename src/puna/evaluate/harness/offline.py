"""Tasks of others loaded and asked without a network, whatever they would do.

Hugging Face's libraries are told to stay offline, so that what lies in their cache is read and all else is refused at
once. Since a task may bring functions of its own, this process is also held to it: while `offline` lasts, each try of
Python's to look up a name or to connect is refused. The hook stays, as Python removes none, and lets all pass outside.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SETTINGS = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE")
MODULES = {
    "huggingface_hub.constants": ("HF_HUB_OFFLINE",),
    "datasets.config": ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"),
    "evaluate.config": ("HF_EVALUATE_OFFLINE",),
}
"""What they made of the settings, where they were imported before."""
LOOKUPS = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_lasts = 0
_hooked = False


@contextmanager
def offline() -> Iterator[None]:
    """Nothing of this process reaches a network meanwhile: it raises ConnectionError where it tries."""
    global _lasts, _hooked
    kept = {name: os.environ.get(name) for name in SETTINGS}
    os.environ.update(dict.fromkeys(SETTINGS, "1"))
    changed = []
    for module, names in MODULES.items():
        for name in names:
            if hasattr(sys.modules.get(module), name):
                changed.append((sys.modules[module], name, getattr(sys.modules[module], name)))
                setattr(sys.modules[module], name, True)
    if not _hooked:
        sys.addaudithook(_refuse)
        _hooked = True
    _lasts += 1
    try:
        yield
    finally:
        _lasts -= 1
        for imported, name, value in changed:
            setattr(imported, name, value)
        for name, before in kept.items():
            if before is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = before


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if not _lasts or not event.startswith("socket."):
        return
    reached = event == "socket.connect" and getattr(arguments[0], "family", None) != socket.AF_UNIX
    if reached or event in LOOKUPS:
        raise ConnectionError(f"no network is reached during evaluation ({event} {arguments[-1] if reached else ''})")
