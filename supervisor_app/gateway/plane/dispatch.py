"""The way of a request to its server: which may answer it, which one does, and the reasons why none may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from supervisor_app.gateway import problems
from supervisor_app.gateway.access.door import NotAllowedError
from supervisor_app.gateway.access.keys import Denied, KeyPolicy
from supervisor_app.gateway.llama.operations import About
from supervisor_app.gateway.plane.notes import Noted
from supervisor_app.gateway.plane.preset import Changed, change_by_preset
from supervisor_app.gateway.problem import JSON_FIELDS, Problem, cors_fields
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers import refusals
from supervisor_app.gateway.servers.gate import QueueFullError
from supervisor_app.gateway.servers.streams import done_by_one_of, holder_of, streams_of_all

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence

    from supervisor_app.gateway.llama.hints import Hints
    from supervisor_app.gateway.plane.answer import Answer
    from supervisor_app.gateway.plane.inquest import Inquest
    from supervisor_app.gateway.plane.notes import Notes
    from supervisor_app.gateway.plane.outside import Outside
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.suspects import Suspicion


class Directory(Protocol):
    """The servers of a gateway, and what it knows of requests that came before."""

    all: tuple[Backend, ...]
    takes_any_name: bool
    inquest: Inquest
    outside: Outside
    backends: dict[str, Backend]
    presets: Mapping[str, str]
    """Name of a preset -> its server."""

    def wall_time(self) -> float: ...

    def candidates(self, model: str | None) -> Sequence[Backend]: ...

    def allowed(
        self, policy: KeyPolicy | None, hints: Hints, candidates: Sequence[Backend]
    ) -> Sequence[Backend]: ...

    def choose(self, candidates: Sequence[Backend], session: str, body: bytes) -> Backend: ...

    def wake(self, backend: Backend) -> None: ...

    def stop_waiting(self, conversation: str, policy: KeyPolicy | None) -> None: ...

    @property
    def may_hear_of_models(self) -> bool: ...


class Guest(Protocol):
    """A visit that was made for a request."""

    def enter(self) -> None:
        """Go to the server, or into its queue. Raises QueueFullError."""


class Routed(Noted, Changed, Protocol):
    """A request whose body says where it goes."""

    notes: Notes
    is_public: bool
    suspicion: Suspicion | None

    @property
    def answer(self) -> Answer: ...

    @property
    def is_over(self) -> bool: ...

    def visit(self, backend: Backend) -> Guest:
        """Make a visit to this server."""

    def do(self, work: Coroutine[Any, Any, None]) -> None:
        """Do what takes time before the request can go on."""

    def answer_ourselves(self, status: int, fields: bytes, content: bytes) -> None:
        """End the request with an answer of the gateway's own."""

    def refuse(self, problem: Problem, outcome: Outcome = ...) -> None: ...


def dispatch(gateway: Directory, exchange: Routed, *, asked_around: bool = False) -> None:
    """Find a server for a request. `asked_around`: servers were just asked for their models."""
    if complaint := _complaint(gateway, exchange):
        exchange.refuse(problems.bad_request(complaint))
        return
    try:
        candidates = _candidates(gateway, exchange)
    except Denied as denied:
        exchange.refuse(problems.denied(denied))
        return
    except NotAllowedError as error:
        if asked_around or not gateway.may_hear_of_models:
            exchange.refuse(error.problem)
        else:
            exchange.do(_ask_around(gateway, exchange))
        return
    head, policy = exchange.head, exchange.policy
    if head.method == "DELETE" and head.conversation:
        gateway.stop_waiting(head.conversation, policy)
    if head.asks_for_streams and (len(candidates) > 1 or policy is not None):
        exchange.do(_go_to_streams(gateway, exchange, candidates))
    else:
        _go_on(gateway, exchange, candidates)


def _complaint(gateway: Directory, exchange: Routed) -> str:
    """A fault of the body that keeps it from saying where the request goes; empty: there is none."""
    head, body = exchange.head, exchange.body
    decides = len(gateway.all) > 1 and head.method == "POST" and not head.operation.relays
    return body.fault() if decides and not body.hints.model else ""


def _candidates(gateway: Directory, exchange: Routed) -> Sequence[Backend]:
    """The servers that may answer the request now. Raises Denied and NotAllowedError."""
    policy = exchange.policy
    if gateway.takes_any_name and (policy is None or not policy.models):
        return _that_can(exchange, gateway.all)
    hints = exchange.body.hints
    if exchange.head.operation.presets is None and (server := gateway.presets.get(hints.model or "")):
        hints = replace(hints, model=server)  # a key for a preset alone may not do what no preset changes
    asks_all = exchange.head.asks_for_streams and not hints.model
    found = gateway.allowed(policy, hints, gateway.all if asks_all else gateway.candidates(hints.model))
    return _that_can(exchange, found)


def _that_can(exchange: Routed, candidates: Sequence[Backend]) -> Sequence[Backend]:
    """Leave out servers that a question for text may crash. Raises NotAllowedError if none is left."""
    if not exchange.head.operation.makes_text:
        return candidates
    found = [backend for backend in candidates if not backend.facts.textless]
    if candidates and not found:
        facts = candidates[0].facts
        raise NotAllowedError(problems.makes_no_text(facts.name, facts.textless))
    return found


def candidates_now(gateway: Directory, exchange: Routed) -> Sequence[Backend] | Problem:
    """The servers that may answer the request, by what is known now. A problem: no server is left."""
    try:
        return _candidates(gateway, exchange)
    except Denied as denied:
        return problems.denied(denied)
    except NotAllowedError as error:
        return error.problem


async def _ask_around(gateway: Directory, exchange: Routed) -> None:
    """Ask servers for their models before saying that none has the one that is wanted."""
    await gateway.outside.read_models(now=True)
    if not exchange.is_over:
        dispatch(gateway, exchange, asked_around=True)


async def _go_to_streams(gateway: Directory, exchange: Routed, candidates: Sequence[Backend]) -> None:
    """Go to the server that has the stream of a conversation, or ask all servers.

    All of them are asked for several streams, or to carry out an order that only one of them can.
    """
    head, answer = exchange.head, None
    if head.conversation:
        holder = await holder_of(head.conversation, candidates)
        candidates = candidates if holder is None else [holder]
    elif head.operation.about is About.ANSWER:
        answer = await done_by_one_of(exchange.body.kept(), candidates)
    else:
        key = None if exchange.policy is None else exchange.policy.id
        answer = await streams_of_all(exchange.body.kept(), candidates, key)
    if exchange.is_over:
        return
    if answer is None:
        _go_on(gateway, exchange, candidates)
    else:
        exchange.answer_ourselves(200, JSON_FIELDS + cors_fields(exchange.answer.origin), answer)


def _go_on(gateway: Directory, exchange: Routed, candidates: Sequence[Backend]) -> None:
    if (problem := _change(gateway, exchange)) is not None:
        exchange.refuse(problem)
        return
    if (problem := find_suspicion(gateway, exchange)) is not None:
        exchange.refuse(problem, Outcome.QUARANTINED)
        return
    if exchange.policy is not None and exchange.policy.capture:
        exchange.notes.capture()
    go_to_one_of(gateway, exchange, candidates)


def _change(gateway: Directory, exchange: Routed) -> Problem | None:
    """Change the request if it asks for a preset. A problem: that cannot be done."""
    if not gateway.presets:
        return None  # the hints of a body are read only if somebody asks
    name = exchange.body.hints.model or ""
    server = gateway.presets.get(name)
    if server is None:
        return None
    exchange.notes.server = server
    return change_by_preset(exchange, name, gateway.backends[server])


def find_suspicion(gateway: Directory, exchange: Routed) -> Problem | None:
    """Find what this request was in before, when it was sent by another client, or by this one."""
    if not gateway.inquest.suspects_anybody():
        return None
    if (paused := gateway.inquest.pause_of(exchange.policy)) is not None:
        return problems.denied(paused)
    body_hash, now = exchange.body.hash(), gateway.wall_time()
    exchange.suspicion = exchange.suspicion or gateway.inquest.suspects.find(body_hash, now)
    entry = gateway.inquest.quarantined.find(body_hash, now)
    if entry is None:
        return None
    exchange.notes.run_name, exchange.notes.server = entry.run_name, entry.server
    return problems.quarantined(entry.server, entry.run_name, int(entry.until - now))


def go_to_one_of(gateway: Directory, exchange: Routed, candidates: Sequence[Backend]) -> None:
    """Go to the best of these servers, or into its queue."""
    head, body = exchange.head, exchange.body
    if len(candidates) == 1:
        backend = candidates[0]
    else:
        session = head.text(b"x-conversation-id") or head.text(b"session") or body.hints.session or ""
        backend = gateway.choose(candidates, session, body.kept())
    facts = backend.facts
    exchange.notes.server = facts.name
    if exchange.is_public and not facts.ready:
        problem = refusals.not_ready(backend, gateway.wall_time(), to_strangers=True)
        exchange.refuse(problem, Outcome.UNAVAILABLE)
        return
    visit = exchange.visit(backend)
    wakes = head.operation.wakes
    if facts.is_hopeless_for(wakes=wakes):
        exchange.refuse(refusals.hopeless(backend, gateway.wall_time()), Outcome.UNAVAILABLE)
        return
    if facts.asleep and wakes:
        gateway.wake(backend)
    try:
        visit.enter()
    except QueueFullError:
        exchange.refuse(refusals.queue_full(backend, gateway.wall_time()), Outcome.UNAVAILABLE)
