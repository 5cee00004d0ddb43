"""Reading a model into the page cache, before the server that needs it is started. Blocking: for a thread."""

from __future__ import annotations

import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from supervisor_app.core.diagnosis.named_files import named_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from supervisor_app.core.spec import LaunchSpec

CHUNK = 4 * 2**20
"""Bytes between two looks at whether to go on."""
LOWEST = 7
"""Priority of reads behind those of others, where the scheduler of the disk knows priorities."""


def read_ahead(spec: LaunchSpec, most: int, stopped: Callable[[], bool]) -> int:
    """Read the model, its parts and what flags name beside it; nothing if that is more than `most` bytes.

    Return the bytes that came from a disk. Raises OSError.
    """
    sizes = {file.path: _size(file.path) for file in named_files(spec) if file.gguf}
    if sum(sizes.values()) > most:
        return 0
    _give_way()
    return sum(_read(path, size, stopped) for path, size in sizes.items() if size)


def _size(path: Path) -> int:
    """Bytes; 0 of what is no file: to open a pipe would wait for its writer."""
    found = path.stat()
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _read(path: Path, size: int, stopped: Callable[[], bool]) -> int:
    buffer, read = bytearray(CHUNK), 0
    with path.open("rb", buffering=0) as file:
        for start in range(0, size, CHUNK):
            if stopped():
                break
            if not _is_cached(file.fileno(), start, min(start + CHUNK, size) - 1):
                read += os.preadv(file.fileno(), [buffer], start)
    return read


def _is_cached(file: int, first: int, last: int) -> bool:
    """Tell whether both ends of a chunk are in memory; False where that cannot be known."""
    byte = bytearray(1)
    try:
        return all(os.preadv(file, [byte], at, os.RWF_NOWAIT) for at in (first, last))
    except (OSError, AttributeError):  # not there yet; a file system or a system that does not tell
        return False


def _give_way() -> None:
    """Let this thread read behind others."""
    with suppress(AttributeError, psutil.Error, OSError):
        psutil.Process(threading.get_native_id()).ionice(psutil.IOPRIO_CLASS_BE, LOWEST)
