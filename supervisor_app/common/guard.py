"""Work in a thread that must not end by it: a failure is told once, and so is its end. Needs Django."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import DatabaseError, InterfaceError, connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.common.outage import Outage


class Guard:
    """Calls work of one thread, with a database connection of its own, and never raises."""

    def __init__(
        self, outage: Outage, mistakes: Outage, *, expected: tuple[type[Exception], ...] = ()
    ) -> None:
        """`outage` is told of errors of the database and of `expected` ones, `mistakes` of all others."""
        self._outage = outage
        self._mistakes = mistakes
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
