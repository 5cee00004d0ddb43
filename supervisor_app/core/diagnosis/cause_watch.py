"""Is the cause of a permanent failure gone? Pure: looks at it come from `causes`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor_app.core.sightings import Cause


@dataclass
class CauseWatch:
    """Comparison of looks at one cause.

    Gone means changed and then at rest: a file that still grows is a download under way. A file that was said
    to be missing and is there at the first look appeared in between, most likely: worth one try. If the
    failure comes again with the same file there, only a change of it counts.
    """

    _first: Cause | None = None
    """The look when the failure happened."""
    _last: Cause | None = None
    _tried: Cause | None = None
    """A cause that was there at the first look, and with which a start has been tried."""

    _unseen: bool = False
    """The cause could not be looked at when the failure happened."""

    def begin(self, cause: Cause | None) -> None:
        """Remember the cause of a failure that has just happened."""
        self._first = self._last = cause
        self._unseen = False

    def begin_unseen(self) -> None:
        """Take the next look for the first one: the cause cannot be looked at now."""
        self._unseen = True

    def is_gone(self, cause: Cause | None) -> bool:
        if self._unseen:
            self.begin(cause)
            return False
        settled, self._last = cause == self._last, cause
        if not settled or cause is None:
            return False
        if cause != self._first or (cause.is_port and not cause.present):
            return True
        if cause.present or cause == self._tried:
            return False
        self._tried = cause
        return True
