"""A server of a model: OpenAI's HTTP API, and a page to use it by. `puna serve MODEL`.

    app.py        routes; requests.py what they take, answers.py and text.py what they give
    guard.py      who may ask, and how much; limits.py holds every number
    worker.py     the one thread that decodes, and the way to it and back
    running.py    uvicorn, and how it ends
    page/         the page, as it is sent

A model is one process and one thread that decodes; there is no batch server behind it and no queue on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from puna import storage
from puna.errors import InputError
from puna.serve.limits import LIMITS, Limits
from puna.storage import Location

__all__ = ["LIMITS", "Limits", "Options", "serve"]


@dataclass(frozen=True)
class Options:
    """How a model is served."""

    host: str = "127.0.0.1"
    port: int = 8000
    name: str = ""
    """What the API calls it; "": the name of its folder."""
    key: str = ""
    """Asked of every request; "": of none, which only a loopback address allows."""
    slots: int = 8
    """Continuations decoded at once; each takes memory for a whole context."""
    context: int | None = None
    """Tokens of prompt and continuation; None: as many as the model was trained with."""
    dtype: str = "f32"
    """Of the weights while decoding: f32, bf16 or int8."""
    threads: int | None = None
    allow_hosts: Sequence[str] = ()
    allow_origins: Sequence[str] = ()
    chat_template: Location | None = None
    limits: Limits = LIMITS


def serve(model: Location, options: Options = Options()) -> None:
    """Serve `model` until SIGINT or SIGTERM. InputError: no such model, an address that cannot be had, or one beyond
    this machine without a key. Needs the extra `serve`."""
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise InputError(f"serving needs {error.name}", mend="pip install 'puna[serve]'") from None
    from puna.serve.starting import start

    start(storage.place(model), options)
