"""The inquest into each lost server: which request or key it died of, and what follows for that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway import problems
from supervisor_app.gateway.access.keys import Denied, KeyPolicy, key_paused
from supervisor_app.gateway.records.record import QuarantineEntry
from supervisor_app.gateway.servers.losses import ACCUSED_SECONDS, Loss, judge
from supervisor_app.gateway.servers.suspects import (
    QUARANTINE_SECONDS,
    Keys,
    Quarantine,
    Suspects,
    Suspicion,
    Verdict,
    hash_of_key,
)
from supervisor_app.gateway.workers.shared_suspects import SharedQuarantine, SharedSuspects

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from supervisor_app.gateway.access.door import Door
    from supervisor_app.gateway.plane.outside import Outside
    from supervisor_app.gateway.problem import Problem
    from supervisor_app.gateway.servers.backend import Backend
    from supervisor_app.gateway.servers.facts import ServerFacts
    from supervisor_app.gateway.workers.board import Board

Sentence = tuple[str, str]
"""The name of the run that ended, and why it ended."""


class Inquest:
    """Knows whom this gateway suspects; with a board, what the other workers think counts as well."""

    def __init__(
        self,
        board: Board | None,
        *,
        door: Door,
        outside: Outside,
        wall_time: Callable[[], float],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.quarantined = Quarantine() if board is None else SharedQuarantine(board)
        self.suspects = Suspects() if board is None else SharedSuspects(board)
        self._keys = Keys()
        self._is_shared = board is not None
        self._door = door
        self._outside = outside
        self._wall_time = wall_time
        self._loop = loop

    def pause_of(self, policy: KeyPolicy | None) -> Denied | None:
        """Refuse a key that is paused, because several of its requests killed a server; None: it is not."""
        now = self._wall_time()
        until = None if policy is None else self.quarantined.paused_until(policy.id, now)
        return None if policy is None or until is None else key_paused(policy, until - now)

    def blame_key(self, backend: Backend, facts: ServerFacts, loss: Loss) -> None:
        """Count a crash against the key whose requests alone were in flight: several pause the key."""
        key, pid = loss.key, loss.pid
        end = facts.ends.get(pid) if pid is not None else None
        # With one key there is nobody to protect, and its client may need a server that crashes now and then.
        if key is None or pid is None or end is None or end.blameless or len(self._door.keys.ids) < 2:
            return
        now = self._wall_time()
        if killed := self._keys.crashed(key, facts.name, pid, now):
            suspicion = Suspicion(killed=[*killed])
            self.quarantine(backend, hash_of_key(key), key, suspicion, (loss.run_name, end.sentence))

    def quarantine(
        self, backend: Backend, body_hash: str, key: int | None, suspicion: Suspicion, verdict: Sentence
    ) -> Problem:
        """Refuse a request for a while that was alone when its server died, and a suspect before."""
        now = self._wall_time()
        run_name, reason = verdict
        if key is not None:
            self._keys.explained(key, suspicion.killed)
        entry = QuarantineEntry(
            server=backend.facts.name,
            body_hash=body_hash,
            run_name=run_name,
            reason=reason,
            at=now,
            until=now + QUARANTINE_SECONDS,
            key=key,
            deaths=tuple(suspicion.killed),
        )
        self.quarantined.add(entry)
        self._outside.quarantined(entry)
        return problems.quarantined(backend.facts.name, run_name, int(QUARANTINE_SECONDS))

    def suspects_anybody(self) -> bool:
        """Is any request suspected, here or at another worker?"""
        if self._is_shared:
            self.suspects.refresh()
            self.quarantined.refresh()
        return bool(self.quarantined.entries or self.suspects.entries)

    def suspect(self, body_hash: str, suspicion: Suspicion) -> None:
        self.suspects.note(body_hash, suspicion, self._wall_time())

    def settle(self, backend: Backend, facts: ServerFacts) -> None:
        """Hear the accusations at this server of which it is known now what it was lost of."""
        for accused in list(backend.losses.accusations):
            pid = accused.loss.pid
            is_known = pid != facts.pid and (pid in facts.ends or facts.ready)
            if not is_known and self._loop.time() - accused.at < ACCUSED_SECONDS:
                continue
            backend.losses.accusations.remove(accused)
            accused.suspicion.pending -= 1
            if not is_known or accused.suspicion.cleared:
                continue
            self.blame_key(backend, facts, accused.loss)
            verdict, reason = judge(facts, accused.suspicion, accused.loss)
            if verdict is Verdict.QUARANTINE:
                sentence = accused.loss.run_name, reason
                self.quarantine(backend, accused.body_hash, accused.key, accused.suspicion, sentence)
            elif accused.suspicion.crashes:
                self.suspect(accused.body_hash, accused.suspicion)

    def leave_board(self) -> None:
        """Go on without the board, for requests whose connections end only after it is gone."""
        self.suspects, self.quarantined, self._is_shared = Suspects(), Quarantine(), False
