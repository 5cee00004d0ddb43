"""Log lines for the operator: `14:03:25 [INFO] 🚀 [LLAMA] …`."""

from __future__ import annotations

import logging
import sys
import time
from copy import copy
from typing import TextIO

from supervisor_app.common.redact import harmless, redact

QUIET_SECONDS = 10.0
"""Pause between lines of progress where a line cannot be rewritten."""


class ConsoleFormatter(logging.Formatter):
    """Time (local, as in everything a shell says), level, server (unless it is `default`), words.

    No secret in a quoted text is shown, and no terminal obeys such a text.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(levelname)s] %(about)s%(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        server = getattr(record, "server", "default")
        shown = copy(record)  # other handlers get the record as it was
        if getattr(record, "brief", False):  # its traceback says no more than its line
            shown.exc_info = shown.exc_text = None
        shown.about = "" if server == "default" else f"[{server}] "
        if record.levelname == "WARNING":
            shown.levelname = "WARN"
        return harmless(redact(super().format(shown)))


class ConsoleHandler(logging.StreamHandler[TextIO]):
    """Writes progress (`extra={"transient": True}`) over itself on a terminal, and rarely elsewhere."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._open_line = False
        self._last_progress = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """A terminal that is gone, or a full disk behind it, is no reason to end: then nobody can be told."""
        try:
            self._emit(record)
        except (OSError, ValueError):
            self._open_line = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's own
        """Ignore an error of the log itself: there is nowhere else to tell it."""
        if not isinstance(sys.exception(), OSError | ValueError):
            super().handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        transient = getattr(record, "transient", False)
        if not self.stream.isatty():
            now = time.monotonic()
            if not transient or now - self._last_progress >= QUIET_SECONDS:
                self._last_progress = now if transient else self._last_progress
                super().emit(record)
            return
        if self._open_line:
            self.stream.write("\r\x1b[K")
        self.terminator = "" if transient else "\n"
        self._open_line = transient
        super().emit(record)
