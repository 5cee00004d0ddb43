"""Facts about the files of a model, without opening them. Blocks, on a dead mount for ever.

Not for the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.core.diagnosis.named_files import parts_of

if TYPE_CHECKING:
    from pathlib import Path

    from supervisor_app.core.spec import LaunchSpec


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """Facts about the files of a model, all its parts together."""

    size: int = 0
    """Bytes; 0 when it cannot be read."""
    modified_at: int | None = None
    """Unix seconds."""


UNKNOWN_FILE = FileFacts()


def file_facts(spec: LaunchSpec) -> FileFacts:
    """Look at the files of a server's model; a router has none of its own."""
    file = spec.model_file
    if file is None:
        return UNKNOWN_FILE
    return FileFacts(size=files_size(file), modified_at=_mtime(file))


def files_size(file: Path) -> int:
    """Bytes of a model and, for `name-00001-of-00003.gguf`, of all its parts; 0 when it cannot be read."""
    try:
        return sum(part.stat().st_size for part in parts_of(file))
    except (OSError, ValueError):  # a name that this locale cannot encode, or no file system can hold
        return 0


def _mtime(file: Path) -> int | None:
    try:
        return int(file.stat().st_mtime)
    except (OSError, ValueError):
        return None
