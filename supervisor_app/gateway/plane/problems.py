"""What the gateway says itself when a request cannot be answered: in the shape that its client parses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.keys import Denied
from supervisor_app.gateway.http.heads import status_line
from supervisor_app.gateway.llama.dialects import (
    Dialect,
    Stream,
    error_body,
    error_event,
    error_type,
)
from supervisor_app.gateway.llama.hints import UNREADABLE
from supervisor_app.gateway.llama.nesting import DEEPEST
from supervisor_app.gateway.servers.facts import HOST_SILENT, ServerFacts

EXPOSED = "Access-Control-Expose-Headers: Retry-After, X-Request-Id, X-Should-Retry\r\n"
"""What a page may read besides what every page may."""
UNAUTHORIZED = 401
CHALLENGE = b'WWW-Authenticate: Bearer realm="llamaproxy"\r\n'
JSON_FIELDS = b"Content-Type: application/json; charset=utf-8\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One error. `code` is ours and says the exact kind; `type`, its family, is a word of the API asked."""

    status: int
    code: str
    message: str
    type: str = ""
    """The server's own word for it, which Anthropic's clients do not know; empty: that of the API asked."""
    retry_after: int | None = None
    """Seconds."""
    retryable: bool | None = None
    """False: asking again does not help before a person has mended something. None: nothing is said of it."""
    more: dict[str, Any] = field(default_factory=dict)

    def error(self, dialect: Dialect) -> dict[str, Any]:
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
        """The status line and header fields of the answer."""
        retry = b"" if self.retry_after is None else b"Retry-After: %d\r\n" % self.retry_after
        # The SDKs of OpenAI and Anthropic obey it; without it they try a 503 again for minutes.
        never = b"X-Should-Retry: false\r\n" if self.retryable is False else b""
        asks = CHALLENGE if self.status == UNAUTHORIZED else b""
        return status_line(self.status) + JSON_FIELDS + retry + never + asks + cors_fields(origin)

    def body(self, dialect: Dialect) -> bytes:
        """The answer, in the shape that clients of this API parse."""
        return error_body(dialect, self.error(dialect))

    def event(self, dialect: Dialect, stream: Stream) -> bytes:
        """The same at the end of a stream."""
        return error_event(dialect, self.error(dialect), stream)


def cors_fields(origin: str) -> bytes:
    """What lets a page in a browser read our own answers; only for an origin that was let in."""
    if not origin:
        return b""
    fields = f"Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n"
    return (fields + EXPOSED).encode("latin-1")


def bad_request(message: str, *, status: int = 400, code: str = "bad_request") -> Problem:
    return Problem(status=status, code=code, message=message)


def restarting() -> Problem:
    return Problem(
        status=503,
        code="gateway_stopping",
        message="The gateway is being restarted. Ask again.",
        retry_after=1,
        retryable=True,
    )


def body_too_large() -> Problem:
    return bad_request("The body is too large.", status=413, code="body_too_large")


def too_deep() -> Problem:
    return bad_request(
        f"The JSON of this request is nested deeper than {DEEPEST} levels, which can crash llama-server. "
        "Flatten it, a JSON schema by $ref.",
        code="nested_too_deep",
    )


def denied(reason: Denied) -> Problem:
    return Problem(
        status=reason.status,
        code=reason.code,
        message=reason.message,
        retry_after=reason.retry_after,
    )


def model_not_found(model: str, known: list[str]) -> Problem:
    message = f"The model {model!r} does not exist here." if model else "Name a model."
    message += f" There is: {', '.join(known)}." if known else " No server is configured yet."
    return Problem(status=404, code="model_not_found", message=message)


def no_room() -> Problem:
    return Problem(
        status=503,
        code="server_unavailable",
        message="There is no room to keep so long a body until its `model` is known. Put `model` before what "
        "is long in it, add `?model=`, or ask again later.",
        retry_after=5,
    )


def _who_wait(number: int) -> str:
    return {0: "Nobody may wait", 1: "1 request waits"}.get(number, f"{number} requests wait")


def queue_full(name: str, waiting: int, retry_after: int) -> Problem:
    return Problem(
        status=429,
        code="queue_full",
        message=f"{_who_wait(waiting)} for {name}{' already' if waiting else ''}.",
        retry_after=retry_after,
    )


def not_isolated(name: str, reason: str) -> Problem:
    return Problem(
        status=403,
        code="cache_not_isolated",
        message=f"An API key isolates its prompts at {name}, so nobody is served from the cache there. "
        f"{reason}. Ask another path, or another server, or start this one with --no-cache-prompt.",
    )


def too_many_connections() -> Problem:
    return Problem(
        status=429,
        code="too_many_connections",
        message="So many connections of this client are open that others would find none. Use each again "
        "instead of opening a new one.",
        retry_after=1,
    )


def unavailable(facts: ServerFacts, retry_after: int, *, lasting: bool) -> Problem:
    """Waiting is hopeless: with the supervisor's own sentence. `lasting`: only a person can end it."""
    return Problem(
        status=503,
        code="server_unavailable",
        message=f"{facts.name}: {facts.why_hopeless}",
        retry_after=retry_after,
        retryable=False if lasting else None,
    )


def not_ready(facts: ServerFacts, retry_after: int, *, to_strangers: bool) -> Problem:
    message = "The server is not ready." if to_strangers else f"{facts.name}: {facts.detail}"
    return Problem(status=503, code="server_unavailable", message=message, retry_after=retry_after)


def hold_timeout(facts: ServerFacts, retry_after: int) -> Problem:
    """The request has waited for as long as it may."""
    message = f"{facts.name}: Not ready within {facts.hold_seconds:g} s. {facts.detail}"
    return Problem(status=503, code="hold_timeout", message=message, retry_after=retry_after)


def upstream_crashed(
    facts: ServerFacts,
    reason: str,
    *,
    incident: str,
    tokens: int | None = None,
    lives: bool = False,
    done_perhaps: bool = False,
) -> Problem:
    """The server died under this request. `tokens`: how many had been passed on; `lives`: it did not die.

    `done_perhaps`: the request changes something, and nobody knows whether it did so before the server died.
    """
    more: dict[str, Any] = {"incident": incident}
    if tokens is not None:
        more["tokens_so_far"] = tokens
    if done_perhaps:
        what = "died while answering. It may have done what was asked, so look before you send it again"
    elif lives:
        what = "broke off while answering: send it again"
    elif facts.away or reason == HOST_SILENT:
        what = "was lost with its host while answering: send it again"
    elif facts.hopeless:
        what = "ended while answering and is not being restarted"
    else:
        verb = "was stopped" if facts.status is Status.STOPPING else "died"
        what = f"{verb} while answering and is being restarted: send it again"
    return Problem(
        status=502,
        code="upstream_crashed",
        message=f"{facts.name} {what}. It ended before its answer was whole: {reason.rstrip('.')}.",
        retryable=not done_perhaps and (lives or not facts.hopeless),
        more=more,
    )


def upstream_error(status: int, content: bytes) -> Problem:
    """What the server answered to a client that was told 200 while it waited: `content` is all of it."""
    message = f"The server answered {status}."
    problem = Problem(status=status if status >= 400 else 502, code="upstream_error", message=message)
    try:
        told = msgspec.json.decode(content)["error"]
        message, kind = told.pop("message"), told.pop("type", "")
    except (*UNREADABLE, KeyError, TypeError, AttributeError):
        return problem
    more = {key: value for key, value in told.items() if key not in ("code", "param", "retryable")}
    return replace(problem, message=str(message), type=kind if isinstance(kind, str) else "", more=more)


def mistake() -> Problem:
    message = "This is a mistake in llamaproxy: the console says more."
    return Problem(status=500, code="internal_error", message=message)


def metrics_failed() -> Problem:
    message = "The metrics cannot be told: the console says why."
    return Problem(status=500, code="metrics_failed", message=message)


def quarantined(name: str, incident: str, seconds: int) -> Problem:
    return Problem(
        status=422,
        code="quarantined",
        message=f"{name} died each time it was asked this (incident {incident}), so it is not "
        f"asked again for {max(1, round(seconds / 60))} min. Change the request, or have it released on the "
        "server's page.",
        more={"incident": incident},
    )
