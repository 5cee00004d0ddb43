"""Files that processes map as data. Blocking: not for the event loop."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.core.machine.family import family_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PROC = Path("/proc")
_MAPPING = re.compile(
    r"[\da-f]+-[\da-f]+ (?P<mode>\S{4}) [\da-f]+ (?P<file>[\da-f]+:[\da-f]+ \d+) +(?P<path>/.*)?"
)
_RESIDENT = re.compile(r"Rss: +(\d+) kB")
_NO_FILES = ("/dev/", "/memfd:")


def mapped_bytes(pid: int) -> int:
    """Pages in memory of files that a process or a child of it maps as data; 0 when that cannot be seen.

    llama.cpp maps models read-only and shared (`llama_mmap` of its `src/llama-mmap.cpp`), the loader of
    programs maps libraries privately. A file that several processes map counts once.
    """
    found: dict[str, int] = {}
    for member in family_of(pid):
        of_files: dict[str, int] = {}
        for file, resident in _data_mappings(_smaps(member)):
            of_files[file] = of_files.get(file, 0) + resident
        for file, resident in of_files.items():
            found[file] = max(found.get(file, 0), resident)
    return sum(found.values())


def _smaps(pid: int) -> Iterator[str]:
    try:
        with (PROC / str(pid) / "smaps").open(errors="replace") as file:
            yield from file
    except OSError:  # gone, another user's, or no Linux
        return


def _data_mappings(lines: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Device and inode of each file that is mapped read-only and shared, with its bytes in memory."""
    file = ""
    for line in lines:
        if (mapping := _MAPPING.match(line)) is not None:
            path = mapping["path"] or ""
            is_data = mapping["mode"] == "r--s" and path and not path.startswith(_NO_FILES)
            file = mapping["file"] if is_data else ""
        elif file and (resident := _RESIDENT.match(line)) is not None:
            yield file, int(resident[1]) * 1024
