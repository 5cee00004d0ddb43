"""The record of a request: numbers and names, never its words."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING

import msgspec

from supervisor_app.gateway.llama.usage import NO_USAGE, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_NAME = 200
"""Characters kept of the name of a model, of a route or of a run."""


class Outcome(StrEnum):
    """End of a request, as its client saw it."""

    OK = "ok"
    HELD = "held"
    """Answered whole, after it had waited for its server."""
    REPLAYED = "replayed"
    """Answered whole, after a server had died under it."""
    CLIENT_LEFT = "client_left"
    """The client hung up, or had its stream ended by another request of the conversation."""
    REFUSED = "refused"
    """Refused at the door: bad framing, key, model, limit. The status says which."""
    UPSTREAM_ERROR = "upstream_error"
    """The server answered with an error, or ended its stream with one, which was passed on."""
    UPSTREAM_CRASHED = "upstream_crashed"
    """The server died after the first byte of content, or too often before it."""
    UNAVAILABLE = "unavailable"
    """Waiting was hopeless, or took too long, or too many waited."""
    QUARANTINED = "quarantined"
    """The request has killed its server before."""
    CANCELLED = "cancelled"
    """Somebody of the staff ended the request."""


NOT_ANSWERED = frozenset({Outcome.UPSTREAM_CRASHED, Outcome.UNAVAILABLE})
ERRORS, FAULTS = 400, 500
"""First statuses of errors, and of errors that are not the client's fault."""


def request_ids(mark: str) -> Iterator[str]:
    """Yield names for requests; `mark` distinguishes this gateway's names from those of all others."""
    return (f"req_{mark}_{number}" for number in count(1))


class Record(msgspec.Struct, kw_only=True, gc=False):
    """Record of a request. Times in milliseconds, except `at`."""

    at: float
    """Unix seconds at which the head had arrived."""
    server: str
    """Empty when the request was refused before it had a server."""
    model: str
    """Model as the client named it; may be empty."""
    key: int | None
    """Primary key of the `ApiKey`."""
    method: str
    route: str
    """Path without query, `/v1/chat/completions`."""
    status: int
    """Status of the answer, or of the error with which a stream ended; 0 when the client left before."""
    outcome: Outcome
    streamed: bool = False
    held_ms: float = 0.0
    """Waiting for the server, its queue included."""
    room_ms: float = 0.0
    """Part of `held_ms` in which its server waited for room in memory."""
    load_ms: float = 0.0
    """Part of `held_ms` in which its server loaded."""
    ttft_ms: float | None = None
    """Time from the head of the request to the first byte of content."""
    duration_ms: float = 0.0
    replays: int = 0
    usage: Usage = NO_USAGE
    counts_as_use: bool = True
    """True of a request about the model, during which the server was not idle. Not written down."""
    id: str = ""
    """The name in the client's `X-Request-Id`."""
    model_id: str = ""
    """Id of the model that was used, whatever its client calls it; empty: none was. For the sums of days."""
    run_name: str = ""
    """Name of the run whose crash the request was in, as in the client's error."""
    captured_request: str | None = None
    """Body of the request, only for keys that ask for it; bounded."""
    captured_answer: str | None = None
    captured_request_head: str | None = None
    """Request line and fields, secrets included: who writes them down takes those out."""
    captured_answer_head: str | None = None
    is_kept: bool = True
    """False: the request is counted only; strangers could make rows of these without end."""

    @property
    def failed(self) -> bool:
        """Did the request meet an error of 500 or more, also in a stream after its 200?"""
        told_in_stream = self.status < ERRORS and self.outcome in NOT_ANSWERED
        return self.status >= FAULTS or told_in_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineEntry:
    """A request that is not to be sent to a server again for a while."""

    server: str
    body_hash: str
    """Hexadecimal."""
    run_name: str
    """Name of the run that crashed, as in the client's error."""
    reason: str
    """Why the server ended, as a sentence."""
    at: float
    """Unix seconds, as `until`."""
    until: float
    key: int | None = None
    """Primary key of the `ApiKey` that the request was sent with."""
    deaths: tuple[tuple[str, int], ...] = ()
    """The processes that died of the request: name of the server and pid of each."""
