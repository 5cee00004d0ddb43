"""The API that a path belongs to, and the words in which that API says what went wrong. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

_ANTHROPIC = re.compile(r"/messages(?:/|$)")
_RESPONSES = re.compile(r"/responses(?:/|$)")
_OPENAI = re.compile(r"(?:^|/)v1/|/chat/completions(?:/|$)|/models(?:/|$)|^$")
_OWN = re.compile(r"/v1/(?:health|stream|streams|systemone)(?:/|$)|/models/(?:load|unload|sse)$")


class Dialect(StrEnum):
    """An API whose clients parse errors in a shape of their own."""

    OPENAI = "openai"
    RESPONSES = "responses"
    """OpenAI's second API: the same words, other streams."""
    ANTHROPIC = "anthropic"
    LLAMA = "llama"
    """llama-server's own."""


def dialect_of(path: str) -> Dialect:
    """`--api-prefix` may put something before the path."""
    if _ANTHROPIC.search(path):
        return Dialect.ANTHROPIC
    if _RESPONSES.search(path):
        return Dialect.RESPONSES
    return Dialect.OPENAI if _OPENAI.search(path) and not _OWN.search(path) else Dialect.LLAMA


_OPENAI_WORDS = {429: "rate_limit_error"}
_LLAMA_WORDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    501: "not_supported_error",
    503: "unavailable_error",
}
_ANTHROPIC_WORDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


def error_type(dialect: Dialect, status: int, *, retry_helps: bool) -> str:
    """The `type` that clients of this API know for such an error.

    `retry_helps`: several clients of Anthropic's API send a request again for this word alone.
    """
    if dialect is Dialect.ANTHROPIC:
        server_word = "overloaded_error" if retry_helps else "api_error"
        words = _ANTHROPIC_WORDS
    else:
        server_word = "server_error"
        words = _LLAMA_WORDS if dialect is Dialect.LLAMA else _OPENAI_WORDS
    return words.get(status) or (server_word if status >= 500 else "invalid_request_error")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Facts about a stream that has to end with an error."""

    beginning: bytes = b""
    end: bytes = b""
    """End of the stream. Beginning and end as far as they were kept."""
    model: str = ""
    asked_at: float = 0.0
    """Unix seconds."""


def id_fields(dialect: Dialect, request_id: str) -> bytes:
    """The header lines that name a request; Anthropic's clients look for a name of their own."""
    line = f"X-Request-Id: {request_id}\r\n"
    return (f"{line}Request-Id: {request_id}\r\n" if dialect is Dialect.ANTHROPIC else line).encode("latin-1")


def error_body(dialect: Dialect, error: Mapping[str, object]) -> bytes:
    """The answer with this error; `error` has at least `message`, `type` and `code`."""
    return msgspec.json.encode(_enveloped(dialect, error))


def error_event(dialect: Dialect, error: Mapping[str, object], stream: Stream) -> bytes:
    """The events with which a stream ends in this error."""
    if dialect is Dialect.RESPONSES:
        number = _next_number(stream.end)
        failed = {"response": _failed_response(error, stream), "sequence_number": number}
        # The specification wants the fields beside `type`; OpenAI's clients raise for `error`.
        fields = {key: error.get(key) for key in ("code", "message", "param")}
        told = {**fields, "sequence_number": number + 1, "error": error}
        return _event({"type": "response.failed", **failed}, name=b"response.failed") + _event(
            {"type": "error", **told}, name=b"error"
        )
    return _event(_enveloped(dialect, error), name=b"error" if dialect is Dialect.ANTHROPIC else b"")


def _enveloped(dialect: Dialect, error: Mapping[str, object]) -> dict[str, object]:
    return {"type": "error", "error": error} if dialect is Dialect.ANTHROPIC else {"error": error}


_RESPONSE_ID = re.compile(rb'"id": ?"(resp_[\w-]+)"')
_NUMBER = re.compile(rb'"sequence_number": ?(\d{1,15})\b')


def _failed_response(error: Mapping[str, object], stream: Stream) -> dict[str, Any]:
    """The response that had begun, as it ended; its code is one that the API knows."""
    found = _RESPONSE_ID.search(stream.beginning)
    return {
        "id": found[1].decode() if found else "resp_unknown",
        "object": "response",
        "created_at": int(stream.asked_at),
        "status": "failed",
        "error": {"code": "server_error", "message": error.get("message", "")},
        "incomplete_details": None,
        "model": stream.model,
        "output": [],
        "usage": None,
    }


def _next_number(end: bytes) -> int:
    """llama-server does not number its events; a server that does is continued."""
    numbers = _NUMBER.findall(end)
    return int(numbers[-1]) + 1 if numbers else 0


def _event(data: Mapping[str, object], name: bytes = b"") -> bytes:
    head = b"event: %s\n" % name if name else b""
    return b"%sdata: %s\n\n" % (head, msgspec.json.encode(data))
