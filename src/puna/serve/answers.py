"""What a client is answered: OpenAI's objects, whole or piece by piece, from the events of a request."""

from __future__ import annotations

import itertools
import json
import math
import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from puna.generate.request import Event, Prompt, Request, Token
from puna.serve.refusals import Refusal
from puna.serve.served import Served
from puna.serve.text import Finish, Piece, Shown, Text
from puna.serve.worker import Stream

Kind = Literal["completion", "chat"]


@dataclass
class Answer:
    """One request's choices on their way. Choices are numbered prompt by prompt: prompt * n + choice."""

    kind: Kind
    served: Served
    requests: Sequence[Request]
    echo: bool = False
    scores: bool = False
    """Whether logprobs are shown."""
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self.id = ("cmpl-" if self.kind == "completion" else "chatcmpl-") + secrets.token_hex(12)
        self.n = self.requests[0].n
        self._texts = [Text(self.served.tokenizer.eos) for request in self.requests for _ in range(request.n)]

    async def pieces(self, stream: Stream) -> AsyncIterator[list[tuple[int, Piece]]]:
        """(choice, piece), as many as came at once. The prompt comes first where it is echoed."""
        if self.echo and not self.scores:
            yield list(
                itertools.chain.from_iterable(self._prompt(number, None) for number in range(len(self.requests)))
            )
        async for events in stream:
            made = list(itertools.chain.from_iterable(self._take(prompt, event) for prompt, event in events))
            if made:
                yield made

    def _take(self, number: int, event: Event) -> Iterator[tuple[int, Piece]]:
        if isinstance(event, Prompt):
            yield from self._prompt(number, event)
            return
        choice = number * self.n + event.sample
        text = self._texts[choice]
        piece = text.token(event) if isinstance(event, Token) else text.end(event)
        if piece.text or piece.tokens or piece.finish:
            yield choice, piece

    def _prompt(self, number: int, scores: Prompt | None) -> Iterator[tuple[int, Piece]]:
        """The echo of a prompt in each of its choices."""
        ids = self.requests[number].prompt
        scored = (None, *scores.tokens) if scores else (None,) * len(ids)
        spelt = self.served.tokenizer.decode_bytes
        for choice in range(number * self.n, (number + 1) * self.n):
            yield (
                choice,
                self._texts[choice].prompt((score, id, spelt([id])) for score, id in zip(scored, ids, strict=True)),
            )

    def usage(self) -> dict[str, int]:
        read, made = sum(len(request.prompt) for request in self.requests), sum(text.made for text in self._texts)
        return {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}

    async def whole(self, stream: Stream) -> dict[str, Any]:
        """The one object of a request that does not stream."""
        texts: list[list[str]] = [[] for _ in self._texts]
        tokens: list[list[Shown]] = [[] for _ in self._texts]
        finish: list[Finish | None] = [None] * len(self._texts)
        async for pieces in self.pieces(stream):
            for number, piece in pieces:
                texts[number].append(piece.text)
                tokens[number] += piece.tokens
                finish[number] = piece.finish
        joined = zip(map("".join, texts), tokens, finish, strict=True)
        choices = [self._choice(number, *parts) for number, parts in enumerate(joined)]
        name = "text_completion" if self.kind == "completion" else "chat.completion"
        return {**self._head(name), "choices": choices, "usage": self.usage()}

    async def streamed(self, stream: Stream, *, usage: bool) -> AsyncIterator[bytes]:
        """The lines of a stream of events. What goes wrong midway is an event `error`, and the last."""
        name = "text_completion" if self.kind == "completion" else "chat.completion.chunk"
        more = {"usage": None} if usage else {}
        try:
            if self.kind == "chat":
                for number in range(len(self._texts)):
                    delta = {"role": "assistant", "content": ""}
                    first = {"index": number, "delta": delta, "logprobs": None, "finish_reason": None}
                    yield sent({**self._head(name), "choices": [first], **more})
            async for pieces in self.pieces(stream):
                lines = [sent({**self._head(name), "choices": [self._chunk(*piece)], **more}) for piece in pieces]
                yield b"".join(lines)
            if usage:
                yield sent({**self._head(name), "choices": [], "usage": self.usage()})
        except Refusal as refusal:
            yield sent(refusal.body())
            return
        yield b"data: [DONE]\n\n"

    def _head(self, name: str) -> dict[str, Any]:
        return {"id": self.id, "object": name, "created": self.created, "model": self.served.name}

    def _choice(self, number: int, text: str, tokens: Sequence[Shown], finish: Finish | None) -> dict[str, Any]:
        shared = {"index": number, "finish_reason": finish, "logprobs": self._logprobs(tokens)}
        if self.kind == "completion":
            return {"text": text, **shared}
        return {"message": {"role": "assistant", "content": text, "refusal": None}, **shared}

    def _chunk(self, number: int, piece: Piece) -> dict[str, Any]:
        shared = {"index": number, "finish_reason": piece.finish, "logprobs": self._logprobs(piece.tokens)}
        if self.kind == "completion":
            return {"text": piece.text, **shared}
        return {"delta": {"content": piece.text} if piece.text or not piece.finish else {}, **shared}

    def _logprobs(self, tokens: Sequence[Shown]) -> dict[str, Any] | None:
        if not self.scores:
            return None
        return self._legacy(tokens) if self.kind == "completion" else self._content(tokens)

    def _legacy(self, tokens: Sequence[Shown]) -> dict[str, Any]:
        """In the shape of /v1/completions. Of pieces that are spelt alike the likeliest is shown."""
        spelt = self.served.spelt
        top: list[dict[str, float] | None] = []
        for token in tokens:
            if token.logprob is None:
                top.append(None)
                continue
            best: dict[str, float] = {}
            for id, logprob in (*token.top, (token.id, token.logprob)):
                best[spelt(id)] = max(best.get(spelt(id), -math.inf), logprob)
            top.append(best)
        return {
            "tokens": [spelt(token.id) for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": top,
            "text_offset": [token.offset for token in tokens],
        }

    def _content(self, tokens: Sequence[Shown]) -> dict[str, Any]:
        """In the shape of /v1/chat/completions."""

        def one(id: int, logprob: float | None) -> dict[str, Any]:
            raw = list(self.served.tokenizer.decode_bytes([id]))
            return {"token": self.served.spelt(id), "logprob": logprob, "bytes": raw or None}

        content = [
            {**one(token.id, token.logprob), "top_logprobs": [one(*other) for other in token.top]} for token in tokens
        ]
        return {"content": content, "refusal": None}


def sent(value: dict[str, Any]) -> bytes:
    """One server-sent event. A number that is not finite is a defect and never sent: ValueError."""
    return b"data: " + json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n\n"
