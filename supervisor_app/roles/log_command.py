"""`manage.py llama logs`: the end of a server's log, and what is written to it from then on."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from django.core.management.base import CommandError

from supervisor_app.common.redact import harmless
from supervisor_app.fleet.logfiles import FoundLog, find_log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from supervisor_app.fleet.models import LlamaServer

FOLLOW_SECONDS = 0.25
FOLLOW_BYTES = 4 * 1024 * 1024
"""Shown at most of what came between two looks; of a flood that is its end."""


class LogCommand:
    """Show the log of a server: its lines to `write`, what became of the file to `remark`."""

    def __init__(
        self, server: LlamaServer, *, write: Callable[[str], object], remark: Callable[[str], object]
    ) -> None:
        self._server = server
        self._write = write
        self._remark = remark

    def show(self, lines: int, *, follow: bool) -> None:
        """Print the last lines; `follow`: go on until Ctrl+C. Raises CommandError."""
        found = find_log(self._server)
        if not found.exists:
            where = f"{self._server.name} runs on node {self._server.node}, or was never started."
            raise CommandError(f"{found.log.path} does not exist: {found.note or where}")
        self._note(found)
        with suppress(KeyboardInterrupt, BrokenPipeError):
            position = found.log.size()
            self._print(found.log.tail(lines))
            while follow:
                time.sleep(FOLLOW_SECONDS)
                found, position = self._show_news(found, position)

    def _show_news(self, found: FoundLog, position: int) -> tuple[FoundLog, int]:
        """Print what was written since, wherever the log is by now."""
        with suppress(OSError):
            new, position = found.log.follow(position, FOLLOW_BYTES)
            self._print(new)
        now = find_log(self._server)
        if now == found:
            return found, position
        if now.note != found.note:
            self._note(now)
        return now, position if now.inode == found.inode else 0

    def _print(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._write(harmless(line))

    def _note(self, found: FoundLog) -> None:
        if found.note:
            self._remark(f"⚠️ {found.note}")
