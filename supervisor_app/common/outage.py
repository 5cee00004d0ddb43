"""Trouble that may last: each distinct error is logged once, and once that the trouble is over."""

from __future__ import annotations

import logging
import re
from threading import Lock

MOST = 20
"""Distinct errors that are logged of one outage: a message that differs each time must not fill the log."""
_NUMBER = re.compile(r"\d+")
_AWAY = ("redis.", "channels_redis.", "channels.exceptions", "django.db.utils")
"""Modules whose errors say that a store is away."""


class Outage:
    """A part that fails again and again, and must not end what runs on top of it.

    `failed` and `over` may be called from any thread and as often as is convenient.
    """

    def __init__(
        self,
        log: logging.Logger,
        failure: str,
        recovery: str | None,
        *,
        level: int = logging.WARNING,
    ) -> None:
        """Take the two sentences of the log.

        `failure` may hold `{reason}`, the words of the error, and `{error}`, the same after the error's type.
        `recovery` is None where another line of the log says that the part works again.
        """
        self._log = log
        self._failure = failure
        self._recovery = recovery
        self._level = level
        self._known: set[str] = set()
        self._lock = Lock()

    @property
    def lasts(self) -> bool:
        """The part has failed and has not worked since."""
        return bool(self._known)

    def failed(self, error: BaseException) -> None:
        """Log the error with its traceback, unless the same one was logged in this outage.

        Errors of a store that is away are one error in many words ("connection closed", then "connection
        refused"): the first is logged. The console shows a line of these, and no traceback.
        """
        away = is_away(error)
        is_news = self._is_news("away" if away else f"{type(error).__name__}: {_NUMBER.sub('#', str(error))}")
        self._log.log(
            self._level if is_news else logging.DEBUG,
            "%s",
            _worded(self._failure, error),
            exc_info=error if is_news else None,
            extra={"brief": away},
        )

    def over(self) -> None:
        """Log that the part works again, if it had failed. The next failure is news."""
        if not self._known:
            return
        with self._lock:
            ends = bool(self._known)
            self._known.clear()
        if ends and self._recovery is not None:
            self._log.info("%s", self._recovery)

    def _is_news(self, distinct: str) -> bool:
        with self._lock:
            is_news = distinct not in self._known and len(self._known) < MOST
            if is_news:
                self._known.add(distinct)
        return is_news


def is_away(error: BaseException) -> bool:
    """Tell whether a database, a channel layer, a disk or a network failed, and not llamaproxy itself.

    An error that was made of such an error is one, too.
    """
    if isinstance(error, OSError) or f"{type(error).__module__}.".startswith(_AWAY):
        return True
    return error.__cause__ is not None and is_away(error.__cause__)


def _worded(sentence: str, error: BaseException) -> str:
    kind, words = type(error).__name__, str(error)
    return sentence.format(error=f"{kind}: {words}" if words else kind, reason=words or kind)
