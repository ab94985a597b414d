"""The command that serves a model: `serve`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from puna.cli.generating import DType, ModelName
from puna.cli.words import Threads, epilog, not_empty
from puna.errors import InputError

ENDINGS = "0 ended by a signal, 1 the work failed, 2 wrong input."
KEY = "PUNA_KEY"  # of the environment: what stands on a command line is read by everybody on the machine


def add_to(app: typer.Typer) -> None:
    end = epilog(
        "puna serve runs/laptop",
        "puna serve runs/laptop --port 8080 --slots 16",
        "puna serve runs/laptop --host 0.0.0.0 --key-file key.txt",
        status=ENDINGS,
    )
    app.command("serve", short_help="Serve a model: OpenAI's API, and a page.", epilog=end)(serve)


def serve(
    model: ModelName,
    host: Annotated[str, typer.Option(callback=not_empty, help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    name: Annotated[str, typer.Option(help="What the API calls the model; else its folder's name.")] = "",
    key_file: Annotated[
        str | None, typer.Option(metavar="FILE", callback=not_empty, help=f"Holds the key; else {KEY} does.")
    ] = None,
    slots: Annotated[int, typer.Option(min=1, max=1024, help="Continuations decoded at once.")] = 8,
    context: Annotated[
        int | None, typer.Option(min=2, help="Tokens of prompt and continuation; else the model's own.")
    ] = None,
    dtype: DType = "f32",
    threads: Threads = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name this server goes by; may be given several times.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Another page that may ask; may be given several times.")
    ] = None,
    chat_template: Annotated[
        str | None, typer.Option(metavar="FILE", callback=not_empty, help="How a chat is written for the model.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors only, and not the address.")] = False,
) -> None:
    """Serve a model over HTTP, by OpenAI's API, with a page at / to use it by.

    Without more, only this machine reaches it. At another address every request must bring a key, which PUNA_KEY or
    --key-file holds. Ctrl-C lets what is under way end. Limits, security and metrics: docs/serve.md. Needs the extra
    `serve`; writes nothing.
    """
    from puna import storage
    from puna.progress import configure
    from puna.serve import Options
    from puna.serve import serve as start

    configure(quiet=quiet)
    key = (storage.read(key_file).decode("utf-8", "replace") if key_file else os.environ.get(KEY, "")).strip()
    if key_file and not key:
        raise InputError("holds no key", where=key_file, mend="write one into it, or leave --key-file out")
    options = Options(
        host=host,
        port=port,
        name=name,
        key=key,
        slots=slots,
        context=context,
        dtype=dtype,
        threads=threads,
        allow_hosts=tuple(allow_host or ()),
        allow_origins=tuple(allow_origin or ()),
        chat_template=chat_template,
    )
    start(model, options)
