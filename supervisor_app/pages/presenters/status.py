"""Servers as strangers see them: a name that was chosen for them, a state, an uptime. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from supervisor_app.common.moments import seconds
from supervisor_app.common.words import share
from supervisor_app.core.status import DOWN, Status
from supervisor_app.fleet.uptime_words import times

if TYPE_CHECKING:
    from supervisor_app.alerts.models import Incident, IncidentNote
    from supervisor_app.fleet.snapshots import ServerView
    from supervisor_app.fleet.uptime import Bar, Slice

DAYS = 90
LEGEND = [
    ("up", gettext_lazy("No downtime")),
    ("warn", gettext_lazy("Down for a moment")),
    ("bad", gettext_lazy("Down")),
    ("plan", gettext_lazy("Maintenance")),
    ("calm", gettext_lazy("Not in use")),
    ("none", gettext_lazy("Nothing known")),
]
"""Colours of days, with their words."""


@dataclass(frozen=True, kw_only=True)
class Day:
    """A day of the bar."""

    tone: str
    says: str


@dataclass(frozen=True, kw_only=True)
class Past:
    """A downtime. Times in Unix seconds; `ended`: None: it goes on."""

    title: str
    since: float
    ended: float | None
    is_planned: bool = False
    """True: the downtime goes on, and its server is in maintenance by now."""
    note: str = ""

    @property
    def lasted(self) -> float:
        return max(0.0, (self.ended or self.since) - self.since)


@dataclass(frozen=True, kw_only=True)
class PublicServer:
    """A server as the page and its badge say it."""

    title: str
    state: str
    tone: str
    until: float | None
    """End of its maintenance, in Unix seconds."""
    uptime: str
    days: tuple[Day, ...]


def past_of(title: str, incident: Incident, note: IncidentNote | None, *, is_planned: bool) -> Past:
    """Put a downtime into the words of the page: nothing of its reason, and not who wrote its note.

    `is_planned`: its server is in maintenance now.
    """
    ended = seconds(incident.recovered_at or incident.closed_at)
    return Past(
        title=title,
        since=incident.opened_at.timestamp(),
        ended=ended,
        is_planned=is_planned and ended is None,
        note=note.text if note is not None else "",
    )


def shown(title: str, view: ServerView, bar: Bar) -> PublicServer:
    """Put a server into the words of the page."""
    state, tone = _state(view)
    uptime = bar.tally.uptime
    return PublicServer(
        title=title,
        state=state,
        tone=tone,
        until=view.plan.until if view.plan else None,
        uptime="–" if uptime is None else share(uptime),
        days=tuple(_day(part) for part in bar.slices),
    )


def _state(view: ServerView) -> tuple[str, str]:
    status = view.status
    if view.is_planned:
        return _("Maintenance"), "plan"
    if not view.is_known:
        return _("Unknown"), "unknown"
    if status.status is Status.READY or status.unloaded:
        return _("Operational"), "up"
    if status.status in DOWN or (status.status is Status.STARTING and status.failure is not None):
        return _("Down"), "bad"
    return (_("Starting"), "busy") if status.status is Status.STARTING else (_("Stopped"), "calm")


def _day(part: Slice) -> Day:
    when = times(part)
    if part.state is None:
        return Day(tone="none", says=_("%(day)s: nothing known") % {"day": when})
    if part.down:
        tone = "warn" if part.tally.down < 0.05 * (part.ended - part.began) else "bad"
        uptime = part.tally.uptime
        return Day(tone=tone, says=f"{when}: {share(uptime) if uptime is not None else _('down')}")
    if part.tally.seconds.get(part.state, 0.0) and part.state == "maintenance":
        return Day(tone="plan", says=_("%(day)s: maintenance") % {"day": when})
    if part.tally.ready:
        return Day(tone="up", says=_("%(day)s: no downtime") % {"day": when})
    return Day(tone="calm", says=_("%(day)s: not in use") % {"day": when})
