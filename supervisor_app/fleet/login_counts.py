"""Failed logins, counted by all web processes together: the store of django-axes.

A row for each address, and for each account that somebody there guesses at, as long as the throttle lasts.
Once an address is refused, a guess writes nothing and asks the database nothing: the process remembers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from axes.handlers.cache import AxesCacheHandler
from axes.helpers import get_client_cache_keys
from django.conf import settings
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone
from django.utils.crypto import salted_hmac

from supervisor_app.fleet.models import LoginCount

if TYPE_CHECKING:
    from datetime import datetime

    from django.http import HttpRequest

MOST_ROWS = 10_000
"""Number of rows at which the third that ends first is forgotten."""


class SharedCounts:
    """All that the handler asks of a cache. A count ends a cool-off time after the last failure."""

    def add(self, key: str, value: int, timeout: int) -> bool:
        """Begin to count. False: somebody has begun already."""
        now = timezone.now()
        LoginCount.objects.filter(ends_at__lte=now).delete()
        _make_room()
        try:
            with transaction.atomic():
                LoginCount.objects.create(key=_row(key), failures=value, ends_at=_end(now))
        except IntegrityError:
            return False
        return True

    def incr(self, key: str, delta: int) -> int:
        """Count on. Two that do so at once are both counted."""
        rows = LoginCount.objects.filter(key=_row(key))
        rows.update(failures=F("failures") + delta, ends_at=_end(timezone.now()))
        failures = rows.values_list("failures", flat=True).first() or delta  # it may have ended just now
        _remember(key, failures, settings.AXES_COOLOFF_TIME.total_seconds())
        return failures

    def touch(self, key: str, timeout: int) -> bool:
        """Do nothing: `incr` has set the end."""
        return True

    def get(self, key: str, default: int) -> int:
        known: int | None = cache.get(key)
        if known is not None:
            return known
        now = timezone.now()
        row = LoginCount.objects.filter(key=_row(key), ends_at__gt=now).first()
        if row is None:
            return default
        _remember(key, row.failures, (row.ends_at - now).total_seconds())
        return row.failures

    def delete(self, key: str) -> bool:
        cache.delete(key)
        return bool(LoginCount.objects.filter(key=_row(key)).delete()[0])


class SharedHandler(AxesCacheHandler):
    """Handler of django-axes whose counts are those of all processes."""

    def __init__(self) -> None:
        self.cache = SharedCounts()

    def get_failures(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> int:
        """Return the largest count, or the first that is enough to refuse: the rest is not looked up."""
        most = 0
        for key in get_client_cache_keys(request, credentials):
            most = max(most, self.cache.get(key, 0))
            if most >= settings.AXES_FAILURE_LIMIT:
                break
        return most


def _remember(key: str, failures: int, seconds: float) -> None:
    """Keep what is enough to refuse, which nothing changes before its end."""
    if failures >= settings.AXES_FAILURE_LIMIT:
        cache.set(key, failures, seconds)


def _row(key: str) -> str:
    """Return the key of a row: whatever was typed for a name may be a password, and is in the other key."""
    return salted_hmac("login counts", key, algorithm="sha256").hexdigest()


def _end(now: datetime) -> datetime:
    end: datetime = now + settings.AXES_COOLOFF_TIME
    return end


def _make_room() -> None:
    rows = LoginCount.objects.order_by("ends_at")
    if rows.count() >= MOST_ROWS:
        first = list(rows.values_list("pk", flat=True)[: MOST_ROWS // 3])
        LoginCount.objects.filter(pk__in=first).delete()
