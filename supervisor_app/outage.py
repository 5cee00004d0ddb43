"""What fails again and again and must not end what runs on top of it: each distinct error is told once.

With its traceback, because nobody else will show it. Where only Redis or the database is away, a line will do
on the console; the traceback goes with the record all the same.
"""

from __future__ import annotations

import logging
import re

MOST = 20
"""Distinct errors that are told of one outage: a message that differs each time must not fill the log."""
_NUMBER = re.compile(r"\d+")
_AWAY = ("redis.", "channels_redis.", "channels.exceptions", "django.db.utils")
"""Where the errors come from that say that something is away."""


class Outage:
    """`failed` and `over` may be called from any thread, as often as one likes."""

    def __init__(self, log: logging.Logger, subject: str) -> None:
        """`subject`: a tag and what does not work then, as `⚠️ [HUB] Pages may be late`."""
        self._log = log
        self._subject = subject
        self._told: set[str] = set()

    def failed(self, error: BaseException) -> None:
        """Tell it, unless the same was told since the last time that it worked."""
        kind = type(error).__name__
        distinct = f"{kind}: {_NUMBER.sub('#', str(error))}"
        is_news = distinct not in self._told and len(self._told) < MOST
        if is_news:
            self._told.add(distinct)
        self._log.log(
            logging.WARNING if is_news else logging.DEBUG,
            "%s: %s",
            self._subject,
            f"{kind}: {error}" if str(error) else kind,
            exc_info=error if is_news else None,
            extra={"brief": is_away(error)},
        )

    def over(self) -> None:
        """It works: the next failure is news again."""
        self._told.clear()


def is_away(error: BaseException) -> bool:
    """A database, a channel layer or a network that does not answer: no mistake in llamaproxy."""
    return isinstance(error, OSError) or f"{type(error).__module__}.".startswith(_AWAY)
