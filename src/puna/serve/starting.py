"""From a model's folder to a server that answers."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import torch

from puna import generate, storage
from puna.errors import InputError
from puna.generate import chat
from puna.progress import say
from puna.serve import Options
from puna.serve.app import application
from puna.serve.guard import Door
from puna.serve.running import Server, bound, is_loopback
from puna.serve.served import Served
from puna.storage import Place


def start(model: Place, options: Options) -> None:
    """Load `model` and serve it until a signal comes."""
    door = door_of(options)
    taken = bound(options.host, options.port, options.limits.wire_bytes)
    with taken:
        if options.threads:
            torch.set_num_threads(options.threads)
        loaded = generate.load(model)
        engine = loaded.engine(slots=options.slots, context=options.context, dtype=options.dtype)
        del loaded.model  # packed, and not needed twice
        served = served_of(model, loaded, engine.context, options)
        app, worker = application(served, engine, door, options.limits)
        say(f"serving {served.name} at {url(*taken.getsockname()[:2])}  (Ctrl-C ends it)")
        Server(app, worker, options.limits).run(sockets=[taken])
    say("ended")


def door_of(options: Options) -> Door:
    """Who may come in. InputError when that is nobody in particular."""
    least = options.limits.key_characters
    if not options.key and not is_loopback(options.host):
        mend = "set PUNA_KEY or give --key-file, or serve at 127.0.0.1"
        raise InputError("other machines reach this address, so a key must be asked for", where=options.host, mend=mend)
    if options.key and (len(options.key) < least or not re.fullmatch(r"[!-~]+", options.key)):
        what = f"the key must be {least} characters or more, of ASCII without spaces"
        raise InputError(what, mend="make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'")
    for origin in options.allow_origins:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
            raise InputError("is no origin", where=origin, mend="give it as https://name or http://name:port")
    hosts = frozenset(name.lower() for name in options.allow_hosts)
    if wrong := sorted(name for name in hosts if not re.fullmatch(r"[a-z0-9_.-]+", name)):
        raise InputError("is no name of a host", where=wrong[0], mend="give it without scheme and port")
    return Door(hosts, frozenset(options.allow_origins), options.key)


def served_of(model: Place, loaded: generate.Generator, context: int, options: Options) -> Served:
    """What the API says of a loaded model."""
    run = model if storage.is_file(model / "recipe.toml") else None
    file = storage.place(options.chat_template) if options.chat_template else None
    made = storage.look(loaded.folder / "config.json")
    return Served(
        name=options.name or model.absolute().name,
        tokenizer=loaded.tokenizer,
        context=context,
        made=made.stamp // 10**9 if made and isinstance(made.stamp, int) else 0,
        template=chat.find(loaded.folder, loaded.tokenizer, file),
        run=run,
    )


def url(host: str, port: int) -> str:
    """The address that a browser is given."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
