"""The limits of API keys, over all workers of one gateway."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from supervisor_app.gateway.access.keys import Bucket, KeyPolicy, Limiter, Spent
from supervisor_app.gateway.workers.board import MAX_KEYS, Board

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

log = logging.getLogger(__name__)

REQUESTS, TOKENS = 1, 3
"""Cells of all workers: a bucket's level, then its time, which is 0 while there is no bucket. The one cell of
each worker counts the requests that it has running.
"""
KEPT_SECONDS = 60.0
"""Time after which a bucket is full again, unless there is debt."""


class SharedLimiter(Limiter):
    """Limits over what all workers let in. A key without limits is counted by each worker for itself."""

    def __init__(self, board: Board) -> None:
        super().__init__()
        self.board = board
        self._rows: dict[int, int] = {}
        """Board row of each key, as long as the key still owns it."""
        self._is_full = False

    def admit(self, policy: KeyPolicy, now: float) -> None:
        if not policy.is_limited:
            super().admit(policy, now)
            return
        with self._together(policy.id):
            super().admit(policy, now)

    def release(self, policy: KeyPolicy) -> None:
        super().release(policy)
        row, spent = self._rows.get(policy.id), self.spent.get(policy.id)
        if row is not None and spent is not None and self.board.numbers[row] == policy.id:
            self._tell(row, spent)

    def charge(self, policy: KeyPolicy, tokens: int, now: float) -> None:
        if not policy.tokens_per_minute:
            return
        with self._together(policy.id):
            super().charge(policy, tokens, now)

    def forget_others(self, ids: Collection[int]) -> None:
        """Forget keys that are gone; publish anew what runs here: others may have emptied this column."""
        super().forget_others(ids)
        board = self.board
        self._rows.clear()
        with board.locked():
            for row in board.keys.rows:
                key = board.numbers[row]
                if not key:
                    continue
                self._rows[key] = row
                if (spent := self.spent.get(key)) is not None:
                    self._tell(row, spent)
                elif key not in ids and self._is_forgotten(row):
                    board.keys.free(row)

    @contextmanager
    def _together(self, key: int) -> Iterator[None]:
        """Hold the lock, with the usage of all workers in `_spent`."""
        with self.board.locked():
            row = self._row_of(key)
            if row is None:
                yield
                return
            spent = self.spent.setdefault(key, Spent())
            spent.requests, spent.tokens = self._bucket(row + REQUESTS), self._bucket(row + TOKENS)
            elsewhere = self._running_elsewhere(row)
            spent.running += elsewhere
            try:
                yield
            finally:
                spent.running -= elsewhere
                self._tell(row, spent)
                self._keep(row + REQUESTS, spent.requests)
                self._keep(row + TOKENS, spent.tokens)

    def _row_of(self, key: int) -> int | None:
        board, row = self.board, self._rows.get(key)
        if row is not None and board.numbers[row] == key:
            return row
        row = board.keys.row_of(key)
        if row is not None:
            self._rows[key] = row
        elif not self._is_full:
            self._is_full = True
            log.warning("⚠️ [GATEWAY] More than %d keys with limits: of some, each worker counts", MAX_KEYS)
        return row

    def _is_forgotten(self, row: int) -> bool:
        board = self.board
        used = max(board.times[row + REQUESTS + 1], board.times[row + TOKENS + 1])
        own = board.numbers[board.keys.told(row, board.column)]
        return not (own or self._running_elsewhere(row)) and board.now - used > KEPT_SECONDS

    def _running_elsewhere(self, row: int) -> int:
        board = self.board
        return sum(board.numbers[board.keys.told(row, other)] for other in board.others)

    def _tell(self, row: int, spent: Spent) -> None:
        self.board.numbers[self.board.keys.told(row, self.board.column)] = spent.running

    def _bucket(self, cell: int) -> Bucket | None:
        level, at = self.board.times[cell], self.board.times[cell + 1]
        return Bucket(level, at) if at else None

    def _keep(self, cell: int, bucket: Bucket | None) -> None:
        if bucket is not None:
            self.board.times[cell] = bucket.level
            self.board.times[cell + 1] = bucket.at
