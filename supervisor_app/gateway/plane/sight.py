"""Requests in flight as people see them. Called once a second, never on the way of a request."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec

from supervisor_app.core.status import Status
from supervisor_app.gateway.llama.hints import UNREADABLE
from supervisor_app.gateway.plane.stages import Stage
from supervisor_app.gateway.records.in_flight import InFlight, Phase, ServerCounts, Sight
from supervisor_app.gateway.records.record import LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from supervisor_app.gateway.access.keys import KeyPolicy
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.plane.body import RequestBody
    from supervisor_app.gateway.plane.live import LiveRequest
    from supervisor_app.gateway.plane.notes import Notes
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.visit import Visit

MOST = 200
"""Requests of one sight: about 60 kB."""
LONGEST_AGENT = 60
_PROGRESS = b'"prompt_progress":'
_LARGEST_PROGRESS = 200
"""Bytes."""


class _Progress(msgspec.Struct):
    total: Annotated[int, msgspec.Meta(gt=0)]
    processed: Annotated[int, msgspec.Meta(ge=0)]


_decode = msgspec.json.Decoder(_Progress).decode


class Seen(Protocol):
    """An exchange, as far as people see it."""

    id: str
    policy: KeyPolicy | None
    stage: Stage
    notes: Notes

    @property
    def client_address(self) -> str: ...

    @property
    def head(self) -> RequestHead: ...

    @property
    def body(self) -> RequestBody: ...


def sight_of(requests: Collection[LiveRequest], backends: Iterable[Backend], most: int = MOST) -> Sight:
    """See all requests in flight, the oldest one by one."""
    counts = {
        backend.facts.name: ServerCounts(len(gate.inside) + len(gate.beside), len(gate.waiting))
        for backend in backends
        if (gate := backend.gate).inside or gate.beside or gate.waiting
    }
    oldest = heapq.nsmallest(most, requests, key=lambda request: request.arrival)
    seen = [shown for request in oldest if (shown := request.in_flight()) is not None]
    return Sight(counts=counts, requests=seen, total=len(requests) - len(oldest) + len(seen))


def in_flight(request: Seen, visit: Visit | None) -> InFlight | None:
    """See one request; None: the gateway makes the answer itself."""
    if request.stage in (Stage.OWN, Stage.OVER):
        return None
    backend = None if visit is None else visit.backend
    phase, tokens, prefill = _progress(request.stage, visit)
    return InFlight(
        id=request.id,
        at=request.notes.at,
        phase=phase,
        server=request.notes.server if backend is None else backend.facts.name,
        model="" if backend is None else (request.body.hints.model or "")[:LONGEST_NAME],
        key=request.policy.name if request.policy is not None else "",
        client=client_of(request.client_address, request.head),
        route=request.head.path[:LONGEST_NAME],
        tokens=tokens,
        prefill=prefill,
    )


def client_of(address: str, head: RequestHead) -> str:
    """Return `192.168.1.5 curl/8.5.0`."""
    agent = head.forwarded_text(b"user-agent")[:LONGEST_AGENT]
    return f"{address or 'this host'} {agent}".strip()


def _progress(stage: Stage, visit: Visit | None) -> tuple[Phase, int | None, float | None]:
    """The phase, the tokens that came, and the share of the prompt that is read."""
    if visit is None or stage in (Stage.HEAD, Stage.DOOR, Stage.ROUTE):
        return Phase.ARRIVING, None, None
    if stage in (Stage.GATE, Stage.LOST):
        return _waits_for(visit.backend), None, None
    tokens = visit.tokens
    if tokens is None:
        return Phase.SENT, None, None
    if (share := prefill_of(visit.tail)) is not None:
        return Phase.PREFILL, None, share
    begun = tokens or stage is Stage.COMMIT
    return (Phase.GENERATING, tokens, None) if begun else (Phase.PREFILL, None, None)


def _waits_for(backend: Backend) -> Phase:
    if backend.facts.status is Status.STARTING:
        return Phase.LOADING
    return Phase.QUEUED if backend.gate.is_open else Phase.HELD


def prefill_of(tail: Iterable[bytes]) -> float | None:
    """The share that the last event of a stream tells, for clients that ask with `return_progress`."""
    last = b"".join([*tail][-1:])
    at = last.rfind(_PROGRESS)
    if at < 0:
        return None
    told = last[at + len(_PROGRESS) : at + len(_PROGRESS) + _LARGEST_PROGRESS].partition(b"}")[0] + b"}"
    try:
        progress = _decode(told)
    except UNREADABLE:
        return None
    return min(1.0, progress.processed / progress.total)
