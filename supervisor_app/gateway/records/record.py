"""What is kept of each request: numbers and names, never its words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import count

import msgspec

from supervisor_app.gateway.llama.usage import NO_USAGE, Usage

LONGEST_NAME = 200
"""Characters that are kept of a model, a route or an incident."""


class Outcome(StrEnum):
    """How a request came to its end, as its client saw it."""

    OK = "ok"
    HELD = "held"
    """Answered whole, after it had waited for its server."""
    REPLAYED = "replayed"
    """Answered whole, after a server had died under it."""
    CLIENT_LEFT = "client_left"
    """The client hung up, or had its stream ended by another request of the conversation."""
    REFUSED = "refused"
    """Not let in: bad framing, key, model, limit. The status says which."""
    UPSTREAM_ERROR = "upstream_error"
    """The server answered with an error, which was passed on."""
    UPSTREAM_CRASHED = "upstream_crashed"
    """The server died after the first byte of content, or too often before it."""
    UNAVAILABLE = "unavailable"
    """Waiting was hopeless, or took too long, or too many waited."""
    QUARANTINED = "quarantined"
    """It has killed its server before."""


NOT_ANSWERED = frozenset({Outcome.UPSTREAM_CRASHED, Outcome.UNAVAILABLE})
ERRORS, FAULTS = 400, 500
"""Statuses: from here on somebody did something wrong, and from here on it was not the client."""


def request_ids(mark: str) -> Iterator[str]:
    """Names for requests; `mark` tells this gateway's from those of all others."""
    return (f"req_{mark}_{number}" for number in count(1))


class Record(msgspec.Struct, kw_only=True, gc=False):
    """One request. Times in milliseconds, except `at`."""

    at: float
    """Unix seconds at which its head had come."""
    server: str
    """Empty when it was refused before it had one."""
    model: str
    """As the client named it; may be empty."""
    key: int | None
    """Primary key of the `ApiKey`."""
    method: str
    route: str
    """Path without query, `/v1/chat/completions`."""
    status: int
    """What the client got; 0 when it left before."""
    outcome: Outcome
    streamed: bool = False
    held_ms: float = 0.0
    """Waiting for the server, its queue included."""
    ttft_ms: float | None = None
    """From the head of the request to the first byte of content."""
    duration_ms: float = 0.0
    replays: int = 0
    usage: Usage = NO_USAGE
    counts_as_use: bool = True
    """True of a request about the model: its server was not idle. Not written down."""
    id: str = ""
    """The name that its client was told in `X-Request-Id`."""
    incident: str = ""
    """Names the crash it was in, as its client was told."""
    captured_request: str | None = None
    """Only for keys that ask for it; bounded."""
    captured_answer: str | None = None
    is_kept: bool = True
    """False: it is counted, and no row is written. Strangers could write as many as they like."""

    @property
    def failed(self) -> bool:
        """Did it meet an error of 500 or more, also one that a stream was told after its 200?"""
        told_in_stream = self.status < ERRORS and self.outcome in NOT_ANSWERED
        return self.status >= FAULTS or told_in_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineEntry:
    """A request that is not to be sent to its server again for a while."""

    server: str
    body_hash: str
    """Hexadecimal."""
    incident: str
    """Names the crash, as its client was told."""
    reason: str
    """One sentence."""
    at: float
    """Unix seconds, as `until`."""
    until: float
    key: int | None = None
    """Primary key of the `ApiKey` that it was sent with."""
    deaths: tuple[tuple[str, int], ...] = ()
    """The processes that died of it: the name of the server and the pid of each."""
