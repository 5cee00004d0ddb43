"""The search among past requests: what a page's address asks for, and the bounded look that answers it.

A look reads the newest `LOOKED_AT` requests before a point, by an index of their times, and says how far
back that was: neither a rare name nor a million rows make it slow.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.db.models import F, Q
from django.utils.dateparse import parse_datetime
from django.utils.timezone import is_aware

from supervisor_app.gateway.records.record import ERRORS, FAULTS, LONGEST_NAME, NOT_ANSWERED, Outcome
from supervisor_app.traffic.models import WORDS, RequestRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import QuerySet

LOOKED_AT = 20_000
"""Requests that one look goes through: some 50 ms."""
SHOWN = 50
SPANS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
SLOW = (1, 10, 60)
"""Seconds."""
SORTS = {
    "held": "held_ms",
    "first": "ttft_ms",
    "duration": "duration_ms",
    "tokens": "generated_tokens",
    "cached": "cached_tokens",
    "speed": "tokens_per_second",
    "drafted": "drafted_tokens",
}
"""Columns by which a look can be sorted, the largest first; the usual order is the newest first."""
NO_KEY = "-"
"""Stands for requests that came without a key."""

FAILED = Q(status__gte=FAULTS) | Q(
    Q(status__lt=ERRORS) | Q(status=None), outcome__in=[outcome.value for outcome in NOT_ANSWERED]
)
"""Condition that says the same as `Record.failed`; a status of 0 is written as none."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place between two requests, in the order of their times."""

    at: datetime
    number: int

    @classmethod
    def read(cls, text: str) -> Point | None:
        """Read what `str` wrote; None: it is no point."""
        moment, _, number = text.rpartition("~")
        at = _moment(moment)
        return cls(at, int(number)) if at is not None and number.isdecimal() and len(number) < 19 else None

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.number}"

    # The first condition of each is one that an index serves; the other settles ties.

    @property
    def older(self) -> Q:
        return Q(at__lte=self.at) & (Q(at__lt=self.at) | Q(pk__lt=self.number))

    @property
    def not_older(self) -> Q:
        return Q(at__gte=self.at) & (Q(at__gt=self.at) | Q(pk__gte=self.number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Wish of people to see some requests. `read` leaves out what makes no sense."""

    span: str = ""
    since: datetime | None = None
    until: datetime | None = None
    outcome: str = ""
    key: str = ""
    model: str = ""
    slow: int = 0
    failed: bool = False
    sort: str = ""
    before: Point | None = None

    @classmethod
    def read(cls, params: Mapping[str, str]) -> Search:
        slow = params.get("slow", "")
        return cls(
            span=_known(params.get("span", ""), SPANS),
            since=_moment(params.get("from", "")),
            until=_moment(params.get("to", "")),
            outcome=_known(params.get("outcome", ""), [outcome.value for outcome in Outcome]),
            key=params.get("key", "")[:100],
            model=params.get("model", "").strip()[:LONGEST_NAME],
            slow=int(slow) if slow in {str(seconds) for seconds in SLOW} else 0,
            failed=params.get("failed", "") == "1",
            sort=_known(params.get("sort", ""), SORTS),
            before=Point.read(params.get("before", "")),
        )

    @property
    def query(self) -> str:
        """The address's part that asks for this; empty: nothing is asked for."""
        told = {
            "span": self.span,
            "from": self.since.isoformat() if self.since else "",
            "to": self.until.isoformat() if self.until else "",
            "outcome": self.outcome,
            "key": self.key,
            "model": self.model,
            "slow": str(self.slow or ""),
            "failed": "1" if self.failed else "",
            "sort": self.sort,
            "before": str(self.before) if self.before else "",
        }
        return urlencode({name: value for name, value in told.items() if value})

    @property
    def narrows(self) -> bool:
        """True: some requests are left out."""
        return bool(replace(self, sort="", before=None).query)

    def sorted_by(self, column: str) -> Search:
        """The same in another order, from the newest on."""
        return replace(self, sort=column, before=None)

    def from_point(self, point: Point | None) -> Search:
        return replace(self, before=point)

    def wanted(self) -> Q:
        """The condition on requests, apart from their time."""
        wanted = Q(outcome=self.outcome) if self.outcome else Q()
        if self.key:
            wanted &= Q(key="" if self.key == NO_KEY else self.key)
        if self.model:
            wanted &= Q(model__icontains=self.model)
        if self.slow:
            wanted &= Q(duration_ms__gte=1000 * self.slow)
        return wanted & FAILED if self.failed else wanted

    def oldest(self, now: datetime) -> Q:
        """The condition on how old a request may be."""
        bounds = [self.since, now - SPANS[self.span] if self.span else None]
        known = [bound for bound in bounds if bound is not None]
        return Q(at__gte=max(known)) if known else Q()

    @property
    def newest(self) -> Q:
        """The condition on how new a request may be."""
        newest = Q(at__lt=self.until) if self.until is not None else Q()
        return newest & self.before.older if self.before is not None else newest


@dataclass(frozen=True, slots=True)
class Found:
    """Result of one look."""

    requests: list[RequestRecord] = field(default_factory=list)
    older: Point | None = None
    """The point before which the next look begins; None: there is nothing older."""
    looked_back_to: datetime | None = None
    """The look ended here before the page was full; None: it went through all, or the page is full."""


def look(search: Search, now: datetime, server: str = "", limit: int = LOOKED_AT) -> Found:
    """Find requests: two queries, each through `limit` requests at most."""
    of_server = RequestRecord.objects.filter(server=server) if server else RequestRecord.objects.all()
    rows = of_server.filter(search.newest)
    horizon = _horizon(rows.filter(search.oldest(now)), limit)
    # A single lower bound: given two, SQLite may use its index for the wrong one and read a million rows.
    seen = rows.filter(search.oldest(now) if horizon is None else horizon.not_older)
    edge = None if horizon is None else horizon.at
    found = seen.filter(search.wanted()).defer(*WORDS)
    if search.sort:
        column = SORTS[search.sort]
        listed = list(found.exclude(**{column: None}).order_by(F(column).desc(), "-pk")[:SHOWN])
        return Found(listed, horizon, edge)
    listed = list(found.order_by("-at", "-pk")[: SHOWN + 1])
    if len(listed) > SHOWN:
        last = listed[SHOWN - 1]
        return Found(listed[:SHOWN], Point(last.at, last.pk))
    return Found(listed, horizon, edge)


def _horizon(rows: QuerySet[RequestRecord], limit: int) -> Point | None:
    """The oldest request of a look; None: it goes through all. Reads an index alone."""
    edge = rows.order_by("-at", "-pk").values_list("at", "pk")[limit - 1 : limit]
    return next((Point(at, number) for at, number in edge), None)


def _known(value: str, known: Mapping[str, object] | list[str]) -> str:
    return value if value in known else ""


def _moment(text: str) -> datetime | None:
    """Read a moment with its time zone; None: it is none."""
    try:
        moment = parse_datetime(text[:64])
    except ValueError:
        return None
    return moment if moment is not None and is_aware(moment) else None
