"""What a client may send, field by field: OpenAI's names, and those of sampling that servers of open models share.

A field that is not known is refused by name, and so is one whose value would change the text in a way that is not done
here: nothing a client asks for is ignored in silence, but for `user`, `metadata` and `store`, which say nothing of the
text.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from puna.generate.sampling import LEAST_PENALTY
from puna.serve.limits import LIMITS


def _whole(value: object) -> object:
    """JSON has one kind of number: 3.0 is an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Token = Annotated[Whole, Field(ge=0, lt=1 << 31)]
# A list ends at its first wrong item: a body may hold a million, and each would become an error of its own.
Tokens = Annotated[list[Token], Field(fail_fast=True, min_length=1)]
Texts = Annotated[list[str], Field(fail_fast=True, min_length=1, max_length=LIMITS.prompts)]
Stop = Annotated[str, Field(min_length=1, max_length=LIMITS.stop_characters)]
SEEDS = 1 << 63
FIELDS = 64  # of an object: more than any here has


class Body(BaseModel):
    """JSON, exactly: a string is no number and true is no 1."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few(cls, value: Any) -> Any:
        """Each unknown field would become an error of its own, and a body may hold many."""
        if isinstance(value, dict) and len(value) > FIELDS:
            raise ValueError(f"there are {len(value)} fields; no request has more than {FIELDS}")
        return value


class StreamOptions(Body):
    include_usage: bool | None = False
    """A last piece with the number of tokens read and made."""
    include_obfuscation: bool | None = False
    """Taken and not done: it would pad pieces to hide their length."""


class Sampled(Body):
    """How text is drawn; what completions and chats share."""

    model: str | None = Field(None, max_length=512)
    """The name that /v1/models gives."""
    n: Whole | None = Field(1, ge=1, le=LIMITS.n)
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(1.0, gt=0, le=1)
    top_k: Whole | None = Field(0, ge=-1, le=1 << 31)
    """Draw from so many of the likeliest; 0 and -1: from all."""
    min_p: float | None = Field(0.0, ge=0, le=1)
    """Draw only from what is at least so likely, as a share of the likeliest."""
    repetition_penalty: float | None = Field(1.0, ge=LEAST_PENALTY, le=10)
    """What is in the prompt or the text already becomes less likely by this factor of its logit; 1: it does not."""
    seed: Annotated[Whole, Field(ge=-SEEDS, lt=SEEDS)] | None = None
    """The same seed gives the same text; without one each request has another."""
    stop: Stop | Annotated[list[Stop], Field(fail_fast=True, max_length=LIMITS.stops)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, max_length=512)
    metadata: Annotated[dict[str, str], Field(max_length=16)] | None = None
    store: bool | None = False
    presence_penalty: float | None = 0.0
    frequency_penalty: float | None = 0.0
    logit_bias: dict[str, Any] | None = None

    @field_validator("presence_penalty", "frequency_penalty")
    @classmethod
    def _no_penalty(cls, value: float | None) -> float | None:
        if value:
            raise ValueError("is not done here: use repetition_penalty")
        return value

    @field_validator("logit_bias")
    @classmethod
    def _no_bias(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value:
            raise ValueError("is not done here")
        return value

    @model_validator(mode="after")
    def _streamed(self) -> Sampled:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only with stream = true")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class CompletionRequest(Sampled):
    """POST /v1/completions."""

    prompt: (
        str | Tokens | Texts | Annotated[list[Tokens], Field(fail_fast=True, min_length=1, max_length=LIMITS.prompts)]
    )
    """A text, texts, the ids of one prompt or of several. Before a text <s> is put; ids are taken as they are."""
    max_tokens: Whole | None = Field(16, ge=0, le=LIMITS.max_tokens)
    logprobs: Whole | None = Field(None, ge=0, le=LIMITS.logprobs)
    echo: bool | None = False
    best_of: Whole | None = Field(None, ge=1, le=LIMITS.n)
    suffix: str | None = None

    @field_validator("suffix")
    @classmethod
    def _no_suffix(cls, value: str | None) -> str | None:
        if value:
            raise ValueError("is not done here")
        return value

    @model_validator(mode="after")
    def _fits(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise ValueError("best_of: must be equal to n, or left out")
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("max_tokens: 0 asks for nothing unless echo is true")
        return self


class TextPart(Body):
    type: Literal["text"]
    text: str


class Message(Body):
    role: Annotated[str, Field(min_length=1, max_length=64)]
    content: str | Annotated[list[TextPart], Field(fail_fast=True, max_length=LIMITS.messages)] | None = None
    name: str | None = Field(None, max_length=64)

    def plain(self) -> dict[str, str]:
        """What a template is given: parts of text joined."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return {"role": self.role, "content": text} | ({"name": self.name} if self.name else {})


class ResponseFormat(Body):
    type: Literal["text"]


class ChatRequest(Sampled):
    """POST /v1/chat/completions."""

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1, max_length=LIMITS.messages)]
    max_tokens: Whole | None = Field(None, ge=1, le=LIMITS.max_tokens)
    """Without it, as many as the context has room for."""
    max_completion_tokens: Whole | None = Field(None, ge=1, le=LIMITS.max_tokens)
    logprobs: bool | None = False
    top_logprobs: Whole | None = Field(None, ge=0, le=LIMITS.logprobs)
    response_format: ResponseFormat | None = None
    add_generation_prompt: bool | None = True
    chat_template_kwargs: Annotated[dict[str, Any], Field(max_length=LIMITS.template_arguments)] | None = None
    """Further values for the template, by name."""

    @model_validator(mode="after")
    def _fits(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs: only with logprobs = true")
        return self

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class TokenizeRequest(Body):
    """POST /tokenize."""

    prompt: str
    model: str | None = Field(None, max_length=512)
    add_special_tokens: bool | None = True
    """Whether <s> is put before the text, as it is for a prompt."""


class DetokenizeRequest(Body):
    """POST /detokenize."""

    tokens: Annotated[list[Token], Field(fail_fast=True)]
    model: str | None = Field(None, max_length=512)
