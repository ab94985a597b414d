"""Every limit of the server in one frozen record: what one request, one connection and all of them together may take.

Each is a number, and each has an answer that names it: 400 for a value that is too large, 413 for a body, 429 when the
queue is full, 503 when there are too many connections. docs/serve.md shows this record as a table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken at most; times in seconds. Bounds of single fields stand in the OpenAPI document, and are those of
    `LIMITS` whatever a server is given."""

    body_bytes: int = 2 << 20
    """Bytes of a request's body; 413."""
    header_bytes: int = 16 << 10
    """Bytes of a request's line and headers; 431."""
    prompts: int = 128
    """Prompts of a completion; 400."""
    choices: int = 128
    """Prompts times `n`; 400."""
    n: int = 16
    """Continuations of each prompt; 400."""
    max_tokens: int = 8192
    """Tokens of a continuation, besides what the model's context has room for; 400."""
    logprobs: int = 20
    """Alternatives shown of each token; 400."""
    scored: int = 1 << 18
    """Numbers of a reply's logprobs: tokens, those of an echoed prompt too, times (1 + alternatives); 400."""
    stops: int = 16
    """Stop strings; 400."""
    stop_characters: int = 256
    """Characters of one of them; 400."""
    messages: int = 1024
    """Messages of a chat; 400."""
    template_arguments: int = 16
    """Values handed to a chat template besides the messages; 400."""
    queue: int = 256
    """Choices that are decoded or wait for it, of all requests together; 429."""
    connections: int = 256
    """Open connections; 503."""
    seconds: float = 600.0
    """From a request's arrival to its last token; then it ends with the error `timeout`."""
    header_seconds: float = 10.0
    """For a request's headers to arrive whole on a new connection; then it is closed."""
    body_seconds: float = 30.0
    """For a request's body; 408."""
    reader_seconds: float = 20.0
    """For a reader to make room for the next piece of a reply; then its request is dropped and its connection cut."""
    unread_events: int = 1024
    """Pieces made for a reader that it has not taken, besides `wire_bytes`; one more, and its request is dropped."""
    wire_bytes: int = 256 << 10
    """That the system keeps for a connection whose reader is behind (Linux takes twice that)."""
    idle_seconds: float = 30.0
    """That a connection without a request stays open."""
    shutdown_seconds: float = 20.0
    """For requests under way to end after SIGTERM or SIGINT; then they end with the error `shutting_down`."""
    key_characters: int = 16
    """Characters that a key must have at least."""


LIMITS = Limits()
