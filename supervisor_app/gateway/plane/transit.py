"""A body in transit: kept to be sent again, passed on as it comes, or read on to its end from disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor_app.gateway import problems
from supervisor_app.gateway.llama.isolation import NotIsolatedError, check_isolation, without_cache
from supervisor_app.gateway.plane.reading_on import BodySource, Disk, Reader, ReadingOn, Sink

if TYPE_CHECKING:
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.plane.body import RequestBody
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.servers.facts import ServerFacts

LARGE = 64 * 1024
"""Bytes of a body that take about a millisecond to read."""


class Taker(Sink, Protocol):
    """A visit to a server."""

    @property
    def takes_body(self) -> bool:
        """The head is on its way to the server: the body may follow."""


class BodyStore(Disk, Protocol):
    """The room that all bodies of a gateway share."""

    kept_bytes: int

    def isolates(self, facts: ServerFacts) -> bool:
        """A key that uses this server wants its prompts found by nobody else."""


class Transit:
    """A body on its way, within the room that all bodies share."""

    __slots__ = ("_is_isolated", "_kept_bytes", "_source", "_store", "body", "reading_on")

    def __init__(self, store: BodyStore, source: BodySource, body: RequestBody) -> None:
        self.body = body
        self.reading_on: ReadingOn | None = None
        self._store = store
        self._source = source
        self._is_isolated = False
        """The server must not serve the request from its cache."""
        self._kept_bytes = 0

    # From the client

    def problem_of(self, data: bytes) -> Problem | None:
        """Count the next bytes. A problem: refuse the request with it."""
        body = self.body
        body.size += len(data)
        if body.size > self._store.limits.body_bytes:
            return problems.body_too_large()
        return problems.too_deep() if body.is_too_deep(data) else None

    def take(self, data: bytes, visit: Taker | None) -> bool:
        """Keep more of the body, or pass it on. True: from now on it is longer than can be kept."""
        body, limits = self.body, self._store.limits
        if self.reading_on is not None:
            self.reading_on.put(data)
        elif body.overflows:
            self._pass_on(data, visit)
        else:
            body.keep(data)
            self._kept_bytes = body.size
            self._store.kept_bytes += len(data)
            if body.size > limits.replay_bytes or self._store.kept_bytes > limits.all_replay_bytes:
                body.overflow()
                return True
        return False

    def take_whole(self, data: bytes) -> None:
        """Take over a body that the gateway has counted already."""
        self.body.take_whole(data)
        self._kept_bytes = len(data)

    def change(self, data: bytes) -> None:
        """Send this in place of a body that is here, whole."""
        self._store.kept_bytes += len(data) - self._kept_bytes
        self._kept_bytes = len(data)
        self.body.change(data)

    def read_on(self, request: Reader) -> None:
        """Write the body to disk from now on, because only its end tells where the request goes."""
        self.reading_on = ReadingOn(request, self._source, self._store)
        self._release()
        beginning = self.body.kept()
        self.body.shorten(LARGE)
        self.reading_on.put(beginning)

    def _pass_on(self, data: bytes, visit: Taker | None) -> None:
        """Pass on bytes that cannot be kept, once a server takes them."""
        if visit is None or not visit.takes_body:
            self.body.keep(data)
            self._source.pause_reading(True)
        else:
            visit.write(self.body.framed(data))

    # To the server

    def isolate(self, head: RequestHead, facts: ServerFacts) -> Problem | None:
        """Keep the request out of this server's cache, if a key isolates its prompts there.

        Return the problem when that cannot be done.
        """
        operation, body = head.operation, self.body
        self._is_isolated = False
        if not (head.method == "POST" and operation.needs_slot and self._store.isolates(facts)):
            return None
        try:
            self._is_isolated = check_isolation(
                operation,
                body.kept(),
                is_form=body.is_form,
                is_partial=body.overflows,
                caches=facts.caches_prompts,
            )
        except NotIsolatedError as error:
            return problems.not_isolated(facts.name, str(error))
        return None

    def for_server(self, instead: bytes | None) -> tuple[bytes, int | None]:
        """The body as far as it has come, and the length to announce. `instead`: sent in its place."""
        if self._is_isolated:
            instead = without_cache(self.body.kept() if instead is None else instead)
        first, length = self.body.for_server(instead)
        if self.body.overflows:
            self._release()
            self._source.pause_reading(False)
        return first, length

    def server_writable(self, writable: bool) -> None:
        if self.reading_on is not None:
            self.reading_on.server_writable(writable)
        elif self.body.overflows:
            self._source.pause_reading(not writable)

    def close(self) -> None:
        self._release()
        if self.reading_on is not None:
            self.reading_on.close()

    def _release(self) -> None:
        self._store.kept_bytes -= self._kept_bytes
        self._kept_bytes = 0
