"""The board: a little memory that all workers of one gateway see.

Each worker has a column, in which only it writes; all read all columns. What belongs to nobody alone is
changed under a lock. Whoever is killed leaves nothing behind: the kernel gives its lock back, and a column
whose worker has not been heard of for a while is emptied by the others.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from mmap import mmap
from pathlib import Path
from struct import calcsize
from time import monotonic, sleep

MAX_SERVERS = 256
MAX_KEYS = 1024
MAX_TURNS = 4096
"""Places for the latest turns of owners at servers. Two that share one share their turns, too."""
STALE_SECONDS = 2.0
"""Who has not been heard of for so long is gone, or does not move; so is who has had the lock for so long."""
LOCK_SECONDS = 0.0003
"""The lock is held for microseconds. Somebody who has lost the processor meanwhile is not waited for."""
PAUSE_SECONDS = 20e-6
CELL = calcsize("q")
COLUMNS, GENERATION, HEAD = 0, 1, 2
"""Cells: how many workers there are; a number that grows when a file beside the board is new; rows begin."""


class Table:
    """Rows of one kind. A row is its key (0: it is free), cells that all share and, for each worker, cells
    that it alone writes.
    """

    def __init__(
        self, cells: memoryview[int], first: int, rows: int, *, shared: int, told: int, columns: int
    ) -> None:
        """`shared` and `told`: cells of a row, without its key, and of a worker in it."""
        self._cells = cells
        self._told = told
        self._first_told = 1 + shared
        self._width = 1 + shared + told * columns
        self.end = first + rows * self._width
        self.rows = range(first, self.end, self._width)

    def row_of(self, key: int) -> int | None:
        """Where its row begins, which is given out if need be: have the lock. None: all are taken."""
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
        """Where that begins which this worker alone writes."""
        return row + self._first_told + self._told * column

    def empty(self, column: int) -> None:
        for row in self.rows:
            if self._cells[row]:
                first = self.told(row, column)
                self._clear(first, first + self._told)

    def free(self, row: int) -> None:
        """For another key. Have the lock."""
        self._clear(row, row + self._width)

    def _clear(self, first: int, end: int) -> None:
        for cell in range(first, end):
            self._cells[cell] = 0


class Board:
    """As one worker has it. Cells are 8 bytes: `numbers` and `times` are two views of the same.

    All times are those of the clock that loops and `time.monotonic` have in common.
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
        """For so many workers. Raises OSError."""
        cells = array("q", [columns])
        *_, last = _tables(memoryview(cells), columns)
        # Written, not only made long: on a full disk that fails here, and not with SIGBUS later.
        path.write_bytes(cells.tobytes() + bytes((last.end + MAX_TURNS - 1) * CELL))

    def lock(self, seconds: float = LOCK_SECONDS) -> bool:
        """False: another worker has it, and did not give it back in time.

        One that has it for so long that it must have been stopped is not respected any more.
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
        """Also when there was none to be had."""
        flock(self._file, LOCK_UN)

    @contextmanager
    def locked(self, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """For what cannot wait: without the lock, if it is not to be had."""
        self.lock(seconds)
        try:
            yield
        finally:
            self.unlock()

    def sweep(self, now: float) -> None:
        """Several times in `STALE_SECONDS`: says that this worker lives; empties the columns of the dead."""
        times = self.times
        times[HEAD + self.column] = now
        if not self.lock():  # asked for each time, and so it is known how long it has not been given back
            return
        for other in self.others:
            at = times[HEAD + other]
            if at and now - at > STALE_SECONDS:
                self._empty(other)
        self.unlock()

    @property
    def now(self) -> float:
        """When this worker swept last."""
        return self.times[HEAD + self.column]

    @property
    def generation(self) -> int:
        return self.numbers[GENERATION]

    def next_generation(self) -> None:
        """Have the lock."""
        self.numbers[GENERATION] += 1

    def close(self) -> None:
        """This worker has nothing to tell any more."""
        with self.locked():
            self._empty(self.column)
        self._file.close()

    def _empty(self, column: int) -> None:
        self.times[HEAD + column] = 0.0
        self.servers.empty(column)
        self.keys.empty(column)


def _map(file: int) -> tuple[memoryview[int], memoryview[float]]:
    """The same cells, as whole numbers and as times. Raises ValueError."""
    cells = memoryview(mmap(file, 0))
    if len(cells) % CELL:
        raise ValueError("a part of the board is missing")
    return cells.cast("q"), cells.cast("d")


def _tables(cells: memoryview[int], columns: int) -> tuple[Table, Table]:
    """Of servers and of keys."""
    servers = Table(cells, HEAD + columns, MAX_SERVERS, shared=6, told=8, columns=columns)
    keys = Table(cells, servers.end, MAX_KEYS, shared=4, told=1, columns=columns)
    return servers, keys
