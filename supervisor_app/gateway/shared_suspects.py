"""What is thought of requests, the same in all workers of one gateway: a client may ask again at another one.

In a file beside the board, written whole or not at all: something is noted only when a server has died.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from supervisor_app.gateway.board import Board
from supervisor_app.gateway.suspects import Suspects, Suspicion

log = logging.getLogger(__name__)

LOCK_SECONDS = 0.02
"""The file is written meanwhile."""


class SharedSuspects(Suspects):
    """Known here once it has been judged: what is `pending` is known to the worker that waits for it."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self._board = board
        self._path = board.path.with_name("suspects")
        self._generation = 0

    def note(self, body_hash: str, suspicion: Suspicion, now: float) -> None:
        with self._changing():
            super().note(body_hash, suspicion, now)

    def acquit(self, body_hash: str) -> None:
        self.refresh()
        if body_hash in self.entries:
            with self._changing():
                super().acquit(body_hash)

    def refresh(self) -> None:
        if self._generation != self._board.generation:
            self._generation = self._board.generation
            self._read()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._board.locked(LOCK_SECONDS):
            self.refresh()
            yield
            if self._write():
                self._board.next_generation()
                self._generation = self._board.generation

    def _read(self) -> None:
        try:
            told = json.loads(self._path.read_bytes())
        except (OSError, ValueError) as error:
            log.warning("⚠️ [GATEWAY] What other workers know of crashes is not known here: %s", error)
            return
        entries: OrderedDict[str, tuple[Suspicion, float]] = OrderedDict()
        for body_hash, (crashes, deaths, until) in told.items():
            suspicion, _ = self.entries.get(body_hash, (Suspicion(), 0.0))
            suspicion.crashes = max(suspicion.crashes, crashes)  # a request that goes on may have seen more
            suspicion.deaths = max(suspicion.deaths, deaths)
            entries[body_hash] = suspicion, until
        self.entries = entries

    def _write(self) -> bool:
        told = {
            body_hash: (suspicion.crashes, suspicion.deaths, until)
            for body_hash, (suspicion, until) in self.entries.items()
        }
        new = self._path.with_suffix(".new")
        try:
            new.write_text(json.dumps(told))
            new.replace(self._path)
        except OSError as error:
            log.warning("⚠️ [GATEWAY] What this worker knows of crashes is not known to others: %s", error)
            return False
        return True
