"""Work in a thread that must not end by it: a failure is told once, and so is its end. Needs Django."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connection

from supervisor_app.common.outage import Outage
from supervisor_app.common.words import MISTAKE

if TYPE_CHECKING:
    from collections.abc import Callable


class Guard:
    """Calls work of one thread, with a database connection of its own, and never raises."""

    def __init__(
        self,
        log: logging.Logger,
        part: str,
        failure: str = "The database failed ({reason}). Supervision goes on.",
        recovery: str = "The database answers again",
        *,
        expected: tuple[type[Exception], ...] = (),
    ) -> None:
        """Take the part's name in the log, and the two sentences of `Outage`.

        They tell of errors of the database and of `expected` ones; any other is a mistake of ours.
        """
        self._outage = Outage(log, f"⚠️ [{part}] {failure}", f"✅ [{part}] {recovery}")
        mistake = f"❌ [{part}] {MISTAKE}. Supervision goes on."
        self._mistakes = Outage(log, mistake, None, level=logging.ERROR)
        self._expected: tuple[type[Exception], ...] = (DatabaseError, InterfaceError, *expected)

    def call(self, work: Callable[[], object]) -> None:
        try:
            work()
        except self._expected as error:
            self._outage.failed(error)
            connection.close()  # whatever is wrong with it, the next call gets a new one
        except Exception as error:
            self._mistakes.failed(error)
        else:
            self._outage.over()
            self._mistakes.over()
