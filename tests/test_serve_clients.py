"""Clients that know nothing of Puna: OpenAI's own, lm_eval, and one that makes requests up from the document."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from puna.model.llama import Llama
from puna.serve import shapes
from puna.serve.guard import Door
from puna.serve.limits import Limits
from serving import Running, running, tiny_model, tiny_tokenizer

SAID = [{"role": "user", "content": "the hat"}]

openai = pytest.importorskip("openai", reason="the package openai is not installed")
KEY = "a-key-of-twenty-characters"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(door=Door(key=KEY), limits=Limits(queue=20)) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_openais_client_lists_and_completes(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "puna"
    done = client.completions.create(
        model="tiny", prompt=["the cat", "the end"], max_tokens=6, n=2, temperature=0.7, seed=3, logprobs=2, echo=True
    )
    assert [choice.index for choice in done.choices] == [0, 1, 2, 3]
    assert done.choices[0].text.startswith("the cat")
    assert done.choices[3].text.startswith("the end")
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    told = done.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset)


def test_openais_client_streams_what_it_gets_whole(client: Any) -> None:
    fields = {"model": "tiny", "prompt": "naïve 東", "max_tokens": 20, "temperature": 1.1, "seed": 8}
    whole = client.completions.create(**fields)
    pieces = list(client.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    assert "".join(piece.choices[0].text for piece in pieces if piece.choices) == whole.choices[0].text
    assert pieces[-1].usage == whole.usage


def test_openais_client_chats(client: Any) -> None:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "the cat"}]
    fields = {"model": "tiny", "messages": messages, "seed": 2, "temperature": 0.9, "logprobs": True, "top_logprobs": 3}
    whole = client.chat.completions.create(**fields, max_completion_tokens=12, stop=["zzz"])
    content = whole.choices[0].logprobs.content
    raw = b"".join(bytes(token.bytes or []) for token in content)
    assert raw.decode(errors="replace") == whole.choices[0].message.content
    assert all(len(token.top_logprobs) == 3 for token in content)
    streamed = client.chat.completions.create(**fields, max_tokens=12, stream=True)
    assert "".join(p.choices[0].delta.content or "" for p in streamed) == whole.choices[0].message.content
    with client.chat.completions.stream(model="tiny", messages=messages, seed=2, max_tokens=12) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
    assert stream.current_completion_snapshot.choices[0].message.content == text


@pytest.mark.promise("errors")
def test_openais_client_raises_the_error_that_it_has_for_each(server: Running, client: Any) -> None:
    def create(**fields: Any) -> Any:
        return client.completions.create(**{"model": "tiny", "prompt": "a", "max_tokens": 2} | fields)

    with pytest.raises(openai.NotFoundError) as missing:
        create(model="other")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        create(max_tokens=500)
    assert (wrong.value.code, wrong.value.param) == ("context_length_exceeded", "max_tokens")
    with pytest.raises(openai.BadRequestError, match="no such field"):
        create(extra_body={"unheard": 1})
    with pytest.raises(openai.RateLimitError):
        create(prompt=["a"] * 21)
    other = openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong", max_retries=0)
    with other, pytest.raises(openai.AuthenticationError):
        other.models.list()


def _scored(model: Llama, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """Sum of a continuation's log-probabilities in process, and whether each token is the likeliest."""
    with torch.no_grad():
        scores = model.logits(torch.tensor([context + continuation]))[0, len(context) - 1 : -1].log_softmax(-1)
    ids = torch.tensor(continuation)
    return float(scores.gather(1, ids[:, None]).sum()), bool((scores.argmax(-1) == ids).all())


@pytest.mark.prove
def test_lm_eval_gets_the_numbers_of_scoring_in_process(tmp_path: Any) -> None:
    """`local-completions`, its own tokenizer backend that asks the server, in batches."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'puna[eval]'")
    from lm_eval.api.instance import Instance
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    pairs = [
        ("the cat and", " the hat"),
        ("the end is", " near"),
        ("naïve", " café, 東京 🦜"),
        ("the bat. the end is near, the", " end"),
    ]
    with running() as server:
        asked = LocalCompletionsAPI(
            model="tiny",
            base_url=f"{server.url}/v1/completions",
            tokenizer_backend="remote",
            batch_size=3,
            max_length=96,
        )
        instances = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
        found = asked.loglikelihood(instances, disable_tqdm=True)
        expected = [
            _scored(model, tokenizer.encode(a), tokenizer.encode(a + b)[len(tokenizer.encode(a)) :]) for a, b in pairs
        ]
        greedy = [(1, {"until": ["\n"], "max_gen_toks": 8, "temperature": 0})]
        until = [Instance("generate_until", {}, ("the cat", greedy[0][1]), 0)]
        text = asked.generate_until(until, disable_tqdm=True)
        body = {"prompt": tokenizer.encode("the cat"), "max_tokens": 8, "temperature": 0, "stop": ["\n"]}
        assert text == [server.post("/v1/completions", body).json()["choices"][0]["text"]]
    for (logprob, likeliest), (own, own_likeliest) in zip(found, expected, strict=True):
        assert logprob == pytest.approx(own, abs=1e-3)
        assert likeliest == own_likeliest


TASK = """task: made
dataset_path: json
dataset_kwargs:
  data_files: {file}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list:
  - metric: acc
"""


@pytest.mark.prove
def test_the_stock_command_of_lm_eval_scores_a_task_as_in_process(tmp_path: Path) -> None:
    """`lm_eval --model local-completions` with a task of made questions: the score of each choice, and the accuracy."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'puna[eval]'")
    asked = ["the cat and", "the end is", "naïve", "the bat. the"]
    choices = [" the hat", " near", " café", " end is here"]
    lines = [json.dumps({"question": question, "choices": choices}) for question in asked]
    (tmp_path / "made.jsonl").write_text("\n".join(lines) + "\n")
    (tmp_path / "made.yaml").write_text(TASK.format(file=tmp_path / "made.jsonl"))
    tokenizer = tiny_tokenizer()
    model = tiny_model(tokenizer)
    with running() as server:
        given = f"model=tiny,base_url={server.url}/v1/completions,tokenizer_backend=remote,max_length=96"
        command = [sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", given]
        command += ["--tasks", "made", "--include_path", str(tmp_path), "--batch_size", "8", "--log_samples"]
        command += ["--output_path", str(tmp_path / "out")]
        # What it caches and asks a hub for stays out of the home folder and offline.
        offline = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **offline}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    samples = [json.loads(line) for line in next(tmp_path.rglob("samples_made*.jsonl")).read_text().splitlines()]
    encode = tokenizer.encode
    right = 0
    for sample, question in zip(sorted(samples, key=lambda sample: sample["doc_id"]), asked, strict=True):
        expected = [
            _scored(model, encode(question), encode(question + each)[len(encode(question)) :]) for each in choices
        ]
        found = [float(answer[0]) for answer in sample["filtered_resps"]]
        assert found == pytest.approx([logprob for logprob, _ in expected], abs=1e-3)
        right += max(range(4), key=lambda number: expected[number][0]) == 0
    results = json.loads(next(tmp_path.rglob("results_*.json")).read_text())
    assert results["results"]["made"]["acc,none"] == right / 4


@pytest.mark.prove
def test_no_request_made_up_from_the_document_breaks_the_server(proved: Callable[[str], None]) -> None:
    """Schemathesis: valid, nearly valid and invalid requests to every route. None is a 5xx, all are in the document."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis.checks import not_a_server_error
    from schemathesis.generation import GenerationMode
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
    statuses: dict[int, int] = {}
    with running(limits=Limits(max_tokens=64)) as server:
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            for result in schema.get_all_operations():
                operation = result.ok()
                if mode is GenerationMode.NEGATIVE and operation.method == "get":
                    continue

                @given(case=operation.as_strategy(generation_mode=mode))
                @settings(
                    max_examples=40,
                    deadline=None,
                    derandomize=True,
                    database=None,
                    phases=[Phase.generate],
                    suppress_health_check=list(HealthCheck),
                )
                def ask(case: Any) -> None:
                    reply = case.call(timeout=30)
                    statuses[reply.status_code] = statuses.get(reply.status_code, 0) + 1
                    case.validate_response(reply, checks=checks)

                ask()
        server.quiet()
        assert server.get("/health").json() == {"status": "ok"}
    assert statuses[200] > 50
    assert statuses[400] > 100
    proved(f"schemathesis: {sum(statuses.values())} requests, answered {dict(sorted(statuses.items()))}")


def test_the_document_names_no_other_place_and_every_route(server: Running) -> None:
    document = server.get("/openapi.json").json()
    assert set(document["paths"]) >= {"/v1/models", "/v1/completions", "/v1/chat/completions", "/tokenize", "/metrics"}
    assert "http" not in json.dumps(document)
    assert "422" not in json.dumps(document)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            content = operation["responses"]["200"]["content"]
            assert path == "/metrics" or content["application/json"]["schema"], f"{path} says nothing of its answer"


@pytest.mark.parametrize(
    ("path", "shape", "body"),
    [
        ("/v1/models", shapes.Models, None),
        ("/v1/models/made", shapes.Model, None),
        ("/tokenizer_info", shapes.TokenizerInfo, None),
        ("/health", shapes.Health, None),
        ("/tokenize", shapes.Tokens, {"prompt": "the cat"}),
        ("/detokenize", shapes.Detokenized, {"tokens": [5, 6]}),
        ("/v1/completions", shapes.Completion, {"prompt": "the", "max_tokens": 3, "logprobs": 2, "echo": True}),
        ("/v1/completions", shapes.Completion, {"prompt": ["the", "a"], "max_tokens": 3, "n": 2}),
        ("/v1/chat/completions", shapes.ChatCompletion, {"messages": SAID, "max_tokens": 3}),
        (
            "/v1/chat/completions",
            shapes.ChatCompletion,
            {"messages": SAID, "max_tokens": 3, "logprobs": True, "top_logprobs": 2},
        ),
    ],
)
def test_answers_have_the_shape_that_the_document_shows(
    server: Running, path: str, shape: type[shapes.Shape], body: dict[str, Any] | None
) -> None:
    model = server.get("/v1/models").json()["data"][0]["id"]
    path = path.replace("made", model)
    reply = server.get(path) if body is None else server.post(path, {"model": model, **body})
    assert reply.status_code == 200, reply.text
    shape.model_validate(reply.json(), strict=True)


def test_head_is_answered_as_get_without_a_body(server: Running) -> None:
    with server.client() as client:
        for path in ("/", "/health", "/v1/models", "/page/page.js"):
            whole, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert head.headers["Content-Length"] == whole.headers["Content-Length"]
        assert client.head("/v1/completions").status_code == 405
        assert client.get("/health").json() == {"status": "ok"}  # the connection was left in order
