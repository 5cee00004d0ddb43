"""One server as the gateway deals with it: what is known of it, its gate and its connections."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from supervisor_app.core.machine.sockets import realm
from supervisor_app.core.status import Status
from supervisor_app.gateway.servers.elsewhere import is_elsewhere
from supervisor_app.gateway.servers.gate import Gate, Insider, Others
from supervisor_app.gateway.servers.ghosts import DepartedRequest
from supervisor_app.gateway.servers.upstream import Connection, Pool, Waiting

if TYPE_CHECKING:
    from supervisor_app.gateway.http.limits import Limits
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.suspects import Suspicion, Verdict

DOUBT_SECONDS = 0.02
MAX_DOUBT_SECONDS = 1.0
DEFAULT_RETRY_SECONDS = 5
MAX_ACCUSATIONS = 256
SLOTS_UNLESS_SAID = 8
"""Taken for what a server without a limit can do at once."""
SLOTS_UNTIL_TOLD = 1
"""A server that has yet to be asked has at least so many. It is asked as soon as it is ready, so this is for
milliseconds, in which all who waited for its start would be let in else.
"""
ACCUSED_SECONDS = 60.0
"""A server that lives on for so long has not died of it."""
TOGETHER_SECONDS = 1.0
"""Connections that are lost within so long were lost at once."""


class Neighbours(Others, Protocol):
    """The other workers before the same server, as they share what they know of it."""

    @property
    def load(self) -> int:
        """Requests in flight or waiting at the other workers."""

    def was_alone(self, pid: int | None, in_flight: int, now: float) -> bool:
        """Record the loss of a connection to this process: was its request the only one of all workers?"""

    def noticed_all(self, in_flight: int) -> bool:
        """Was this worker the first to notice the last loss, and had no other worker requests there?"""

    def close(self) -> None:
        """Withdraw from the other workers: nothing is in flight or waits here any more."""


Meet = Callable[[Gate, str], Neighbours | None]
"""Introduce the gate of a server, by its name, to the other workers; None: there is no room for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A connection that ended too soon, and what was known of the server at that moment."""

    pid: int | None
    run: int | None
    alone: bool
    """Nobody else was in flight, at any worker, when the first of this process's connections was lost."""
    reason: str
    key: int | None = None
    """The API key of all that were in flight then; None: there were several, or none."""

    @property
    def run_name(self) -> str:
        """Name of the run that ended: its number, which has a page; `pid N` where runs have no number."""
        return str(self.run) if self.run else f"pid {self.pid}"


@dataclass(frozen=True, slots=True)
class Accusation:
    """A request that is over or elsewhere, and whose server may have died of it."""

    body_hash: str
    key: int | None
    """Of the API key that it was sent with."""
    suspicion: Suspicion
    loss: Loss
    at: float
    """Loop time, in seconds."""


class Backend:
    """Its gate is open while its supervisor says that it is ready and no request has found otherwise.

    A request that finds it gone casts doubt: the gate closes until a newer word comes from the supervisor,
    or until a little time has passed, in which case the next request finds out.
    """

    def __init__(self, facts: ServerFacts, limits: Limits, meet: Meet | None = None) -> None:
        """`meet`: there are several workers."""
        self.facts = facts
        self.gate = Gate(capacity=facts.capacity, max_waiting=facts.max_queue)
        self._neighbours = meet(self.gate, facts.name) if meet is not None else None
        self.gate.others = self._neighbours
        self.slots: int | None = 0
        """As the server says; 0: it does not; None: it has yet to be asked."""
        self.moved = False
        """Content of an answer has come since somebody looked last."""
        self.accusations: deque[Accusation] = deque(maxlen=MAX_ACCUSATIONS)
        self._serving = (facts.pid,) if facts.ready else None
        """The process that was ready last and, for all that is known, still is; None: no process is."""
        self._verbose: tuple[int | None] | None = None
        """The process that turned out to be verbose, whatever its configuration says."""
        self.is_gone = False
        """It is not configured any more."""
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._pool: Pool | None = None
        self._lost_key: tuple[int | None, int | None] = (None, None)
        """Of the process that was lost last, the API key of all that were in flight there."""
        self._answered_at = float("-inf")
        """Loop time of its last answer."""
        self._endpoint = facts.endpoint
        self._casualties: tuple[int | None, int, float] = (None, 0, 0.0)
        """Of which process, how many were in flight there when it was found gone, and when (loop time)."""
        self._doubted: tuple[int, int | None] | None = None
        self._doubt_seconds = DOUBT_SECONDS
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def load(self) -> float:
        """Requests in flight or waiting, by what it can do at once."""
        elsewhere = 0 if self._neighbours is None else self._neighbours.load
        slots = self.gate.capacity or SLOTS_UNLESS_SAID
        return (len(self.gate.inside) + len(self.gate.waiting) + elsewhere) / slots

    def retry_after(self, now: float) -> int:
        """Seconds until asking again may help: until its next start, and as long as its past ones took.

        `now`: Unix seconds.
        """
        facts = self.facts
        start = DEFAULT_RETRY_SECONDS if facts.start_seconds is None else facts.start_seconds + 0.5
        pause = facts.retry_at - now if facts.status is Status.CRASHED and facts.retry_at else 0.0
        return max(1, round(max(0.0, pause) + start))

    @property
    def is_verbose(self) -> bool:
        """Its answers go as they are: what is put together from a stream would not be the same."""
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
        """A fresh connection, on which something is going to be asked; exactly one of the two is called.

        While no process serves, nobody is asked: whoever listens there now is not proved to be the server.
        """
        if self._serving is None:
            return self._loop.call_soon(failed, f"{self.facts.name} does not run")
        return self.pool.connect(made, failed)

    def update(self, facts: ServerFacts) -> None:
        """A newer word of its supervisor, or of those who configure it."""
        goes_on = self._goes_on(facts)
        if self._serving is not None and not goes_on:
            self._bury(self._serving[0], self.facts.run, facts.detail)
        moved = facts.url != self.facts.url or (facts.endpoint or self._endpoint) != self._endpoint
        is_new = facts.ready and self._serving is None and not moved
        if not (goes_on or is_new) and self._pool is not None:
            self._pool.close()
            self._pool = None
        self._serving = (facts.pid,) if facts.ready else self._serving if goes_on else None
        if (
            facts.endpoint is not None or not goes_on
        ):  # a supervisor that comes back has yet to prove it again
            self._endpoint = facts.endpoint
        self.facts = facts
        self.gate.max_waiting = facts.max_queue
        self._size()
        if self._doubted != self._mark():
            self._settle()
        self.open_if_ready()

    def await_slots(self) -> None:
        """Somebody is going to ask it as soon as it is ready: `learn_slots` follows."""
        self.slots = None
        self._size()

    def learn_slots(self, slots: int) -> None:
        """0: it will not say; there is no limit then."""
        self.slots = slots
        self._size()
        self.gate.let_in()

    def doubt(self) -> None:
        """A request found it gone, whatever its supervisor says."""
        self.gate.is_open = False
        self._doubted = self._mark()
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._doubt_seconds, self._ask_again)
            self._doubt_seconds = min(self._doubt_seconds * 2, MAX_DOUBT_SECONDS)

    def loss(self, asked: ServerFacts, reason: str) -> Loss:
        """A connection was lost: the first one counts who else was in flight.

        `asked`: what was known when it was asked. By now its supervisor may have said that it is gone.
        """
        alone, key = self._was_alone(asked.pid), self._only_key(asked.pid)
        self._bury(asked.pid, asked.run, reason)
        return Loss(pid=asked.pid, run=asked.run, alone=alone, reason=reason, key=key)

    def depart(self, visitor: Insider, ghost: DepartedRequest) -> None:
        """Its client left while the server worked on it."""
        self.gate.haunt(visitor, ghost)

    def _ghosts(self, pid: int | None) -> list[DepartedRequest]:
        """Of this process, each request once, however often it was sent."""
        found = {ghost.body_hash: ghost for ghost in self._departed() if ghost.pid == pid}
        return list(found.values())

    def _departed(self) -> list[DepartedRequest]:
        return [ghost for ghost in self.gate.ghosts if isinstance(ghost, DepartedRequest)]

    def _bury(self, pid: int | None, run: int | None, reason: str) -> None:
        """This process has gone: also those are suspected whose clients had left."""
        ghosts = self._ghosts(pid)
        if not ghosts:
            return
        alone, key = self._was_alone(pid), self._only_key(pid)
        loss = Loss(pid=pid, run=run, alone=alone, reason=reason, key=key)
        for ghost in ghosts:
            ghost.suspicion.pending += 1
            self.accusations.append(
                Accusation(ghost.body_hash, ghost.key, ghost.suspicion, loss, self._loop.time())
            )
        self.gate.ghosts -= {ghost for ghost in self._departed() if ghost.pid == pid}

    def _lay_ghosts(self, now: float) -> None:
        """Those that the server has outlived."""
        for ghost in self._departed():
            if ghost.may_stop_blocking(now):
                ghost.blocks = False
                self.gate.let_in()
            if ghost.is_over(now, self._answered_at):
                self.gate.lay(ghost)

    def _was_alone(self, lost: int | None) -> bool:
        """Nobody else was in flight when the first connection to this process was lost."""
        now = self._loop.time()
        if self._neighbours is not None:
            return self._neighbours.was_alone(lost, self._number_at(lost), now)
        pid, number, at = self._casualties
        if pid != lost or now - at > TOGETHER_SECONDS:
            number = self._number_at(lost)
            self._casualties = (lost, number, now)
        return number == 1

    def _only_key(self, pid: int | None) -> int | None:
        """Of all that were in flight when the first connection was lost; asked after `_was_alone`."""
        known, key = self._lost_key
        if known != pid:
            keys = {each.key for each in self.gate.in_flight} | {each.key for each in self._ghosts(pid)}
            elsewhere = self._neighbours is not None and not self._neighbours.noticed_all(
                self._number_at(pid)
            )
            key = keys.pop() if len(keys) == 1 and not elsewhere else None
            self._lost_key = pid, key
        return key

    def _number_at(self, pid: int | None) -> int:
        """How many requests this process has, for all that is known."""
        return len(self.gate.in_flight) + len(self._ghosts(pid))

    def trust(self) -> None:
        """It answered."""
        self._doubt_seconds = DOUBT_SECONDS
        self._answered_at = self._loop.time()

    def open_if_ready(self) -> None:
        self.gate.is_open = self._serving is not None and self._doubted is None
        self.gate.let_in()

    def sweep(self) -> None:
        self._lay_ghosts(self._loop.time())
        if self._pool is not None:
            self._pool.sweep()
        if self._neighbours is not None:
            self.gate.let_in()  # tells them anew: they may have taken us for dead

    def close(self) -> None:
        self._settle()
        if self._pool is not None:
            self._pool.close()
        if self._neighbours is not None:
            self._neighbours.close()
            self._neighbours = self.gate.others = None

    def _goes_on(self, facts: ServerFacts) -> bool:
        """The same process serves on. A supervisor that comes back says "starting" until it has seen that."""
        if self._serving is None or facts.url != self.facts.url:
            return False
        if facts.status is Status.STARTING and not facts.away:
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


def judge(facts: ServerFacts, suspicion: Suspicion, loss: Loss) -> tuple[Verdict, str]:
    """Once another process runs, or none: what becomes of the request, and why its server ended."""
    end = facts.ends.get(loss.pid) if loss.pid is not None else None
    verdict = suspicion.died(
        blameless=end is None or end.blameless, alone=loss.alone, server=facts.name, pid=loss.pid
    )
    return verdict, end.sentence if end else loss.reason


def rank(facts: ServerFacts) -> int:
    """How soon it may be ready; the lower, the sooner."""
    if facts.hopeless:
        return 9
    if facts.away:
        return 8
    order = {Status.READY: 0, Status.STARTING: 1, Status.CRASHED: 2, Status.STOPPING: 3}
    return order.get(facts.status, 4)
