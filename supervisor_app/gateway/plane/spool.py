"""A long body on disk, until it is known where it goes: in a file without a name, for nobody else to see."""

from __future__ import annotations

import asyncio
import os
import tempfile
from functools import partial
from typing import IO, TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from supervisor_app.gateway.llama.outline import Outline

PIECE = 256 * 1024
"""Bytes that are read back at once."""
AT_ONCE = 32 * 1024
"""Bytes that are looked through before the interpreter may do other work: a millisecond."""
MAX_UNWRITTEN = 1024 * 1024
"""Bytes in memory, from which on no more is taken until they are written."""
T = TypeVar("T")


class SpoolOwner(Protocol):
    def pause_reading(self, paused: bool) -> None:
        """Stop the source of the body while no more can be taken, or let it go on."""

    def on_no_room(self, error: OSError) -> None:
        """The body cannot be kept: its owner closes the spool."""


class Spool:
    """Written and outlined by threads: a disk may be slow, and a long body takes a while to look through."""

    def __init__(self, owner: SpoolOwner, outline: Outline, threads: Executor) -> None:
        self.size = 0
        """Bytes that were put in."""
        self._owner = owner
        self._outline = outline
        self._threads = threads
        self._unwritten: list[bytes] = []
        self._unwritten_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._file: IO[bytes] | None = None
        self._is_busy = False
        """A thread is at work on it."""
        self._is_closed = False
        self._is_full = False

    def put(self, data: bytes) -> None:
        if self._is_closed:
            return
        self.size += len(data)
        self._unwritten.append(data)
        self._unwritten_bytes += len(data)
        if self._unwritten_bytes > MAX_UNWRITTEN and not self._is_full:
            self._is_full = True
            self._owner.pause_reading(True)
        if self._writing is None:
            self._writing = asyncio.ensure_future(self._write_all())

    async def outline(self) -> bytes:
        """Return the outline of the body, once all of it has come. Raises OutlineError."""
        if self._writing is not None:
            await self._writing
        return self._outline.end()

    async def read(self, at: int) -> bytes:
        """A piece of it from there on; empty: that was all. Raises OSError."""
        return await self._in_thread(partial(self._read, at))

    def close(self) -> None:
        """Close the spool, at any time and more than once."""
        self._is_closed = True
        self._unwritten.clear()
        if not self._is_busy and self._file is not None:
            file, self._file = self._file, None
            self._threads.submit(file.close)  # to give gigabytes back may take a while

    async def _write_all(self) -> None:
        try:
            while self._unwritten:
                pieces, self._unwritten, self._unwritten_bytes = self._unwritten, [], 0
                await self._in_thread(partial(self._write, pieces))
                if self._is_full and not self._is_closed:
                    self._is_full = False
                    self._owner.pause_reading(False)
        except OSError as error:
            if not self._is_closed:
                self._owner.on_no_room(error)
        finally:
            self._writing = None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Run a call in a thread, one at a time."""
        self._is_busy = True
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        finally:
            self._is_busy = False
            if self._is_closed:
                self.close()

    # In a thread, one after the other

    def _write(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="llamaproxy-", buffering=0)  # noqa: SIM115
        for piece in pieces:
            for at in range(0, len(piece), AT_ONCE):
                self._outline.feed(piece[at : at + AT_ONCE])
            view = memoryview(piece)
            while view:
                view = view[self._file.write(view) :]

    def _read(self, at: int) -> bytes:
        return os.pread(self._file.fileno(), PIECE, at) if self._file is not None else b""
