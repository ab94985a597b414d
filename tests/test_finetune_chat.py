"""A finetuned model chats by one template: transformers, the server and the page give the model the same token ids."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import made_finetune
from made_finetune import SMALL, tune
from puna import convert, load
from puna.finetune.choose import Source
from puna.generate.chat import find
from puna.generate.engine import Engine
from puna.generate.packed import pack
from puna.generate.request import Request
from serving import Running, running

CHROMIUM = shutil.which("chromium")
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "the cat?"},
    {"role": "assistant", "content": "the hat."},
    {"role": "user", "content": "naïve\n\ncafé 東京"},
]

pytestmark = pytest.mark.prove


class Listening(Engine):
    """The engine of a server, and the ids that it was given, request by request."""

    asked: list[list[int]]

    def submit(self, request: Request) -> int:
        self.asked.append(list(request.prompt))
        return super().submit(request)


class Theirs:
    """What transformers makes of a talk, by the exported folder alone."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(self, talk: list[dict[str, str]]) -> list[int]:
        return list(self._tokenizer.apply_chat_template(talk, add_generation_prompt=True, tokenize=True)["input_ids"])


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    torch.set_num_threads(1)
    data = made_finetune.data(folder / "pairs.jsonl")
    base = made_finetune.model(folder / "base", context=256)
    tune(base, [Source(data)], folder / "tuned", replace(SMALL, epochs=0.1))
    return folder / "tuned"


@pytest.fixture(scope="module")
def theirs(tuned: Path) -> Theirs:
    convert.export(tuned, "hf", tuned.parent / "hf")
    return Theirs(tuned.parent / "hf")


@pytest.fixture
def server(tuned: Path) -> Iterator[Running]:
    """As `puna serve` begins one: the template is found beside the weights."""
    loaded = load(tuned)
    template = find(loaded.folder, loaded.tokenizer)
    assert template is not None
    engine = Listening(pack(loaded.model), loaded.tokenizer, slots=2, context=loaded.model.config.context)
    engine.asked = []
    with running(engine, template=template) as server:
        yield server


def test_the_server_gives_the_model_the_ids_of_transformers(server: Running, theirs: Theirs) -> None:
    for talk in (TALK[:2], TALK):
        ids = theirs.ids(talk)
        answered = server.post("/v1/chat/completions", {"messages": talk, "max_tokens": 2, "seed": 1})
        assert answered.status_code == 200, answered.text
        assert server.engine.asked[-1] == ids
        assert answered.json()["usage"]["prompt_tokens"] == len(ids)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH")
def test_the_page_gives_the_model_the_ids_of_transformers(server: Running, theirs: Theirs) -> None:
    """Two turns: in the second, the model's own answer is part of what it is asked."""
    sync_api: Any = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    talk: list[dict[str, str]] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(20_000)
        page.goto(server.url + "/#chat")
        page.wait_for_selector("body[data-ready]")
        page.fill("#max_tokens", "6")
        for number, text in enumerate(["the cat?", "naïve café 東京"], 1):
            page.fill("#message", text)
            page.click("#chat-form .go")
            page.wait_for_selector(f"#talk .sheet:nth-child({2 * number}) button:has-text('Retry')")
            talk.append({"role": "user", "content": text})
            assert server.engine.asked[-1] == theirs.ids(talk)
            talk = json.loads(page.evaluate("sessionStorage.getItem('puna.chat')"))
            assert [each["role"] for each in talk] == ["user", "assistant"] * number
        browser.close()
    assert len(server.engine.asked) == 2
