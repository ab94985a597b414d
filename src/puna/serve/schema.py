"""The OpenAPI document at /openapi.json: what FastAPI knows of the routes, and the refusals that it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel


class Problem(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class Refused(BaseModel):
    """OpenAI's error object."""

    error: Problem


_WHY = {
    400: "The request makes no sense, or asks for more than a limit; the message says which.",
    401: "The server wants its key.",
    403: "The host or the page that asks is not known.",
    404: "There is no such model.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body does not say that it is JSON.",
    429: "The queue is full; Retry-After says when to ask again.",
    500: "Decoding failed.",
    503: "The server is shutting down.",
    504: "Not done in time.",
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": why} for status, why in _WHY.items()
}


def good(model: type[BaseModel], *, streamed: bool = False) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: what is answered when all is well. streamed: or pieces of it as events, and [DONE]."""
    if not streamed:
        return {200: {"model": model}}
    description = "The whole answer; with stream = true, pieces of it as events, and [DONE]."
    return {
        200: {
            "model": model,
            "description": description,
            "content": {"text/event-stream": {"schema": {}}},
        }
    }


def described(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """For `app.openapi`: its document without the status 422, which is 400 here."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        return document

    return openapi
