"""Lines that are watched for and of which nobody has been told yet: at most one message a minute. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

EVERY_SECONDS = 60.0
"""Least time between two messages of a watch about one log."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Count of a watch in one log since the last message. Times are Unix seconds."""

    count: int = 0
    line: str = ""
    """The first of them, as people may see it."""
    at: float = 0.0
    """Moment of that line."""
    skipped: int = 0
    """Bytes that were not looked at, because they came too fast."""
    told_at: float | None = None

    def add(self, count: int, line: str, at: float) -> Tally:
        """Count more lines, of which this is the first."""
        if self.count:
            return replace(self, count=self.count + count)
        return replace(self, count=count, line=line, at=at)

    def skip(self, skipped: int) -> Tally:
        return replace(self, skipped=self.skipped + skipped)

    def is_due(self, now: float) -> bool:
        """Is somebody to be told now? A clock that was set back holds nothing up."""
        waited = self.told_at is None or not 0 <= now - self.told_at < EVERY_SECONDS
        return self.count > 0 and waited

    def told(self, now: float) -> Tally:
        return Tally(told_at=now)
