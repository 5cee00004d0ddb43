"""What the gateway says itself when a request cannot be answered: in the shape that its client parses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from supervisor_app.gateway.access.keys import Denied
from supervisor_app.gateway.http.heads import status_line
from supervisor_app.gateway.llama.sse import error_event

JSON_FIELDS = b"Content-Type: application/json; charset=utf-8\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error, in OpenAI's words: `type` is the family, `code` the exact kind."""

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    retry_after: int | None = None
    """Seconds."""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def error(self) -> dict[str, Any]:
        return {
            "message": self.message,
            "type": self.type,
            "param": None,
            "code": self.code,
            **self.more,
        }

    def beginning(self, origin: str = "") -> bytes:
        """Of the answer: its status line and fields."""
        retry = b"" if self.retry_after is None else b"Retry-After: %d\r\n" % self.retry_after
        return status_line(self.status) + JSON_FIELDS + retry + cors_fields(origin)

    def body(self, path: str) -> bytes:
        """The answer to a request for `path`; Anthropic's clients expect one word more."""
        marker = {"type": "error"} if path.endswith("/messages") else {}
        return msgspec.json.encode({**marker, "error": self.error})

    def event(self, path: str) -> bytes:
        """The same inside of a stream."""
        return error_event(self.error, path)


def cors_fields(origin: str) -> bytes:
    """What lets a page in a browser read our own answers; only for an origin that was let in."""
    if not origin:
        return b""
    return f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n".encode("latin-1")


def bad_request(message: str, *, status: int = 400, code: str = "bad_request") -> Problem:
    return Problem(status=status, code=code, message=message)


def denied(reason: Denied) -> Problem:
    return Problem(
        status=reason.status,
        code=reason.code,
        message=reason.message,
        type="rate_limit_error" if reason.status == 429 else "invalid_request_error",
        retry_after=reason.retry_after,
    )


def model_not_found(model: str, known: list[str], *, too_long: bool = False) -> Problem:
    """`too_long`: only the beginning of the body was read."""
    if model:
        message = f"The model {model!r} does not exist here."
    elif too_long:
        message = "Name a model: of so long a body, put `model` before what is long in it, or add `?model=`."
    else:
        message = "Name a model."
    message += f" There is: {', '.join(known)}." if known else " No server is configured yet."
    return Problem(status=404, code="model_not_found", message=message)


def _who_wait(number: int) -> str:
    return {0: "Nobody may wait", 1: "1 request waits"}.get(number, f"{number} requests wait")


def queue_full(name: str, waiting: int, retry_after: int) -> Problem:
    return Problem(
        status=429,
        code="queue_full",
        type="rate_limit_error",
        message=f"{_who_wait(waiting)} for {name}{' already' if waiting else ''}.",
        retry_after=retry_after,
    )


def unavailable(name: str, sentence: str, retry_after: int, *, code: str = "server_unavailable") -> Problem:
    """Hopeless, or too long: with the supervisor's own sentence."""
    return Problem(
        status=503,
        code=code,
        type="server_error",
        message=f"{name}: {sentence}",
        retry_after=retry_after,
    )


def upstream_crashed(name: str, reason: str, *, incident: str, tokens: int | None = None) -> Problem:
    """It died under this request. `tokens`: how many had been passed on."""
    more: dict[str, Any] = {"retryable": True, "incident": incident}
    if tokens is not None:
        more["tokens_so_far"] = tokens
    return Problem(
        status=502,
        code="upstream_crashed",
        type="upstream_crashed",
        message=f"{name} ended before its answer was whole: {reason}",
        more=more,
    )


def mistake() -> Problem:
    message = "This is a mistake in llamaproxy: the console says more."
    return Problem(status=500, code="internal_error", type="server_error", message=message)


def metrics_failed() -> Problem:
    message = "The metrics cannot be told: the console says why."
    return Problem(status=500, code="metrics_failed", type="server_error", message=message)


def quarantined(name: str, incident: str, seconds: int) -> Problem:
    return Problem(
        status=422,
        code="quarantined",
        message=f"{name} died each time it was asked this (incident {incident}), so it is not "
        f"asked again for {max(1, round(seconds / 60))} min. Change the request, or have it released on the "
        "server's page.",
        more={"incident": incident},
    )
