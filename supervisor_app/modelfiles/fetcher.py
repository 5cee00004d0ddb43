"""The process of one download as its supervisor has it: started, heard, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COMMAND = (sys.executable, "-P", "-m", "supervisor_app.library.hub")
"""Command that leaves the working directory out of the path: anybody may have put a module there."""
LAST_WORDS = 2000
WAIT_SECONDS = 0.05
ANSWER_SECONDS = 30.0
"""Time for a look at a repository."""


class Fetcher:
    """A process that does one job. It ends with us: its input does."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        """Raises OSError when there is no process to be had."""
        self._process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl+C is for us
        )
        self._news: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self._rate: float | None = None
        self.last_words = ""
        """Text that is no news: of a crash, its traceback."""
        self._order(job)
        self._reader = Thread(target=self._read, name="download", daemon=True)
        self._reader.start()

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def news(self) -> Iterator[dict[str, Any]]:
        """Yield what it has told since the last time."""
        if not self.runs:
            self._reader.join(1.0)
        with suppress(Empty):
            while True:
                yield self._news.get_nowait()

    def bound(self, bytes_per_second: float) -> None:
        """Bound its pace; 0: no bound."""
        if self._rate != bytes_per_second:
            self._rate = bytes_per_second
            self._order({"rate": bytes_per_second})

    def end(self) -> None:
        """End it now. Bytes that were written stay in the file, and the next process goes on."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """Return its next news, if some come before its end and in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ends = not self.runs
            if (told := next(self.news(), None)) is not None:
                return told
            if ends:
                return None
            time.sleep(WAIT_SECONDS)
        return None

    def _order(self, order: Mapping[str, Any]) -> None:
        with suppress(OSError):  # it has ended
            self._process.stdin.write(json.dumps(order) + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]

    def _read(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        with output:
            for line in output:
                try:
                    told = json.loads(line)
                except ValueError:
                    told = None
                if isinstance(told, dict):
                    self._news.put(told)
                else:
                    self.last_words = (self.last_words + line)[-LAST_WORDS:]
