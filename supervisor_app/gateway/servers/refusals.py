"""Why a server cannot answer now, as the client is told. `now` is in Unix seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway import problems

if TYPE_CHECKING:
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.servers.backend import Backend


def queue_full(backend: Backend, now: float) -> Problem:
    """Refuse a request because the queue is full."""
    return problems.queue_full(backend.facts.name, backend.gate.queue_length, backend.retry_after(now))


def hopeless(backend: Backend, now: float) -> Problem:
    """Waiting for this server is hopeless."""
    facts = backend.facts
    lasting = facts.needs_a_person(now) or facts.asleep
    return problems.unavailable(facts, backend.retry_after(now), lasting=lasting)


def not_ready(backend: Backend, now: float, *, to_strangers: bool) -> Problem:
    """The server is not ready, and the client does not wait or may not fill the queue."""
    return problems.not_ready(backend.facts, backend.retry_after(now), to_strangers=to_strangers)


def hold_timeout(backend: Backend, now: float) -> Problem:
    """The request has waited for as long as it may."""
    return problems.hold_timeout(backend.facts, backend.retry_after(now))
