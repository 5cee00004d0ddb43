"""Planned work in the words of pages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from supervisor_app.common.moments import moment

if TYPE_CHECKING:
    from supervisor_app.fleet.maintenance_rules import Plan


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """Maintenance in force, as pages say it. `server`: None: of all."""

    server: str | None
    says: str


def row_of(plan: Plan, now: float, *, to_staff: bool) -> PlanRow:
    """Put maintenance into words; who and why are for staff."""
    what = _("maintenance of all servers") if plan.server is None else _("maintenance")
    if plan.until is None:
        says = _("Alerts are muted: %(what)s until somebody ends it") % {"what": what}
    else:
        says = _("Alerts are muted: %(what)s until %(time)s") % {"what": what, "time": _time(plan.until, now)}
    if to_staff and plan.by:
        says += _(" by %(who)s") % {"who": plan.by}
    if to_staff and plan.note:
        says += _(", “%(note)s”") % {"note": plan.note}
    return PlanRow(server=plan.server, says=f"{says}.")


def _time(at: float, now: float) -> str:
    """Return `14:00 UTC`, on another day `2 Dec, 14:00 UTC`."""
    then = moment(at)
    day = "" if then.date() == moment(now).date() else f"{then.day} {then:%b}, "
    return f"{day}{then:%H:%M} UTC"
