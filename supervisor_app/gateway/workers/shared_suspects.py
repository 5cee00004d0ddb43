"""Suspicions of requests, the same in all workers of one gateway: a client may ask again at another worker.

They are in files beside the board, which are written whole or not at all, and only after a server has died.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from supervisor_app.gateway.records.record import QuarantineEntry
from supervisor_app.gateway.servers.suspects import Quarantine, Suspects, Suspicion

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.gateway.workers.board import Board

log = logging.getLogger(__name__)

LOCK_SECONDS = 0.02
"""Patience for the lock, which is held while a file is written."""
MAX_TOLD = 100
"""Entries of the quarantine in the file. After a second all workers have read them from the database."""


class _SharedFile:
    """A file of all workers. To change it, hold the lock of the board and read the file first."""

    def __init__(self, board: Board, name: str) -> None:
        self.board = board
        self.path = board.path.with_name(name)
        self._generation = 0

    def news(self) -> Any:
        """Content that another worker has written since the last call; None: nothing, or nothing readable."""
        if self._generation == self.board.generation:
            return None
        self._generation = self.board.generation
        try:
            return json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("⚠️ [GATEWAY] What other workers know of crashes is not known here: %s", error)
            return None

    def write(self, content: Any) -> None:
        new = self.path.with_suffix(".new")
        try:
            new.write_text(json.dumps(content))
            new.replace(self.path)
        except OSError as error:
            log.warning("⚠️ [GATEWAY] What this worker knows of crashes is not known to others: %s", error)
        else:
            self.board.next_generation()
            self._generation = self.board.generation


class SharedSuspects(Suspects):
    """Suspicions known to all workers once judged; `pending` ones are known to the worker that waits."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.file = _SharedFile(board, "suspects")

    def note(self, body_hash: str, suspicion: Suspicion, now: float) -> None:
        with self.file.board.locked(LOCK_SECONDS):
            self.refresh()
            super().note(body_hash, suspicion, now)
            self._tell()

    def acquit(self, body_hash: str) -> None:
        self.refresh()
        if body_hash in self.entries:
            with self.file.board.locked(LOCK_SECONDS):
                self.refresh()
                super().acquit(body_hash)
                self._tell()

    def refresh(self) -> None:
        """Take over what other workers have noted meanwhile."""
        told = self.file.news()
        if told is None:
            return
        entries: OrderedDict[str, tuple[Suspicion, float]] = OrderedDict()
        for body_hash, (crashes, deaths, killed, until) in told.items():
            suspicion, _ = self.entries.get(body_hash, (Suspicion(), 0.0))
            suspicion.crashes = max(suspicion.crashes, crashes)  # a request that goes on may have seen more
            suspicion.deaths = max(suspicion.deaths, deaths)
            known = {*suspicion.killed}
            suspicion.killed += [each for each in _deaths(killed) if each not in known]
            entries[body_hash] = suspicion, until
        self.entries = entries

    def _tell(self) -> None:
        self.file.write(
            {
                body_hash: (suspicion.crashes, suspicion.deaths, suspicion.killed, until)
                for body_hash, (suspicion, until) in self.entries.items()
            }
        )


class SharedQuarantine(Quarantine):
    """A quarantine that all workers know at once, before the database does, where people may end it."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.file = _SharedFile(board, "quarantined")
        self._told = _entries(self.file.news() or [])
        """The file as it was read last. Entries from before this worker are in the database."""
        self._not_saved: dict[str, QuarantineEntry] = {}
        """Entries of other workers, until the database has them."""

    def add(self, entry: QuarantineEntry) -> None:
        super().add(entry)
        with self.file.board.locked(LOCK_SECONDS):
            self.refresh()
            self._told = [*self._told, entry][-MAX_TOLD:]
            self.file.write([asdict(each) for each in self._told])

    def replace(self, entries: Iterable[QuarantineEntry]) -> None:
        super().replace(entries)
        for body_hash in self._not_saved.keys() & self.entries.keys():
            del self._not_saved[body_hash]
        self.entries.update(self._not_saved)

    def refresh(self) -> None:
        """Take over the entries that other workers have added meanwhile."""
        told = self.file.news()
        if told is None:
            return
        before, self._told = self._told, _entries(told)
        for entry in self._told:
            if entry not in before:
                self._not_saved[entry.body_hash] = entry
                super().add(entry)


def _entries(told: Iterable[dict[str, Any]]) -> list[QuarantineEntry]:
    return [QuarantineEntry(**{**each, "deaths": _deaths(each.get("deaths", ()))}) for each in told]


def _deaths(told: Iterable[Iterable[Any]]) -> tuple[tuple[str, int], ...]:
    """Convert the lists that JSON has in place of tuples."""
    return tuple((str(server), int(pid)) for server, pid in told)
