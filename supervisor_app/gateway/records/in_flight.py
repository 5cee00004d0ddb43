"""A request in flight as people see it at one moment: names and numbers, never its words."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Phase(StrEnum):
    """Progress of a request, in the order of its way."""

    ARRIVING = "arriving"
    """The body comes."""
    HELD = "held"
    """The server is down; the request waits until the server is back."""
    LOADING = "loading"
    """The server is starting."""
    QUEUED = "queued"
    """The server works on as many requests as it takes."""
    SENT = "sent"
    """The server computes, and says nothing before the answer is whole."""
    PREFILL = "prefill"
    """The server reads the prompt."""
    GENERATING = "generating"


WAITING = frozenset({Phase.HELD, Phase.LOADING, Phase.QUEUED})


class InFlight(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """A request in flight. Empty texts are not known yet."""

    id: str
    """The name in the client's `X-Request-Id`."""
    at: float
    """Unix seconds at which the head had arrived."""
    phase: Phase
    server: str = ""
    model: str = ""
    """Model as the client named it."""
    key: str = ""
    """Name of the API key."""
    client: str = ""
    """Address of the client, and its program as that calls itself."""
    route: str = ""
    tokens: int | None = None
    """Tokens that came; None: the answer does not tell before its end."""
    tokens_per_second: float | None = None
    prefill: float | None = None
    """Share of the prompt that is read, 0 to 1; None: the server does not say."""


class ServerCounts(msgspec.Struct, gc=False, array_like=True):
    """Requests of one gateway in flight for one server."""

    inside: int = 0
    waiting: int = 0
    tokens_per_second: float | None = None
    """Sum over the answers that grow; None: none does."""


class Sight(msgspec.Struct, kw_only=True, gc=False):
    """All that one gateway has in flight."""

    counts: dict[str, ServerCounts]
    """Counts by server; those without requests are left out."""
    requests: list[InFlight]
    """The oldest of them."""
    total: int
    """Number of all."""


def with_speeds(sight: Sight, before: Mapping[str, int], seconds: float) -> Sight:
    """Add to the sight itself how fast answers grow.

    `before`: tokens by request, `seconds` ago; those that are new have no speed yet.
    """
    for request in sight.requests:
        known = before.get(request.id)
        if known is None or request.tokens is None or request.phase is not Phase.GENERATING or seconds <= 0:
            continue
        speed = max(0, request.tokens - known) / seconds
        request.tokens_per_second = round(speed, 1)
        count = sight.counts.get(request.server)
        if count is not None:
            count.tokens_per_second = round((count.tokens_per_second or 0.0) + speed, 1)
    return sight


def tokens_of(requests: Iterable[InFlight]) -> dict[str, int]:
    """The tokens of each answer that grows, by request."""
    return {request.id: request.tokens for request in requests if request.tokens is not None}
