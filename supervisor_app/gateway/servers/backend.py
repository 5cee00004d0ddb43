"""A server as the gateway deals with it: its facts, its gate, its connections and its losses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from supervisor_app.core.machine.sockets import realm
from supervisor_app.core.status import Status
from supervisor_app.gateway.servers.elsewhere import is_elsewhere
from supervisor_app.gateway.servers.gate import Gate
from supervisor_app.gateway.servers.losses import Losses
from supervisor_app.gateway.servers.others import Neighbours
from supervisor_app.gateway.servers.pool import Pool, Waiting

if TYPE_CHECKING:
    from supervisor_app.gateway.http.limits import Limits
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.upstream import Connection

DOUBT_SECONDS = 0.02
MAX_DOUBT_SECONDS = 1.0
DEFAULT_RETRY_SECONDS = 5
SLOTS_UNLESS_SAID = 8
"""Slots assumed of a server that names no limit."""
SLOTS_UNTIL_TOLD = 1
"""Slots assumed of a server that has yet to be asked for them. The question takes milliseconds once it is
ready, in which all requests that waited for its start would be let in otherwise.
"""
Meet = Callable[[Gate, str], Neighbours | None]
"""Introduce the gate of a server, by its name, to the other workers; None: the board has no room."""


class Backend:
    """The gate is open while the supervisor says that the server is ready and no request has found otherwise.

    A request that finds the server gone casts doubt: the gate closes until there is news from the supervisor,
    or until a little time has passed, in which case the next request finds out.
    """

    def __init__(self, facts: ServerFacts, limits: Limits, meet: Meet | None = None) -> None:
        """`meet`: given if there are several workers."""
        self.facts = facts
        self.gate = Gate(capacity=facts.capacity, max_waiting=facts.max_queue)
        self._neighbours = meet(self.gate, facts.name) if meet is not None else None
        self.gate.others = self._neighbours
        self.slots: int | None = 0
        """Slots that the server names; 0: it names none; None: it has yet to be asked."""
        self.moved = False
        """Content of an answer has come since `edge.lookout` looked last."""
        self._serving = (facts.pid,) if facts.ready else None
        """The process that was ready last and, for all that is known, still is; None: no process is."""
        self._verbose: tuple[int | None] | None = None
        """The process that turned out to be verbose, whatever its configuration says."""
        self.is_gone = False
        """The server is not configured any more."""
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self.losses = Losses(self.gate, self._neighbours, self._loop)
        self._pool: Pool | None = None
        self._answered_at = float("-inf")
        """Loop time of the last answer."""
        self._endpoint = facts.endpoint
        self._doubted: tuple[int, int | None] | None = None
        self._doubt_seconds = DOUBT_SECONDS
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def load(self) -> float:
        """Requests in flight or waiting, per slot."""
        elsewhere = 0 if self._neighbours is None else self._neighbours.load
        slots = self.gate.capacity or SLOTS_UNLESS_SAID
        return (len(self.gate.inside) + len(self.gate.waiting) + elsewhere) / slots

    def retry_after(self, now: float) -> int:
        """Seconds until asking again may help: until the next start, and as long as past starts took.

        `now`: Unix seconds.
        """
        facts = self.facts
        start = DEFAULT_RETRY_SECONDS if facts.start_seconds is None else facts.start_seconds + 0.5
        pause = facts.retry_at - now if facts.status is Status.CRASHED and facts.retry_at else 0.0
        return max(1, round(max(0.0, pause) + start))

    @property
    def is_verbose(self) -> bool:
        """Do its answers go as they are? Put together from a stream they would not be the same."""
        return self.facts.is_verbose or self._verbose == (self.facts.pid,)

    def turned_out_verbose(self) -> None:
        self._verbose = (self.facts.pid,)

    @property
    def pool(self) -> Pool:
        if self._pool is None:
            address = urlsplit(self.facts.url)
            self._pool = Pool(
                address.hostname or "127.0.0.1",
                address.port or 80,
                endpoint=self._endpoint,
                idle_seconds=self._limits.upstream_idle_seconds,
                connect_seconds=self._limits.connect_seconds,
                is_elsewhere=is_elsewhere(self.facts.url, self._endpoint, realm()),
            )
            self._size()
        return self._pool

    def connect(self, made: Callable[[Connection], None], failed: Callable[[str], None]) -> Waiting:
        """Make a connection for a request; exactly one of the two is called.

        While no process serves, nothing is sent: what listens there now is not proved to be the server.
        """
        if self._serving is None:
            return self._loop.call_soon(failed, f"{self.facts.name} does not run")
        return self.pool.connect(made, failed)

    def update(self, facts: ServerFacts) -> None:
        """Take news of the supervisor, or a change of the configuration."""
        goes_on = self._goes_on(facts)
        if self._serving is not None and not goes_on:
            self.losses.bury(self._serving[0], self.facts.run, facts.detail)
        if self._serving is not None and facts.ready and facts.pid not in self._serving:
            self.gate.change_process()
        moved = facts.url != self.facts.url or (facts.endpoint or self._endpoint) != self._endpoint
        is_new = facts.ready and self._serving is None and not moved
        if not (goes_on or is_new) and self._pool is not None:
            self._pool.close()
            self._pool = None
        self._serving = (facts.pid,) if facts.ready else self._serving if goes_on else None
        if (
            facts.endpoint is not None or not goes_on
        ):  # a supervisor that comes back has yet to prove the address again
            self._endpoint = facts.endpoint
        self.facts = facts
        self.gate.max_waiting = facts.max_queue
        self._size()
        if facts.draining and self._pool is not None:
            self._pool.rest()  # of a server that tells no slots its connections are counted
        if self._doubted != self._mark():
            self._settle()
        self.open_if_ready()

    def await_slots(self) -> None:
        """Assume few slots until the server has been asked, as soon as it is ready: `learn_slots` follows."""
        self.slots = None
        self._size()

    def learn_slots(self, slots: int) -> None:
        """Take the slots that the server names. 0: it names none, so there is no limit."""
        self.slots = slots
        self._size()
        self.gate.let_in()

    def doubt(self) -> None:
        """Close the gate: a request found the server gone, whatever its supervisor says."""
        self.gate.is_open = False
        self._doubted = self._mark()
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._doubt_seconds, self._ask_again)
            self._doubt_seconds = min(self._doubt_seconds * 2, MAX_DOUBT_SECONDS)

    def trust(self) -> None:
        """Note that the server has answered."""
        self._doubt_seconds = DOUBT_SECONDS
        self._answered_at = self._loop.time()

    def open_if_ready(self) -> None:
        serves = self._serving is not None and not self.facts.draining
        self.gate.is_open = serves and self._doubted is None
        self.gate.let_in()

    def sweep(self) -> None:
        self.losses.outlive_ghosts(self._loop.time(), self._answered_at)
        if self._pool is not None:
            self._pool.sweep()
        if self._neighbours is not None:
            self.gate.let_in()  # tells other workers anew: they may have taken this worker for dead

    def close(self) -> None:
        self._settle()
        if self._pool is not None:
            self._pool.close()
        if self._neighbours is not None:
            self._neighbours.close()
            self._neighbours = self.losses.neighbours = self.gate.others = None

    def _goes_on(self, facts: ServerFacts) -> bool:
        """Does the same process serve on? A supervisor that comes back says "starting" until it knows."""
        if self._serving is None or facts.url != self.facts.url:
            return False
        if facts.comes_or_goes and not facts.away:
            return facts.pid in (None, *self._serving)
        return facts.ready and facts.pid in self._serving

    def _mark(self) -> tuple[int, int | None]:
        return self.facts.version, self.facts.pid

    def _ask_again(self) -> None:
        self._settle()
        self.open_if_ready()

    def _settle(self) -> None:
        self._doubted = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _size(self) -> None:
        slots = SLOTS_UNTIL_TOLD if self.slots is None else self.slots
        self.gate.capacity = self.facts.capacity or slots
        if self._pool is not None:
            # A kept connection occupies a thread of the server, as a request does.
            self._pool.max_idle = self.gate.capacity or SLOTS_UNLESS_SAID


def rank(facts: ServerFacts) -> int:
    """Order servers by how soon they may be ready: the lower, the sooner."""
    if facts.hopeless:
        return 9
    if facts.away:
        return 8
    if facts.draining:
        return 3
    order = {Status.READY: 0, Status.STARTING: 1, Status.CRASHED: 2, Status.STOPPING: 3}
    return order.get(facts.status, 4)
