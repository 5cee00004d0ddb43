"""Moments as Unix seconds, which everything reckons in, and as the `datetime` of a database column."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import overload


@overload
def moment(seconds: float) -> datetime: ...
@overload
def moment(seconds: None) -> None: ...
@overload
def moment(seconds: float | None) -> datetime | None: ...
def moment(seconds: float | None) -> datetime | None:
    """Return Unix seconds as a moment of UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


@overload
def seconds(moment: datetime) -> float: ...
@overload
def seconds(moment: None) -> None: ...
@overload
def seconds(moment: datetime | None) -> float | None: ...
def seconds(moment: datetime | None) -> float | None:
    """Return a moment as Unix seconds."""
    return None if moment is None else moment.timestamp()
