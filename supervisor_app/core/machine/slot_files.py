"""Files of saved slots: a folder for each server, for its user alone, bounded and pruned. Blocking.

The list of what was saved is written last, and taken away first: files without a list, or of another size
than the list says, are never restored. So a kill at any moment leaves files that are deleted, and a file that
kills the engine does so once.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from supervisor_app.core.context.rules import KEEP_SECONDS, LEAST_FREE, MOST_TOGETHER
from supervisor_app.core.context.saved import SavedContext

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

LIST = "saved.json"
PRIVATE_DIRECTORY = 0o700
PRIVATE_FILE = 0o600


def make_folder(folder: Path) -> None:
    """Make the folder of a server, closed to others. Raises OSError."""
    folder.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    for each in (folder.parent, folder):
        each.chmod(PRIVATE_DIRECTORY)


def name_of(slot: int) -> str:
    return f"slot-{slot}.bin"


def clear(folder: Path) -> None:
    """Delete what was saved, the list first. Raises OSError."""
    (folder / LIST).unlink(missing_ok=True)
    for file in _files(folder):
        file.unlink(missing_ok=True)


def remove(folders: Iterable[Path]) -> None:
    """Delete folders with all that is in them, if they are there."""
    for folder in folders:
        with suppress(OSError):
            (folder / LIST).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def close_file(file: Path) -> int:
    """Keep others from a file that the engine has written, and return its size. Raises OSError."""
    file.chmod(PRIVATE_FILE)
    return file.stat().st_size


def has_room(folder: Path) -> bool:
    """Is so much of the disk free that something may be saved? Raises OSError."""
    return shutil.disk_usage(folder).free >= LEAST_FREE


def write_list(folder: Path, saved: SavedContext) -> None:
    """Write the list, whole or not at all. Raises OSError."""
    written = folder / f"{LIST}.new"
    with written.open("w") as file:
        os.fchmod(file.fileno(), PRIVATE_FILE)
        file.write(saved.as_json())
        file.flush()
        os.fsync(file.fileno())
    written.replace(folder / LIST)


def take_list(folder: Path) -> SavedContext | None:
    """Take the list away and return it; None: there is none, or it cannot be read. Raises OSError."""
    path = folder / LIST
    try:
        saved = SavedContext.parse(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        saved = None
    path.unlink()
    return saved


def prune(root: Path, now: float, *, newest: Path | None = None) -> None:
    """Delete what is too old, and the oldest folders while all are too large together. `now` in Unix seconds.

    `newest` was just written, and stays. Files that cannot be deleted are left for the next time.
    """
    aged = []
    for folder in _folders(root):
        changed, size = _measured(folder)
        if now - changed > KEEP_SECONDS:
            remove([folder])
        elif size:
            aged.append((folder == newest, changed, size, folder))
    aged.sort()
    together = sum(size for _, _, size, _ in aged)
    for is_newest, _, size, folder in aged:
        if together <= MOST_TOGETHER or is_newest:
            return
        with suppress(OSError):
            clear(folder)
        together -= size


def _folders(root: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from [folder for folder in root.iterdir() if folder.is_dir() and not folder.is_symlink()]


def _files(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from [file for file in folder.iterdir() if not file.is_dir()]


def _measured(folder: Path) -> tuple[float, int]:
    """Return the time of the last change, in Unix seconds, and the bytes of all files."""
    changed, size = 0.0, 0
    with suppress(OSError):
        changed = folder.stat().st_mtime
        for file in _files(folder):
            found = file.stat()
            changed, size = max(changed, found.st_mtime), size + found.st_size
    return changed, size
