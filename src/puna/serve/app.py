"""The routes: OpenAI's, those of the tokenizer, and those that say how the server is.

A route turns a checked body into prompts of ids (the engine's requests), hands them to the worker, and makes an answer
of the events that come back. Nothing here waits for anything but that.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from puna import __version__
from puna.errors import InputError
from puna.generate.chat import transcript
from puna.generate.request import Request as Ask
from puna.generate.sampling import Sampling
from puna.serve import page, shapes
from puna.serve.answers import Answer
from puna.serve.guard import Door, Guard
from puna.serve.limits import LIMITS, Limits
from puna.serve.metrics import Gauge, Metrics
from puna.serve.parts import Parts
from puna.serve.refusals import Refusal, refused
from puna.serve.requests import ChatRequest, CompletionRequest, DetokenizeRequest, Sampled, TokenizeRequest
from puna.serve.schema import ANSWERS, described, good
from puna.serve.served import Served
from puna.serve.streaming import EventStream, Gone, unless_gone
from puna.serve.worker import Decoder, Worker

SHORT = 4096  # characters


def application(served: Served, decoder: Decoder, door: Door, limits: Limits = LIMITS) -> tuple[ASGIApp, Worker]:
    """The whole server as one ASGI application, and the worker whose thread it starts and ends."""
    metrics = Metrics()
    worker = Worker(decoder, limits, metrics)
    metrics.gauges += [
        Gauge("puna_choices", "Choices that clients wait for.", lambda: worker.waiting),
        Gauge("puna_prompts_decoding", "Prompts that the decoding thread holds.", lambda: worker.decoding),
    ]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        worker.start()
        yield
        await worker.stop()

    # The pages of documentation that FastAPI brings load scripts from elsewhere.
    app = FastAPI(
        title="Puna", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    for error in (Refusal, InputError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(error, refused)
    parts = Parts(served, worker, metrics, limits, door)
    for routes in (_openai, _tokenizer, _state, page.routes):
        app.include_router(routes(parts))
    app.openapi = described(app)  # type: ignore[method-assign]
    guarded: ASGIApp = Guard(app, door, limits, metrics)
    if door.origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=sorted(door.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return guarded, worker


def _openai(parts: Parts) -> APIRouter:
    router, served = APIRouter(responses=ANSWERS), parts.served

    @router.get("/v1/models", responses=good(shapes.Models))
    async def models() -> JSONResponse:
        """The one model that is served."""
        return JSONResponse({"object": "list", "data": [_model(served)]})

    @router.get("/v1/models/{name:path}", responses=good(shapes.Model))
    async def model(name: str) -> JSONResponse:
        """It alone, by its name."""
        served.named(name)
        return JSONResponse(_model(served))

    @router.post("/v1/completions", responses=good(shapes.Completion, streamed=True))
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Go on from one prompt or several."""
        served.named(body.model)
        wanted = 16 if body.max_tokens is None else body.max_tokens
        prompts = [await _ids(served, prompt, "prompt") for prompt in _prompts(body.prompt)]
        asks = [_ask(body, ids, served.room(ids, wanted), body.logprobs, echo=bool(body.echo)) for ids in prompts]
        scores = body.logprobs is not None
        return await _answered(
            parts, Answer("completion", served, asks, echo=bool(body.echo), scores=scores), body, request
        )

    @router.post("/v1/chat/completions", responses=good(shapes.ChatCompletion, streamed=True))
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Answer a conversation."""
        served.named(body.model)
        ids, ends = await asyncio.to_thread(_conversation, served, body)
        # Here the number is a bound and no demand, as OpenAI has it: a long talk leaves less room.
        most = min(served.room(ids, None), body.limit or parts.limits.max_tokens, parts.limits.max_tokens)
        ask = _ask(body, ids, most, body.top_logprobs if body.logprobs else None, ends=ends)
        return await _answered(parts, Answer("chat", served, [ask], scores=bool(body.logprobs)), body, request)

    return router


async def _answered(parts: Parts, answer: Answer, body: Sampled, request: Request) -> Response:
    """Hand the prompts over and answer, whole or as a stream."""
    _within(answer, parts.limits)
    stream = parts.worker.submit(answer.requests, bounded=bool(body.stream))
    if body.stream:
        usage = bool(body.stream_options and body.stream_options.include_usage)
        return EventStream(answer.streamed(stream, usage=usage), stream, parts.limits.reader_seconds)
    try:
        return JSONResponse(await unless_gone(answer.whole(stream), request.receive))
    except Gone:
        return Response(status_code=499)  # nobody reads it; the metrics show it
    finally:
        stream.close()


def _within(answer: Answer, limits: Limits) -> None:
    """Refusal when a request is too large as a whole."""
    asks = answer.requests
    if len(asks) * answer.n > limits.choices:
        what = f"{len(asks)} prompts times n = {answer.n} are more than {limits.choices} choices"
        raise Refusal(400, what, param="n")
    if answer.scores:
        shown = sum(ask.n * (ask.max_tokens + (len(ask.prompt) if answer.echo else 0)) for ask in asks)
        if shown * (1 + (asks[0].logprobs or 0)) > limits.scored:
            what = f"logprobs of {shown} tokens with {asks[0].logprobs} alternatives are more than {limits.scored}"
            raise Refusal(400, f"{what} numbers: send fewer prompts at once", param="logprobs")


def _ask(
    body: Sampled,
    ids: Sequence[int],
    most: int,
    logprobs: int | None,
    *,
    echo: bool = False,
    ends: tuple[str, ...] = (),
) -> Ask:
    """A prompt as the engine takes it. null is what leaving a field out is."""

    def given(value: float | None, default: float) -> float:
        return default if value is None else value

    sampling = Sampling(
        temperature=given(body.temperature, 1.0),
        top_p=given(body.top_p, 1.0),
        top_k=max(0, body.top_k or 0),
        min_p=given(body.min_p, 0.0),
        repetition_penalty=given(body.repetition_penalty, 1.0),
        seed=secrets.randbits(62) if body.seed is None else body.seed,
    )
    return Ask(
        prompt=tuple(ids),
        max_tokens=most,
        sampling=sampling,
        n=body.n or 1,
        stop=(*body.stops, *ends),
        # The end of a text is no token of it. But who asks for one token counts on one: lm_eval drops it unseen.
        ends=() if most == 1 else None,
        logprobs=logprobs,
        prompt_logprobs=logprobs if echo else None,
    )


def _prompts(prompt: Any) -> Sequence[str | Sequence[int]]:
    """A list of prompts, whichever of the four forms it was given in."""
    return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else prompt


async def _ids(served: Served, prompt: str | Sequence[int], param: str, *, special: bool = True) -> Sequence[int]:
    """A long text is cut into pieces beside the event loop, so that others' replies go on. special: with the control
    piece that stands before a document, where the model has one."""
    if not isinstance(prompt, str):
        return served.known(prompt, param)
    read = served.begin if special else served.encode
    return read(prompt, param) if len(prompt) < SHORT else await asyncio.to_thread(read, prompt, param)


def _conversation(served: Served, body: ChatRequest) -> tuple[Sequence[int], tuple[str, ...]]:
    """The ids of a chat and the strings that end an answer: as the model's template writes it, or, for a base model
    without one, as a transcript of questions and answers."""
    messages = [message.plain() for message in body.messages]
    go_on = body.add_generation_prompt is not False
    if served.template is not None:
        arguments = body.chat_template_kwargs
        return served.template.ids(messages, served.tokenizer, arguments=arguments, go_on=go_on), ()
    if body.chat_template_kwargs or not go_on:
        param = "chat_template_kwargs" if body.chat_template_kwargs else "add_generation_prompt"
        what = f"{param}: {served.name} has no chat template; --chat-template FILE of puna serve gives it one"
        raise Refusal(400, what, param=param, code="no_chat_template")
    for message in messages:
        served.valid(message["content"], "messages")
    return transcript(messages, served.tokenizer)


def _tokenizer(parts: Parts) -> APIRouter:
    router, served = APIRouter(responses=ANSWERS), parts.served

    @router.post("/tokenize", responses=good(shapes.Tokens))
    async def tokenize(body: TokenizeRequest) -> JSONResponse:
        """The ids of a text."""
        served.named(body.model)
        ids = await _ids(served, body.prompt, "prompt", special=body.add_special_tokens is not False)
        return JSONResponse({"count": len(ids), "max_model_len": served.context, "tokens": ids})

    @router.post("/detokenize", responses=good(shapes.Detokenized))
    async def detokenize(body: DetokenizeRequest) -> JSONResponse:
        """The text of ids."""
        served.named(body.model)
        return JSONResponse({"prompt": served.tokenizer.decode(served.known(body.tokens, "tokens"))})

    @router.get("/tokenizer_info", responses=good(shapes.TokenizerInfo))
    async def info() -> JSONResponse:
        """The names of the control pieces, and the template; what lm_eval's remote tokenizer asks for."""
        pieces, template = served.tokenizer.pieces, served.template
        names = {"bos_token": pieces[served.tokenizer.bos], "eos_token": pieces[served.tokenizer.eos]}
        return JSONResponse({**names, "pad_token": None, "chat_template": template and template.source})

    return router


def _state(parts: Parts) -> APIRouter:
    router, worker = APIRouter(), parts.worker

    @router.get("/health", responses=good(shapes.Health))
    async def health() -> JSONResponse:
        """200 while requests are taken."""
        if worker.broken or worker.draining:
            return JSONResponse({"status": worker.broken or "shutting down"}, 503)
        return JSONResponse({"status": "ok"})

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        """Counters for Prometheus."""
        return PlainTextResponse(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def _model(served: Served) -> dict[str, Any]:
    known = {"id": served.name, "object": "model", "created": served.made, "owned_by": "puna"}
    return {**known, "max_model_len": served.context}
