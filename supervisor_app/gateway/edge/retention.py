"""The end of what gateways have written: requests, their words and sums, entries of quarantine.

Plain functions, for a `DatabaseThread`. Times come in as Unix seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from supervisor_app.common.moments import moment
from supervisor_app.gateway.edge import usage
from supervisor_app.gateway.edge.ledger import WRITE_ROWS
from supervisor_app.traffic.models import WORDS, QuarantinedRequest, RequestRecord

if TYPE_CHECKING:
    from django.db.models import QuerySet

PRUNE_ROWS = 1000
"""Deleted at once: others wait that long for the lock."""
KEEP_DAYS = 30
KEEP_ROWS = 1_000_000
"""Requests, the newest, however many come in `KEEP_DAYS`: some 300 MB without words."""
KEEP_WORDS_DAYS = 7
KEEP_WORDS = 5_000
"""Requests of which the words are kept, the newest: 640 MB, were each as long as may be."""
KEEP_QUARANTINED = 10_000
CUT_ROWS = 4 * WRITE_ROWS
"""Deleted at once of those beyond `KEEP_ROWS`: more than come meanwhile."""


def prune(now: float, days: float = KEEP_DAYS) -> int:
    """Delete the oldest of what is older, at most `PRUNE_ROWS`. Returns how many: 0 when all are gone."""
    old = RequestRecord.objects.filter(at__lt=moment(now - days * 86400)).order_by("at")
    oldest = list(old.values_list("pk", flat=True)[:PRUNE_ROWS])
    count, _ = RequestRecord.objects.filter(pk__in=oldest).delete()
    if not count:
        usage.prune(now)
        forget_words(now)
        QuarantinedRequest.objects.filter(until__lt=moment(now)).delete()
        newest = QuarantinedRequest.objects.order_by("-pk").values_list("pk", flat=True)
        QuarantinedRequest.objects.filter(pk__lte=_nth(newest, KEEP_QUARANTINED)).delete()
    return count


def forget_words(now: float) -> None:
    """Drop what was said in requests that are older than `KEEP_WORDS_DAYS`, or beyond `KEEP_WORDS`."""
    spoken = RequestRecord.objects.filter(captured_request__isnull=False)
    last = _nth(spoken.order_by("-pk").values_list("pk", flat=True), KEEP_WORDS)
    old = spoken.filter(Q(pk__lte=last) | Q(at__lt=moment(now - KEEP_WORDS_DAYS * 86400)))
    while oldest := list(old.order_by("pk").values_list("pk", flat=True)[:PRUNE_ROWS]):
        RequestRecord.objects.filter(pk__in=oldest).update(**dict.fromkeys(WORDS))


def cut() -> bool:
    """Delete some of the oldest requests beyond `KEEP_ROWS`. True: there may be more of them.

    By the primary key, which grows with each row: to count so many would take too long.
    """
    rows = RequestRecord.objects.order_by("pk").values_list("pk", flat=True)
    oldest, newest = rows.first(), rows.last()
    if oldest is None or newest is None or oldest > newest - KEEP_ROWS:
        return False
    last = min(newest - KEEP_ROWS, oldest + CUT_ROWS - 1)
    RequestRecord.objects.filter(pk__lte=last).delete()
    return last < newest - KEEP_ROWS


def _nth(keys: QuerySet[Any, int], number: int) -> int:
    """The primary key after so many; 0 when there are fewer."""
    return next(iter(keys[number : number + 1]), 0)
