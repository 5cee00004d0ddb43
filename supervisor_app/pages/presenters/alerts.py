"""Incidents in the words of the page of alerts: what happened, how long, and who was told. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from supervisor_app.alerts.rules import AlertEvent, IncidentEnd
from supervisor_app.core.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import date

    from supervisor_app.alerts.models import Incident

EVENTS = {
    AlertEvent.CRASHED: gettext_lazy("crashed"),
    AlertEvent.HUNG: gettext_lazy("hung"),
    AlertEvent.GIVEN_UP: gettext_lazy("given up"),
    AlertEvent.RECOVERED: gettext_lazy("recovered"),
    AlertEvent.LINE: gettext_lazy("line of a log"),
}
"""Events that a channel may want, in the words of its form."""
SENT, FAILED, PENDING = "sent", "failed", "pending"
"""States of a message, as `Delivery.State` has them."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Messages of one incident to one channel that share their fate. `error`: of one that is not through."""

    channel: str
    state: str
    count: int
    error: str = ""

    @property
    def tone(self) -> str:
        return {SENT: "up", FAILED: "bad"}.get(self.state, "warn")

    @property
    def said(self) -> str:
        """`2 messages sent`, without the name of the channel."""
        if self.state == SENT:
            return ngettext("%(count)d message sent", "%(count)d messages sent", self.count) % {
                "count": self.count
            }
        if self.state == FAILED:
            return ngettext(
                "%(count)d message did not get through", "%(count)d messages did not get through", self.count
            ) % {"count": self.count}
        return ngettext("%(count)d message on its way", "%(count)d messages on their way", self.count) % {
            "count": self.count
        }


@dataclass(frozen=True, kw_only=True)
class IncidentRow:
    """An incident as its row says it. Times are Unix seconds; `run`: the number of the run that died."""

    number: int
    server: str
    title: str
    detail: str
    tone: str
    since: float
    ended: float | None
    """None: the server is still down."""
    ending: str
    told: tuple[Told, ...]
    run: int | None

    @property
    def lasted(self) -> float:
        """Seconds of being down, of an incident that is over."""
        return max(0.0, (self.ended or self.since) - self.since)


@dataclass(frozen=True, kw_only=True)
class Day:
    """The past incidents that began on a day of UTC, the newest first."""

    day: date
    rows: tuple[IncidentRow, ...]


def row_of(incident: Incident, told: Sequence[Told], run: int | None) -> IncidentRow:
    """Put an incident, with its messages, into words."""
    ended = incident.recovered_at or incident.closed_at
    failure = incident.failure or {}
    return IncidentRow(
        number=incident.pk,
        server=incident.server.name,
        title=failure.get("title") or _("Down, for a reason that nobody saw"),
        detail=failure.get("detail", ""),
        tone=_tone(incident),
        since=incident.opened_at.timestamp(),
        ended=ended.timestamp() if ended else None,
        ending=_ending(incident),
        told=tuple(told),
        run=run,
    )


def by_day(incidents: Iterable[tuple[Incident, IncidentRow]]) -> list[Day]:
    """Group incidents, which come newest first, by the day of UTC on which they began."""
    days = groupby(incidents, key=lambda pair: pair[0].opened_at.date())
    return [Day(day=day, rows=tuple(row for _incident, row in pairs)) for day, pairs in days]


def told_by_incident(groups: Iterable[Mapping[str, object]], *, names: bool) -> dict[int, list[Told]]:
    """Sort counted messages to their incidents. Without `names`, channels and their errors stay untold."""
    told: dict[int, dict[tuple[str, str], Told]] = {}
    for group in groups:
        channel = str(group["channel__name"]) if names else ""
        key = channel, str(group["state"])
        of_incident = told.setdefault(int(str(group["incident"])), {})
        before = of_incident[key].count if key in of_incident else 0
        of_incident[key] = Told(
            channel=channel,
            state=key[1],
            count=before + int(str(group["count"])),
            error=str(group["error"] or "") if names else "",
        )
    return {number: [each for _key, each in sorted(of.items())] for number, of in told.items()}


def _tone(incident: Incident) -> str:
    if incident.closed_at is not None:
        return "calm"
    if incident.recovered_at is not None:
        return "up"
    return "bad" if incident.worst == Status.ERROR else "warn"


def _ending(incident: Incident) -> str:
    """Say how an incident ended, or what it waits for."""
    if incident.closed_at is None:
        if incident.recovered_at is not None:
            return _("Ready again; over when it stays so.")
        gave_up = incident.worst == Status.ERROR
        return _("Given up: it waits for you.") if gave_up else _("It will be tried again.")
    if incident.ending == IncidentEnd.SEEN:
        return _("A moment, in which nothing was down.")
    return _("Stopped by hand.") if incident.ending == IncidentEnd.STOPPED else _("Ready again.")
