"""Uptime and slices in words. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from supervisor_app.common.words import share, span
from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.uptime import DAY_SECONDS, Window

if TYPE_CHECKING:
    from supervisor_app.fleet.uptime import Slice, Tally

WORDS = {
    SpanState.READY: gettext_lazy("Ready"),
    SpanState.STARTING: gettext_lazy("Starting"),
    SpanState.CRASHED: gettext_lazy("Crashed"),
    SpanState.HUNG: gettext_lazy("Hung"),
    SpanState.STOPPED: gettext_lazy("Stopped"),
    SpanState.UNLOADED: gettext_lazy("Not loaded"),
    SpanState.MAINTENANCE: gettext_lazy("In maintenance"),
    SpanState.UNKNOWN: gettext_lazy("Not supervised"),
}
OF_WINDOW = {
    Window.DAY: gettext_lazy("24 hours"),
    Window.MONTH: gettext_lazy("30 days"),
    Window.YEAR: gettext_lazy("52 weeks"),
}


def sentence(tally: Tally) -> str:
    """Return the downtimes of some time: `2 downtimes, 13 m together, 99.97 %`."""
    if tally.uptime is None:
        return _("It was not to be ready in this time.")
    if not tally.downtimes:
        return _("No downtime, %(share)s") % {"share": share(tally.uptime)}
    lasted = span(round(tally.down, 1 if tally.down < 60 else 0))
    said = ngettext(
        "%(count)d downtime, %(lasted)s, %(share)s",
        "%(count)d downtimes, %(lasted)s together, %(share)s",
        tally.downtimes,
    )
    return said % {"count": tally.downtimes, "lasted": lasted, "share": share(tally.uptime)}


def told(part: Slice) -> str:
    """Return what was in a slice: `Crashed 14:00-14:30 UTC, 2 m; Out of memory`."""
    if part.state is None:
        return _("Nothing known %(times)s") % {"times": times(part)}
    word = WORDS[part.state]
    if part.state is SpanState.STARTING and part.down:
        word = gettext_lazy("Starting after a failure")
    lasted = span(round(part.seconds, 1 if part.seconds < 60 else 0))
    whole = part.state in (SpanState.READY, SpanState.UNLOADED) and not part.down
    return f"{word} {times(part)}{'' if whole else f', {lasted}'}{f'; {part.reason}' if part.reason else ''}"


def times(part: Slice) -> str:
    """Return from when to when a slice is: `14:00-14:30 UTC`, `28 Nov 14:00 - 29 Nov 09:30 UTC`, `29 Nov`."""
    began, ended = datetime.fromtimestamp(part.began, UTC), datetime.fromtimestamp(part.ended, UTC)
    if part.began % DAY_SECONDS == 0 and part.ended % DAY_SECONDS == 0:
        last = datetime.fromtimestamp(part.ended - 1, UTC)
        return _day(began) if last.date() == began.date() else f"{_day(began)} – {_day(last)}"
    if began.date() == ended.date():
        return f"{began:%H:%M}–{ended:%H:%M} UTC"
    return f"{_day(began)} {began:%H:%M} – {_day(ended)} {ended:%H:%M} UTC"


def _day(when: datetime) -> str:
    return f"{when.day} {when:%b}"
