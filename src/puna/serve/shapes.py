"""What the routes answer, for the OpenAPI document: the answers themselves are made where they are made, and checked
against this by a test."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Finish = Literal["stop", "length"]


class Shape(BaseModel):
    """An object that has these members and no others."""

    model_config = ConfigDict(extra="forbid")


class Model(Shape):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class Models(Shape):
    object: Literal["list"]
    data: list[Model]


class Usage(Shape):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class LegacyLogprobs(Shape):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(Shape):
    text: str
    index: int
    finish_reason: Finish | None
    logprobs: LegacyLogprobs | None


class Completion(Shape):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class TokenLogprob(Shape):
    token: str
    logprob: float | None
    bytes: list[int] | None


class ContentLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(Shape):
    content: list[ContentLogprob]
    refusal: None


class AnswerMessage(Shape):
    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(Shape):
    message: AnswerMessage
    index: int
    finish_reason: Finish | None
    logprobs: ChatLogprobs | None


class ChatCompletion(Shape):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage


class Tokens(Shape):
    count: int
    max_model_len: int
    tokens: list[int]


class Detokenized(Shape):
    prompt: str


class TokenizerInfo(Shape):
    bos_token: str
    eos_token: str
    pad_token: None
    chat_template: str | None


class Health(Shape):
    status: str
