"""Logs as a server and its supervisor leave them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from supervisor_app.core.machine.logs import LogFile
from supervisor_app.logs.lives import Life

if TYPE_CHECKING:
    from pathlib import Path

BEGAN = 1_700_000_000.0


def log_in(directory: Path, **options) -> LogFile:
    return LogFile(path=directory / "default.log", **options)


def write(log: LogFile, text: str | bytes) -> None:
    with log.open() as file:
        file.write(text.encode() if isinstance(text, str) else text)


def mark(at: float = BEGAN, command: str = "llama-server -m a.gguf") -> str:
    return f"--- {datetime.fromtimestamp(int(at), UTC).isoformat()} starting: {command}\n"


def stamped(seconds: float, text: str, level: str = "I") -> str:
    micro = round(seconds * 1_000_000)
    whole, rest = divmod(micro, 1_000_000)
    return f"{whole // 60}.{whole % 60:02}.{rest // 1000:03}.{rest % 1000:03} {level} {text}\n"


def life(number: int = 1, at: float = BEGAN, ended: float | None = None, **fields) -> Life:
    return Life(
        number=number,
        started_at=at,
        ended_at=ended,
        title=fields.pop("title", "" if ended is None else "Out of memory"),
        failed=fields.pop("failed", ended is not None),
        argv=fields.pop("argv", ("llama-server", "-m", "a.gguf")),
        **fields,
    )
