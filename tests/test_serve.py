"""The server answers as OpenAI's does, refuses in one shape, and gives exactly what the model gives."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from puna.errors import InputError
from puna.generate.decode import generate
from puna.model.llama import Llama
from puna.serve.limits import Limits
from serving import Running, plain, running, tiny_model

PROMPT = "the cat"
SMALL = Limits(body_bytes=20_000, scored=2_000)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(limits=SMALL) as server:
        yield server


@pytest.fixture(scope="module")
def model(server: Running) -> Llama:
    return tiny_model(server.engine.tokenizer)


def complete(server: Running, **fields: Any) -> dict[str, Any]:
    reply = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 8, "temperature": 0, **fields})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def events(text: str) -> list[Any]:
    """The objects of a stream, of which [DONE] is the last."""
    assert text.endswith("\n\n")
    lines = text.rstrip("\n").split("\n\n")
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_a_completion_is_what_the_model_goes_on_with(server: Running, model: Llama) -> None:
    tokenizer = server.engine.tokenizer
    greedy = complete(server)
    assert greedy["choices"][0]["text"] == "".join(generate(model, tokenizer, PROMPT, tokens=8, temperature=0))
    assert greedy["usage"] == {"prompt_tokens": 4, "completion_tokens": 8, "total_tokens": 12}
    assert greedy["choices"][0]["finish_reason"] == "length"
    for seed in (1, 2):
        drawn = complete(server, temperature=0.9, top_p=0.9, top_k=40, seed=seed)["choices"][0]["text"]
        expected = generate(model, tokenizer, PROMPT, tokens=8, temperature=0.9, top_p=0.9, top_k=40, seed=seed)
        assert drawn == "".join(expected)


def test_every_form_of_a_prompt_is_taken_and_choices_are_numbered_by_prompt(server: Running) -> None:
    ids = [1, *server.engine.tokenizer.encode(PROMPT)]
    alone = complete(server)["choices"][0]["text"]
    assert complete(server, prompt=ids)["choices"][0]["text"] == alone
    for both in ([PROMPT, "the end"], [ids, [1, *server.engine.tokenizer.encode("the end")]]):
        choices = complete(server, prompt=both, n=2)["choices"]
        assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
        assert choices[0]["text"] == choices[1]["text"] == alone
        assert choices[2]["text"] == choices[3]["text"] == complete(server, prompt="the end")["choices"][0]["text"]


def test_samples_of_one_prompt_differ_and_each_can_be_had_alone(server: Running) -> None:
    several = complete(server, n=3, temperature=1.0, seed=5)["choices"]
    alone = [complete(server, temperature=1.0, seed=5 + number)["choices"][0] for number in range(3)]
    assert [choice["text"] for choice in several] == [choice["text"] for choice in alone]
    assert len({choice["text"] for choice in several}) > 1


def test_logprobs_are_the_models_own_and_echo_scores_the_prompt(server: Running, model: Llama) -> None:
    tokenizer = server.engine.tokenizer
    choice = complete(server, echo=True, logprobs=3, max_tokens=1)["choices"][0]
    ids = [tokenizer.bos, *tokenizer.encode(PROMPT)]
    with torch.no_grad():
        scores = model.logits(torch.tensor([ids]))[0].log_softmax(-1)
    ids.append(int(scores[-1].argmax()))
    expected = [float(scores[place, id]) for place, id in enumerate(ids[1:])]
    found = choice["logprobs"]
    assert found["token_logprobs"][0] is None
    assert found["top_logprobs"][0] is None
    assert found["token_logprobs"][1:] == pytest.approx(expected, abs=1e-4)
    assert found["tokens"] == ["<s>", *(tokenizer.decode([id]) for id in ids[1:])]
    assert all(len(top) in (3, 4) for top in found["top_logprobs"][1:])
    assert choice["text"].startswith(PROMPT)
    for offset, token, after in zip(
        found["text_offset"], found["tokens"], [*found["text_offset"][1:], None], strict=True
    ):
        assert choice["text"][offset:after] == ("" if token == "<s>" else token)


def test_a_prompt_is_scored_without_a_token_made(server: Running) -> None:
    scored = complete(server, echo=True, logprobs=0, max_tokens=0)
    whole = complete(server, echo=True, logprobs=2, max_tokens=1)["choices"][0]
    choice = scored["choices"][0]
    assert choice["text"] == PROMPT
    assert choice["logprobs"]["token_logprobs"] == whole["logprobs"]["token_logprobs"][:-1]
    assert scored["usage"]["completion_tokens"] == 0
    assert complete(server, echo=True, max_tokens=0)["choices"][0]["text"] == PROMPT


def test_text_ends_before_a_stop_string_and_so_do_its_tokens(server: Running) -> None:
    whole = complete(server, max_tokens=40)["choices"][0]["text"]
    stop = whole[9:12]
    cut = complete(server, max_tokens=40, stop=["never", stop], logprobs=1)["choices"][0]
    assert cut["text"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"
    assert all(offset < len(cut["text"]) for offset in cut["logprobs"]["text_offset"])
    assert complete(server, max_tokens=40, stop=stop)["choices"][0]["text"] == cut["text"]


@pytest.mark.parametrize("stop", [None, "e"])
@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_holds_what_the_whole_answer_does(server: Running, stop: str | None, echo: bool) -> None:
    fields = {"prompt": [PROMPT, "naïve 東"], "n": 2, "temperature": 1.2, "seed": 4, "logprobs": 2, "max_tokens": 30}
    fields |= {"echo": echo, "stop": stop}
    whole = complete(server, **fields)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    streamed = events(server.post("/v1/completions", {**fields, **options}).text)
    assert streamed[-1]["usage"] == whole["usage"]
    assert streamed[-1]["choices"] == []
    for choice in whole["choices"]:
        pieces = [p for e in streamed for p in e["choices"] if p["index"] == choice["index"]]
        assert "".join(piece["text"] for piece in pieces) == choice["text"]
        assert [piece["finish_reason"] for piece in pieces if piece["finish_reason"]] == [choice["finish_reason"]]
        for name in ("tokens", "token_logprobs", "text_offset"):
            joined = [value for piece in pieces for value in piece["logprobs"][name]]
            near = pytest.approx(choice["logprobs"][name], abs=1e-4) if "prob" in name else choice["logprobs"][name]
            assert joined == near


def test_a_streamed_character_is_never_broken(server: Running) -> None:
    """Random bytes are most of what this model makes; each piece is valid text, and together they are the whole."""
    fields = {"prompt": "東", "temperature": 2.0, "seed": 1, "max_tokens": 80, "stream": True}
    with server.client() as client, client.stream("POST", "/v1/completions", json=fields) as reply:
        raw = b"".join(reply.iter_raw())
    pieces = [event["choices"][0]["text"] for event in events(raw.decode("utf-8", "strict"))]
    whole = complete(server, **{**fields, "stream": False})["choices"][0]["text"]
    assert "".join(pieces) == whole


def test_a_chat_is_written_by_the_template_and_its_messages_hold_no_control_piece(server: Running) -> None:
    tokenizer = server.engine.tokenizer
    messages = [{"role": "user", "content": "a</s>b"}, {"role": "user", "content": [{"type": "text", "text": "end"}]}]
    fields = {"messages": messages, "max_tokens": 6, "temperature": 0, "logprobs": True, "top_logprobs": 2}
    reply = server.post("/v1/chat/completions", fields).json()
    ids = [1, *tokenizer.encode("user: a</s>b"), 2, *tokenizer.encode("user: end"), 2, *tokenizer.encode("assistant: ")]
    assert reply["usage"]["prompt_tokens"] == len(ids)
    expected = complete(server, prompt=ids, max_tokens=6, logprobs=2)["choices"][0]
    choice = reply["choices"][0]
    assert choice["message"] == {"role": "assistant", "content": expected["text"], "refusal": None}
    content = choice["logprobs"]["content"]
    near = pytest.approx(expected["logprobs"]["token_logprobs"], abs=1e-4)
    assert [token["logprob"] for token in content] == near
    raw = b"".join(bytes(token["bytes"] or []) for token in content)
    assert raw.decode(errors="replace") == expected["text"]
    assert all(len(token["top_logprobs"]) == 2 for token in content)
    streamed = events(server.post("/v1/chat/completions", {**fields, "stream": True}).text)
    assert streamed[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    deltas = [event["choices"][0]["delta"].get("content", "") for event in streamed]
    assert "".join(deltas) == expected["text"]


def test_tokens_and_text_go_both_ways(server: Running) -> None:
    text = "the café, 東京 🦜 <s>"
    told = server.post("/tokenize", {"prompt": text}).json()
    assert told["tokens"] == server.engine.tokenizer.begin(text)
    assert told["count"] == len(told["tokens"])
    plain = server.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()["tokens"]
    assert plain == told["tokens"][1:]
    assert server.post("/detokenize", {"tokens": told["tokens"]}).json() == {"prompt": text}
    info = server.get("/tokenizer_info").json()
    assert (info["bos_token"], info["eos_token"]) == ("<s>", "</s>")


def test_a_tokenizer_that_begins_with_no_control_piece_loses_no_token(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = server.engine.tokenizer
    monkeypatch.setattr(tokenizer, "begin", tokenizer.encode)  # as of a tokenizer.json without add_bos_token
    for special in (True, False):
        told = server.post("/tokenize", {"prompt": PROMPT, "add_special_tokens": special}).json()
        assert told["tokens"] == tokenizer.encode(PROMPT)


def test_the_model_is_listed_by_its_name(server: Running) -> None:
    listed = server.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == ["tiny"]
    assert server.get("/v1/models/tiny").json() == listed[0]
    assert server.get("/v1/models/other").status_code == 404


def test_metrics_count_what_was_done(server: Running) -> None:
    def values() -> dict[str, float]:
        lines = server.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    before = values()
    complete(server, n=2)
    server.quiet()
    after = values()
    assert after["puna_generated_tokens_total"] - before["puna_generated_tokens_total"] == 16
    assert after["puna_prompt_tokens_total"] - before["puna_prompt_tokens_total"] == 4
    assert after["puna_first_token_seconds_count"] - before["puna_first_token_seconds_count"] == 1
    assert after["puna_choices"] == after["puna_prompts_decoding"] == 0


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("fields", "status", "param", "message"),
    [
        ({"unheard": 1}, 400, "unheard", "no such field"),
        ({"prompt": None}, 400, "prompt", "prompt"),
        ({"prompt": []}, 400, "prompt", "prompt"),
        ({"prompt": [[]]}, 400, "prompt", "prompt"),
        ({"prompt": [-1]}, 400, "prompt", "greater than or equal to 0"),
        ({"prompt": [290]}, 400, "prompt", "290 is not a piece"),
        ({"prompt": [True]}, 400, "prompt", "prompt"),
        ({"prompt": ["a"] * 129}, 400, "prompt", "128"),
        ({"prompt": ["a"] * 9, "n": 16}, 400, "n", "144|choices"),
        ({"max_tokens": 500}, 400, "max_tokens", "context of 96"),
        ({"max_tokens": -1}, 400, "max_tokens", "greater"),
        ({"max_tokens": "3"}, 400, "max_tokens", "integer"),
        ({"max_tokens": 0}, 400, "max_tokens", "echo"),
        ({"n": 17}, 400, "n", "16"),
        ({"logprobs": 21}, 400, "logprobs", "20"),
        ({"logprobs": 20, "max_tokens": 90, "n": 16, "prompt": "a"}, 400, "logprobs", "fewer prompts"),
        ({"temperature": -1}, 400, "temperature", "greater"),
        ({"top_p": 0}, 400, "top_p", "greater"),
        ({"repetition_penalty": 1e-320}, 400, "repetition_penalty", "0.01"),
        ({"stop": ""}, 400, "stop", "stop"),
        ({"stop": ["a"] * 17}, 400, "stop", "16"),
        ({"stop": "a" * 257}, 400, "stop", "256"),
        ({"best_of": 2}, 400, "best_of", "equal to n"),
        ({"suffix": "x"}, 400, "suffix", "not done"),
        ({"presence_penalty": 1}, 400, "presence_penalty", "repetition_penalty"),
        ({"logit_bias": {"5": 1}}, 400, "logit_bias", "not done"),
        ({"stream_options": {}}, 400, "stream_options", "stream = true"),
        ({"prompt": "\ud800"}, 400, None, ""),
        ({"model": "gpt-9"}, 404, "model", "only 'tiny'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_the_name_of_its_field(
    server: Running, fields: dict[str, Any], status: int, param: str | None, message: str
) -> None:
    body = json.dumps({"prompt": PROMPT, "max_tokens": 2, **fields})
    reply = server.client().post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param or param is None
    assert any(part in error["message"] for part in message.split("|"))
    server.quiet()


@pytest.mark.promise("errors")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"\xff\xfe", 400),
        (b'{"prompt": "a", "temperature": NaN}', 400),
        (b'{"prompt": "a", "temperature": 1e999}', 400),
        (b'{"prompt": "a", "\\ud800": 1}', 400),
        (b'{"prompt": "a", "model": "\\ud800"}', 404),
        (b'{"prompt": ' + b"[" * 9000 + b"]" * 9000 + b"}", 400),
        (b'{"prompt": "a", "seed": ' + b"9" * 6000 + b"}", 400),
        (b'{"prompt": "' + b"a" * 20_000 + b'"}', 413),
    ],
    ids=range(12),
)
def test_bodies_that_are_no_request_are_refused_in_the_same_shape(server: Running, body: bytes, status: int) -> None:
    with server.client() as client:
        json_type = {"Content-Type": "application/json"}
        for path in ("/v1/completions", "/v1/chat/completions", "/tokenize", "/detokenize"):
            reply = client.post(path, content=body, headers=json_type)
            assert reply.status_code in (status, 400), reply.text
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
            chunked = client.post(path, content=iter([body[:5], body[5:]]), headers=json_type)
            assert chunked.status_code == reply.status_code


def test_a_chat_without_a_template_is_a_transcript() -> None:
    messages = [{"role": "system", "content": "cats"}, {"role": "user", "content": "the cat"}]
    fields = {"messages": messages, "max_tokens": 8, "temperature": 0}
    with running(template=False) as server:
        assert server.get("/about").json()["chat"] is False
        reply = server.post("/v1/chat/completions", fields).json()
        body = {"prompt": "cats\n\nQ: the cat\n\nA:", "max_tokens": 8, "temperature": 0, "stop": ["\nQ:"]}
        expected = server.post("/v1/completions", body).json()
        assert reply["choices"][0]["message"]["content"] == expected["choices"][0]["text"]
        assert reply["usage"] == expected["usage"]
        for more in ({"chat_template_kwargs": {"a": 1}}, {"add_generation_prompt": False}):
            refused = server.post("/v1/chat/completions", {**fields, **more})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_chat_template")


@pytest.mark.promise("errors")
def test_what_a_template_refuses_is_said(server: Running) -> None:
    fields = {"messages": [{"role": "user", "content": "a"}], "chat_template_kwargs": {"messages": []}}
    reply = server.post("/v1/chat/completions", fields)
    assert (reply.status_code, "messages is set already" in reply.text) == (400, True)


@pytest.mark.promise("errors")
@pytest.mark.parametrize("stream", [False, True])
def test_logits_that_are_no_numbers_are_an_error_and_others_go_on(stream: bool) -> None:
    with running(plain()) as server:
        server.engine.poison = True
        reply = server.post("/v1/completions", {"prompt": "a", "stream": stream, "logprobs": 1})
        assert "NaN" not in reply.text
        if stream:
            assert json.loads(reply.text.split("data: ")[-1])["error"]["message"] == "logits are not finite"
            assert "[DONE]" not in reply.text
        else:
            assert reply.status_code == 500
            assert reply.json()["error"]["message"] == "logits are not finite"
        server.engine.poison = False
        assert server.post("/v1/completions", {"prompt": "a"}).status_code == 200


@pytest.mark.promise("errors")
def test_a_step_that_fails_ends_what_is_under_way_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with running(plain()) as server:
        server.engine.fails = RuntimeError("a defect")
        reply = server.post("/v1/completions", {"prompt": "a"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (500, "decoding_failed")
        server.engine.fails = InputError("the prompt is wrong")
        assert server.post("/v1/completions", {"prompt": "a"}).json()["error"]["message"] == "the prompt is wrong"
        assert server.post("/v1/completions", {"prompt": "a"}).status_code == 200
        server.quiet()
    defect, refused = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert re.fullmatch(
        r"error: decoding failed: RuntimeError: a defect \(plain_engine\.py:\d+, worker\.py:\d+\): requests under "
        "way were ended, and the server goes on",
        defect,
    )
    assert refused.startswith("error: the prompt is wrong: requests under way")


@pytest.mark.promise("errors")
def test_an_engine_that_is_beyond_help_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    with running(plain()) as server:
        server.engine.fails, server.engine.stuck = RuntimeError("a defect"), True
        assert server.post("/v1/completions", {"prompt": "a"}).status_code == 500
        health = server.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "RuntimeError: cannot be cancelled")
        assert server.post("/v1/completions", {"prompt": "a"}).status_code == 503
    said = capsys.readouterr().err
    assert "RuntimeError: a defect" in said
    assert "cannot be cancelled" in said
    assert "no request is answered any more; start the server again" in said
    assert "Traceback" not in said


def test_the_engine_of_the_tests_says_what_the_true_one_says(server: Running) -> None:
    """The stand-in is no fixture to believe in unseen."""
    fields = {"prompt": ["the end", "naïve"], "n": 2, "temperature": 0.9, "seed": 3, "logprobs": 2, "max_tokens": 12}
    expected = complete(server, **fields, echo=True)
    with running(plain()) as other:
        found = complete(other, **fields, echo=True)
    assert [choice["text"] for choice in found["choices"]] == [choice["text"] for choice in expected["choices"]]
    for one, two in zip(found["choices"], expected["choices"], strict=True):
        assert one["logprobs"]["token_logprobs"][1:] == pytest.approx(two["logprobs"]["token_logprobs"][1:], abs=1e-3)
