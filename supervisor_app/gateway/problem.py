"""An error of the gateway's own: whose fault it is, and its shape in each API that clients parse."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from supervisor_app.gateway.http.heads import status_line
from supervisor_app.gateway.llama.dialects import (
    Dialect,
    Stream,
    error_body,
    error_event,
    error_type,
)

EXPOSED = "Access-Control-Expose-Headers: Retry-After, X-Request-Id, X-Should-Retry\r\n"
"""Header fields that a page may read besides those that every page may."""
UNAUTHORIZED = 401
CHALLENGE = b'WWW-Authenticate: Bearer realm="llamaproxy"\r\n'
JSON_FIELDS = b"Content-Type: application/json; charset=utf-8\r\n"


class Side(StrEnum):
    """Origin of an error: the side that has to change something."""

    CLIENT = "client"
    """The request is wrong, not allowed, or more than its client may ask for."""
    GATEWAY = "gateway"
    """The gateway is out of room, being restarted, or has a bug."""
    SERVER = "server"
    """llama-server, or the supervision of llama-server, has failed the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error. `code` is our own name of the exact kind; `type`, its family, is a word of the API asked."""

    status: int
    code: str
    message: str
    fault: Side
    type: str = ""
    """The server's own type, which Anthropic's clients do not know; empty: the type in the API asked."""
    retry_after: int | None = None
    """Seconds."""
    retryable: bool | None = None
    """False: asking again does not help before a person has mended something. None: unknown, and not told."""
    more: dict[str, Any] = field(default_factory=dict)
    """Further fields of the JSON object."""

    def error(self, dialect: Dialect) -> dict[str, Any]:
        """The error as a JSON object of this API."""
        retry_helps = self.retry_after is not None if self.retryable is None else self.retryable
        said = {} if self.retryable is None else {"retryable": self.retryable}
        own = "" if dialect is Dialect.ANTHROPIC else self.type
        return {
            "message": self.message,
            "type": own or error_type(dialect, self.status, retry_helps=retry_helps),
            "param": None,
            "code": self.code,
            **said,
            **self.more,
        }

    def beginning(self, origin: str = "") -> bytes:
        """The status line and header fields of the answer; a page of `origin` may read the answer."""
        retry = b"" if self.retry_after is None else b"Retry-After: %d\r\n" % self.retry_after
        # The SDKs of OpenAI and Anthropic obey this field; without it they retry a 503 for minutes.
        never = b"X-Should-Retry: false\r\n" if self.retryable is False else b""
        asks = CHALLENGE if self.status == UNAUTHORIZED else b""
        return status_line(self.status) + JSON_FIELDS + retry + never + asks + cors_fields(origin)

    def body(self, dialect: Dialect) -> bytes:
        """The body of the answer, in the shape that clients of this API parse."""
        return error_body(dialect, self.error(dialect))

    def event(self, dialect: Dialect, stream: Stream) -> bytes:
        """The events that end a stream with this error."""
        return error_event(dialect, self.error(dialect), stream)


def cors_fields(origin: str) -> bytes:
    """Header fields that let a page of `origin`, which was let in, read our own answers; empty: none."""
    if not origin:
        return b""
    fields = f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n"
    return (fields + EXPOSED).encode("latin-1")
