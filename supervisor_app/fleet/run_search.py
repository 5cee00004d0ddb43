"""The search among the runs of a server: what an address asks for, and the page of runs that answers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from django.db.models import Q

from supervisor_app.common.moments import moment, seconds
from supervisor_app.core.status import FailureKind
from supervisor_app.fleet.models import Run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.fleet.run_tables import RunQuerySet

SHOWN = 50
SPANS = {"24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
OUTCOMES = {
    "failed": ~Q(failure_kind=""),
    "stopped": Q(failure_kind="") & ~Q(ended_at=None),
    "running": Q(ended_at=None),
}
NO_BUILD = "-"
"""Stands for runs of which nobody knows the build."""


@dataclass(frozen=True, kw_only=True)
class RunSearch:
    """Wish of people to see some runs. `read` leaves out what makes no sense, but for times."""

    outcome: str = ""
    kind: str = ""
    build: str = ""
    span: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    """Runs with a lower number than this one."""

    @classmethod
    def read(cls, params: Mapping[str, str]) -> RunSearch:
        """Raises ValueError for what is no time: other pages lead here by them."""
        before = params.get("before", "")
        outcome, span = params.get("outcome", ""), params.get("span", "")
        kind = params.get("kind", "")
        since, until = _between(params)
        return cls(
            outcome=outcome if outcome in OUTCOMES else "",
            kind=kind if kind in {each.value for each in FailureKind} else "",
            build=params.get("build", "").replace("\0", "")[:100],
            span=span if span in SPANS else "",
            since=since,
            until=until,
            before=int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None,
        )

    @property
    def query(self) -> str:
        """The address's part that asks for this; empty: nothing is asked for."""
        since, until = seconds(self.since), seconds(self.until)
        told = {
            "outcome": self.outcome,
            "kind": self.kind,
            "build": self.build,
            "span": self.span,
            "from": "" if since is None else str(int(since)),
            "to": "" if until is None else str(int(until)),
            "before": str(self.before or ""),
        }
        return urlencode({name: value for name, value in told.items() if value})

    @property
    def narrows(self) -> bool:
        """True: some runs are left out."""
        return bool(self.newest.query)

    @property
    def newest(self) -> RunSearch:
        """The same from the newest run on."""
        return replace(self, before=None)

    def wanted(self, now: datetime) -> Q:
        wanted = OUTCOMES.get(self.outcome, Q())
        if self.kind:
            wanted &= Q(failure_kind=self.kind)
        if self.build:
            wanted &= Q(build="" if self.build == NO_BUILD else self.build)
        if self.span:
            wanted &= _lived_since(now - SPANS[self.span])
        if self.since is not None and self.until is not None:
            wanted &= _lived_since(self.since) & Q(started_at__lt=self.until)
        return wanted if self.before is None else wanted & Q(pk__lt=self.before)


@dataclass(frozen=True, kw_only=True)
class FoundRuns:
    runs: list[Run] = field(default_factory=list)
    older: RunSearch | None = None
    """The search that goes on; None: there are no more."""


def find_runs(name: str, search: RunSearch, now: datetime) -> FoundRuns:
    """Find a page of the runs of the server with this name, the newest first. One query."""
    wanted: RunQuerySet = Run.objects.filter(search.wanted(now), server__name=name)
    found = list(wanted.defer("last_lines", "launch")[: SHOWN + 1])
    older = replace(search, before=found[SHOWN - 1].pk) if len(found) > SHOWN else None
    return FoundRuns(runs=found[:SHOWN], older=older)


def builds_of(name: str) -> list[str]:
    """Read the builds that the kept runs of a server had; `NO_BUILD` for those of which none is known."""
    found = Run.objects.filter(server__name=name).order_by("build").values_list("build", flat=True).distinct()
    return [build or NO_BUILD for build in found]


def _lived_since(moment: datetime) -> Q:
    return Q(ended_at=None) | Q(ended_at__gte=moment)


def _between(params: Mapping[str, str]) -> tuple[datetime | None, datetime | None]:
    if "from" not in params and "to" not in params:
        return None, None
    for key in ("from", "to"):
        digits = params.get(key, "")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 10):
            raise ValueError(f"{key}={digits!r} is no time. Say from and to in seconds since 1970.")
    return moment(float(params["from"])), moment(float(params["to"]))
