"""The board: a little memory that all workers of one gateway map.

Each worker has a column, in which it alone writes; all read all columns. Cells of all workers are changed
under a lock. A worker that is killed leaves nothing behind: the kernel releases its lock, and the others
empty a column that is not refreshed.
"""

from __future__ import annotations

from array import array
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from mmap import mmap
from struct import calcsize
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_SERVERS = 256
MAX_KEYS = 1024
MAX_TURNS = 4096
"""Places for the latest turns of owners at servers. Two owners with one place share their turns."""
STALE_SECONDS = 2.0
"""Age of a column, or of a hold on the lock, at which its worker counts as gone or stopped."""
LOCK_SECONDS = 0.0003
"""Patience for the lock, which is held for microseconds: a worker without the processor is not waited for."""
PAUSE_SECONDS = 20e-6
CELL = calcsize("q")
COLUMNS, GENERATION, HEAD = 0, 1, 2
"""Cells: the number of workers; a number that grows when a file beside the board is new; the first row."""


class Table:
    """Rows of one kind.

    A row is a key (0: the row is free), cells of all workers and, for each worker, cells that it alone
    writes.
    """

    def __init__(
        self, cells: memoryview[int], first: int, rows: int, *, shared: int, told: int, columns: int
    ) -> None:
        """`shared`: cells of all workers in a row, without the key; `told`: cells of each worker."""
        self._cells = cells
        self._told = told
        self._first_told = 1 + shared
        self._width = 1 + shared + told * columns
        self.end = first + rows * self._width
        self.rows = range(first, self.end, self._width)

    def row_of(self, key: int) -> int | None:
        """First cell of the key's row, which is a free row at first; None: all are taken. Needs the lock."""
        free = None
        for row in self.rows:
            known = self._cells[row]
            if known == key:
                return row
            if not known and free is None:
                free = row
        if free is not None:
            self._cells[free] = key
        return free

    def told(self, row: int, column: int) -> int:
        """First of the cells that this worker alone writes."""
        return row + self._first_told + self._told * column

    def empty(self, column: int) -> None:
        for row in self.rows:
            if self._cells[row]:
                first = self.told(row, column)
                self._clear(first, first + self._told)

    def free(self, row: int) -> None:
        """Clear the row for another key. Needs the lock."""
        self._clear(row, row + self._width)

    def _clear(self, first: int, end: int) -> None:
        for cell in range(first, end):
            self._cells[cell] = 0


class Board:
    """The board as one worker maps it. Cells are 8 bytes: `numbers` and `times` are two views of the same.

    All times are monotonic seconds, of the clock that loops and `time.monotonic` have in common.
    """

    NAME = "board"

    def __init__(self, path: Path, column: int, now: float) -> None:
        """`column` counts from 0. Raises OSError and ValueError."""
        self._file = path.open("r+b", buffering=0)
        try:
            self.numbers, self.times = _map(self._file.fileno())
            self.columns = self.numbers[COLUMNS]
            self.servers, self.keys = _tables(self.numbers, self.columns)
            self.first_turn = self.keys.end
            if not 0 <= column < self.columns or len(self.numbers) != self.first_turn + MAX_TURNS:
                raise ValueError(f"{path} is no board for a worker {column + 1}")
        except ValueError:
            self._file.close()
            raise
        self.path = path
        self.column = column
        self.others = tuple(other for other in range(self.columns) if other != column)
        self._refused_at = 0.0
        with self.locked(STALE_SECONDS):
            self._empty(column)  # a worker before this one may have been killed
            self.times[HEAD + column] = now

    @staticmethod
    def create(path: Path, columns: int) -> None:
        """Write an empty board for so many workers. Raises OSError."""
        cells = array("q", [columns])
        *_, last = _tables(memoryview(cells), columns)
        # Written, not only made long: on a full disk that fails here, and not with SIGBUS later.
        path.write_bytes(cells.tobytes() + bytes((last.end + MAX_TURNS - 1) * CELL))

    def lock(self, seconds: float = LOCK_SECONDS) -> bool:
        """Acquire the lock; False: another worker has not released it in time.

        A worker that has held the lock for so long that it must have been stopped is ignored.
        """
        patience = None
        while True:
            try:
                flock(self._file, LOCK_EX | LOCK_NB)
            except OSError:
                now = monotonic()
                patience = patience or now + seconds
                self._refused_at = self._refused_at or now
                if now >= patience:
                    return now - self._refused_at > STALE_SECONDS
                sleep(PAUSE_SECONDS)
            else:
                self._refused_at = 0.0
                return True

    def unlock(self) -> None:
        """Release the lock, also after a `lock` that failed."""
        flock(self._file, LOCK_UN)

    @contextmanager
    def locked(self, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the lock or, if it cannot be acquired in time, go on without: for changes that cannot wait."""
        self.lock(seconds)
        try:
            yield
        finally:
            self.unlock()

    def sweep(self, now: float) -> None:
        """Refresh this worker's column and empty those of the dead. Call several times in `STALE_SECONDS`."""
        times = self.times
        times[HEAD + self.column] = now
        if not self.lock():  # tried each time, and so it is known for how long it has not been released
            return
        for other in self.others:
            at = times[HEAD + other]
            if at and now - at > STALE_SECONDS:
                self._empty(other)
        self.unlock()

    @property
    def now(self) -> float:
        """Time of this worker's last sweep."""
        return self.times[HEAD + self.column]

    @property
    def generation(self) -> int:
        return self.numbers[GENERATION]

    def next_generation(self) -> None:
        """Tell the others that a file beside the board is new. Needs the lock."""
        self.numbers[GENERATION] += 1

    def close(self) -> None:
        """Empty this worker's column and detach from the board."""
        with self.locked():
            self._empty(self.column)
        self._file.close()

    def _empty(self, column: int) -> None:
        self.times[HEAD + column] = 0.0
        self.servers.empty(column)
        self.keys.empty(column)


def _map(file: int) -> tuple[memoryview[int], memoryview[float]]:
    """Map the cells, as whole numbers and as times. Raises ValueError."""
    cells = memoryview(mmap(file, 0))
    if len(cells) % CELL:
        raise ValueError("a part of the board is missing")
    return cells.cast("q"), cells.cast("d")


def _tables(cells: memoryview[int], columns: int) -> tuple[Table, Table]:
    """The tables of servers and of keys."""
    servers = Table(cells, HEAD + columns, MAX_SERVERS, shared=6, told=8, columns=columns)
    keys = Table(cells, servers.end, MAX_KEYS, shared=4, told=1, columns=columns)
    return servers, keys
