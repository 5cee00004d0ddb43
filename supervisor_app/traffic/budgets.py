"""Tokens that keys have used in a month, from the sums of days: no page and no gateway adds up records."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from django.db.models import F, Q, Sum

from supervisor_app.traffic.models import UsageDay

if TYPE_CHECKING:
    from collections.abc import Collection


TOKENS = F("prompt_tokens") + F("generated_tokens")


@dataclass(frozen=True, kw_only=True)
class Sums:
    """Tokens that a key has used: in the last 7 days, the last 30, and this month; its requests in 7 days."""

    week: int = 0
    thirty: int = 0
    month: int = 0
    requests: int = 0


@dataclass(frozen=True, kw_only=True)
class Month:
    """A month of UTC."""

    first: date
    ends_at: float
    """Unix seconds."""


def month_of(now: float) -> Month:
    """Return the month of a moment in Unix seconds. Pure."""
    first = datetime.fromtimestamp(now, UTC).date().replace(day=1)
    next_first = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return Month(first=first, ends_at=datetime(*next_first.timetuple()[:3], tzinfo=UTC).timestamp())


def used_by(names: Collection[str], since: date) -> dict[str, int]:
    """Return the tokens that keys of these names have used since a day; without names, nothing is read."""
    if not names:
        return {}
    found = UsageDay.objects.filter(key__in=names, day__gte=since).order_by().values_list("key")
    return dict(found.annotate(tokens=Sum(TOKENS)))


def sums_of_keys(names: Collection[str], now: datetime) -> dict[str, Sums]:
    """Return what keys of these names have used, in days of UTC that end with today."""
    today = now.astimezone(UTC).date()
    month = month_of(now.timestamp()).first
    weeks = Q(day__gt=today - timedelta(days=7))
    found = (
        UsageDay.objects.filter(key__in=names, day__gte=min(month, today - timedelta(days=29)))
        .order_by()
        .values_list("key")
        .annotate(
            week=Sum(TOKENS, filter=weeks, default=0),
            thirty=Sum(TOKENS, filter=Q(day__gt=today - timedelta(days=30)), default=0),
            of_month=Sum(TOKENS, filter=Q(day__gte=month), default=0),
            asked=Sum("requests", filter=weeks, default=0),
        )
    )
    return {
        key: Sums(week=week, thirty=thirty, month=of_month, requests=asked)
        for key, week, thirty, of_month, asked in found
    }
