"""Moments as people write them on a command line. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_SECONDS = 10 * 365 * 86400
_SPAN = re.compile(r"(\d{1,9})([smhd])")
_TIME = re.compile(r"(\d{1,2}):(\d\d)")


def until(said: str, now: datetime) -> datetime:
    """Read a moment after `now`: `90m`, `2h`, `7d`, `14:00`, `2026-12-01T14:00`, `now`. All are of UTC.

    Raises ValueError, whose words say what is wrong.
    """
    if said == "now":
        return now
    if span := _SPAN.fullmatch(said):
        seconds = min(int(span[1]) * UNITS[span[2]], LONGEST_SECONDS)
        return now + timedelta(seconds=seconds)
    try:
        if clock := _TIME.fullmatch(said):
            day = now.astimezone(UTC).date()
            moment = datetime.combine(day, time(int(clock[1]), int(clock[2])), UTC)
            return moment if moment > now else moment + timedelta(days=1)
        moment = datetime.fromisoformat(said)
    except ValueError:
        raise ValueError(
            f"{said!r} is no moment. Write a time from now (90m, 2h, 7d), a time of day (14:00) or a date "
            "(2026-12-01T14:00), of UTC."
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= now:
        raise ValueError(f"{said!r} is over: it is {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC.")
    return moment
