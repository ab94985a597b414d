"""What is answered when a request is not done: OpenAI's error object, with a reason that a person can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from puna.errors import InputError

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
CODES = {401: "invalid_api_key", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 408: "timeout"} | {
    413: "body_too_large",
    415: "not_json",
    429: "queue_full",
    503: "shutting_down",
    504: "timeout",
}
SHOWN = 400  # characters of a message at most: it may quote what was sent


class Refusal(Exception):
    """A request that is not done. status: of HTTP. param: the field at fault. retry: seconds to wait."""

    def __init__(
        self, status: int, message: str, *, param: str | None = None, code: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.retry = status, retry
        # Both may quote what was sent, and JSON can send halves of characters, which cannot be sent back.
        self.message = message.encode(errors="replace").decode()
        self.param = param and param.encode(errors="replace").decode()
        self.code = code or CODES.get(status)

    def body(self) -> dict[str, Any]:
        """The object that a client reads, alone in a reply or in the middle of a stream."""
        kind = KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        message = self.message if len(self.message) <= SHOWN else self.message[: SHOWN - 1] + "…"
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        headers = {} if self.retry is None else {"Retry-After": str(self.retry)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body(), self.status, headers)


async def refused(request: Request, error: Exception) -> JSONResponse:
    """For FastAPI: whatever it or a route raises, in the one shape."""
    if isinstance(error, Refusal):
        return error.response()
    if isinstance(error, InputError):
        return Refusal(400, str(error)).response()
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors()).response()
    if isinstance(error, HTTPException):
        reply = Refusal(error.status_code, f"{request.method} {request.url.path}: {error.detail}").response()
        reply.headers.update(error.headers or {})
        return reply
    return Refusal(500, "the server failed at this request; its log says where", code="internal").response()


def _invalid(errors: Sequence[Mapping[str, Any]]) -> Refusal:
    """The first thing that is wrong with a body, by the name of its field."""
    first = _nearest(errors)
    place = [part for part in first["loc"] if part != "body"]
    # The parts behind the field's name are pydantic's words for the members of a union.
    param = str(place[0]) if place and isinstance(place[0], str) else None
    kind, message = first["type"], str(first["msg"])
    if kind == "json_invalid" or (kind == "missing" and not place):
        why = first.get("ctx", {}).get("error", "")
        return Refusal(400, f"the body is not JSON{f': {why}' if why else ''}", code="not_json")
    if kind == "extra_forbidden":
        return Refusal(400, f"{param}: no such field", param=param, code="unknown_field")
    if kind == "missing":
        return Refusal(400, f"{param}: is missing", param=param)
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if param is None:  # what is wrong with several fields together begins with the name of the one to change
        head, colon, _ = message.partition(": ")
        return Refusal(400, message, param=head if colon and head.isidentifier() else None)
    return Refusal(400, f"{param}: {message}", param=param)


def _nearest(errors: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of what each member of a union says, the complaint of the one that fitted best: one about more than the type, and
    of those the one from farthest inside."""
    field = errors[0]["loc"][:2]
    same = [each for each in errors if each["loc"][:2] == field]
    return max(same, key=lambda each: (not str(each["type"]).endswith("_type"), len(each["loc"])))
