"""A tiny model and a real server of it in a thread, for the tests of serve/."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import torch

from plain_engine import PlainEngine
from puna import tokenizer as tokenizers
from puna.generate.chat import Template
from puna.generate.engine import Engine
from puna.generate.packed import pack
from puna.model.config import ModelConfig
from puna.model.llama import Llama
from puna.model.weights import initialise
from puna.serve.app import application
from puna.serve.guard import Door
from puna.serve.limits import LIMITS, Limits
from puna.serve.running import Server, bound
from puna.serve.served import Served
from puna.serve.worker import Decoder, Worker
from puna.storage import Place
from puna.tokenizer import Tokenizer

TEXT = "the cat and the hat and the bat. the end is near, the end is here. naïve café, 東京 🦜\n"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role }}: {{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
CONTROLS = {"<s>": 1, "</s>": 2}


def tiny_tokenizer() -> Tokenizer:
    return Tokenizer(tokenizers.train([TEXT] * 3, pieces=290, character_coverage=0.98))


def tiny_model(tokenizer: Tokenizer, context: int = 96) -> Llama:
    """Random weights, large enough that a different past gives a different next token."""
    config = ModelConfig(
        dim=16, heads=4, kv_heads=2, layers=2, hidden=24, vocabulary=tokenizer.vocabulary, context=context
    )
    model = Llama(config)
    initialise(model, 2)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(6).requires_grad_(False)
    return model


def plain() -> PlainEngine:
    """An engine that can be made to fail or to wait."""
    tokenizer = tiny_tokenizer()
    return PlainEngine(tiny_model(tokenizer), tokenizer)


@dataclass
class Running:
    """A server under way. `headers` go with every request of `client`."""

    url: str
    engine: Any
    worker: Worker
    server: Server
    served: Served
    headers: dict[str, str] = field(default_factory=dict)

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=20, trust_env=False, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        with self.client() as client:
            return client.post(path, json=body, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        with self.client() as client:
            return client.get(path, **options)

    def quiet(self) -> None:
        """Wait until nothing is under way: a cancelled request is gone within a step."""
        until = time.monotonic() + 20
        while self.worker.decoding or self.worker.waiting or self.engine.busy:
            assert time.monotonic() < until, (self.worker.decoding, self.worker.waiting)
            time.sleep(0.01)


@contextmanager
def running(
    engine: Decoder | None = None,
    *,
    limits: Limits = LIMITS,
    door: Door | None = None,
    template: bool | Template = True,
    run: Place | None = None,
) -> Iterator[Running]:
    """A server at a free port of this machine, with a tiny model unless `engine` brings another."""
    if engine is None:
        tokenizer = tiny_tokenizer()
        engine = Engine(pack(tiny_model(tokenizer)), tokenizer, slots=4)
    known: Any = engine
    made = Template(TEMPLATE, "test", CONTROLS, {"bos_token": "<s>", "eos_token": "</s>"}) if template else None
    chat = template if isinstance(template, Template) else made
    served = Served("tiny", known.tokenizer, known.context, 1_700_000_000, chat, run)
    door = door or Door()
    app, worker = application(served, engine, door, limits)
    taken = bound("127.0.0.1", 0)
    url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    server = Server(app, worker, limits)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]})
    thread.start()
    try:
        until = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive()
            assert time.monotonic() < until
            time.sleep(0.01)
        headers = {"Authorization": f"Bearer {door.key}"} if door.key else {}
        yield Running(url, engine, worker, server, served, headers)
    finally:
        known_gate = getattr(engine, "gate", None)
        if known_gate:
            known_gate.set()
        server.should_exit = True
        thread.join(40)
        taken.close()
    assert not thread.is_alive()
