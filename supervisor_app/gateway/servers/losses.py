"""Losses of one server: connections that ended too soon, and which requests were in flight then."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.gateway.servers.ghosts import DepartedRequest

if TYPE_CHECKING:
    import asyncio

    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.servers.gate import Gate
    from supervisor_app.gateway.servers.others import Neighbours
    from supervisor_app.gateway.servers.suspects import Suspicion, Verdict

MAX_ACCUSATIONS = 256
ACCUSED_SECONDS = 60.0
"""A server that lives on for so long has not died of the request."""
TOGETHER_SECONDS = 1.0
"""Connections that are lost within so long were lost at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A connection that ended too soon, and what was known of the server at that moment."""

    pid: int | None
    run: int | None
    alone: bool
    """True: no other request was in flight, at any worker, when the process's first connection was lost."""
    reason: str
    key: int | None = None
    """API key of all requests in flight then; None: there were several, or none."""

    @property
    def run_name(self) -> str:
        """Name of the run that ended: its number, which has a page; `pid N` where runs have no number."""
        return str(self.run) if self.run else f"pid {self.pid}"


@dataclass(frozen=True, slots=True)
class Accusation:
    """A request that is over or elsewhere, and whose server may have died of it."""

    body_hash: str
    key: int | None
    """Id of the API key that the request was sent with."""
    suspicion: Suspicion
    loss: Loss
    at: float
    """Loop time, in seconds."""


class Losses:
    """Counts the requests in flight at a process that is lost; keeps accusations until they are judged."""

    def __init__(self, gate: Gate, neighbours: Neighbours | None, loop: asyncio.AbstractEventLoop) -> None:
        """`neighbours`: the other workers; None: there are none."""
        self.neighbours = neighbours
        self.accusations: deque[Accusation] = deque(maxlen=MAX_ACCUSATIONS)
        self._gate = gate
        self._loop = loop
        self._casualties: tuple[int | None, int, float] = (None, 0, 0.0)
        """Process that was lost last: its pid, the requests in flight there, the loop time."""
        self._only_key_of: tuple[int | None, int | None] = (None, None)
        """The pid of the same, and the API key of all those requests; None: there were several, or none."""

    def add(self, asked: ServerFacts, reason: str) -> Loss:
        """Note a lost connection; the first one of a process counts who else was in flight.

        `asked`: the server as it was when the request was sent. By now its supervisor may have said more.
        """
        alone, key = self._was_alone(asked.pid), self._only_key(asked.pid)
        self.bury(asked.pid, asked.run, reason)
        return Loss(pid=asked.pid, run=asked.run, alone=alone, reason=reason, key=key)

    def _ghosts(self, pid: int | None) -> list[DepartedRequest]:
        """Requests whose clients left while this process worked on them, each once."""
        found = {ghost.body_hash: ghost for ghost in self._departed() if ghost.pid == pid}
        return list(found.values())

    def _departed(self) -> list[DepartedRequest]:
        return [ghost for ghost in self._gate.ghosts if isinstance(ghost, DepartedRequest)]

    def bury(self, pid: int | None, run: int | None, reason: str) -> None:
        """Accuse the requests whose clients had left before this process ended."""
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
        self._gate.ghosts -= {ghost for ghost in self._departed() if ghost.pid == pid}

    def outlive_ghosts(self, now: float, answered_at: float) -> None:
        """Clear requests that the server has outlived. `answered_at`: loop time of its last answer."""
        for ghost in self._departed():
            if ghost.may_stop_blocking(now):
                ghost.blocks = False
                self._gate.let_in()
            if ghost.is_over(now, answered_at):
                self._gate.lay(ghost)

    def _was_alone(self, lost: int | None) -> bool:
        """Was one request alone in flight when the first connection to this process was lost?"""
        now = self._loop.time()
        if self.neighbours is not None:
            return self.neighbours.was_alone(lost, self._number_at(lost), now)
        pid, number, at = self._casualties
        if pid != lost or now - at > TOGETHER_SECONDS:
            number = self._number_at(lost)
            self._casualties = (lost, number, now)
        return number == 1

    def _only_key(self, pid: int | None) -> int | None:
        """API key of all requests in flight when the first connection was lost. Call `_was_alone` before."""
        known, key = self._only_key_of
        if known != pid:
            keys = {each.key for each in self._gate.at_any_process} | {each.key for each in self._ghosts(pid)}
            elsewhere = self.neighbours is not None and not self.neighbours.noticed_all(self._number_at(pid))
            key = keys.pop() if len(keys) == 1 and not elsewhere else None
            self._only_key_of = pid, key
        return key

    def _number_at(self, pid: int | None) -> int:
        """Requests at this process, for all that is known."""
        return len(self._gate.at_any_process) + len(self._ghosts(pid))


def judge(facts: ServerFacts, suspicion: Suspicion, loss: Loss) -> tuple[Verdict, str]:
    """Decide what becomes of a request, once it is known why its server ended; return that reason, too."""
    end = facts.ends.get(loss.pid) if loss.pid is not None else None
    verdict = suspicion.died(
        blameless=end is None or end.blameless, alone=loss.alone, server=facts.name, pid=loss.pid
    )
    return verdict, end.sentence if end else loss.reason
