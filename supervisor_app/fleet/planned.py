"""Servers as everybody sees them, with the maintenance that they are in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now

from supervisor_app.common.database import Rows, Unchanged
from supervisor_app.fleet.maintenance import plan_of, plans
from supervisor_app.fleet.maintenance_tables import Maintenance
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.silence import silent_since, with_silence
from supervisor_app.fleet.snapshots import load_views

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from supervisor_app.fleet.maintenance_rules import Plan
    from supervisor_app.fleet.models import ServerState
    from supervisor_app.fleet.snapshots import Mark, ServerView


def planned_views(*names: str) -> list[ServerView]:
    """Return all servers, or those with these names, with the maintenance that they are in. Three queries."""
    known = plans()
    return [replace(view, plan=plan_of(view.status.name, known)) for view in load_views(*names)]


def load_marks() -> dict[str, Mark]:
    """Load the mark of every server, by name: cheap to compare. Two queries."""
    marks, known = {}, plans()
    servers = LlamaServer.objects.only("name", "state__version", "state__seen_at").select_related("state")
    for server in with_silence(servers):
        state: ServerState | None = getattr(server, "state", None)
        version, is_silent = (state.version, silent_since(server) is not None) if state else (0, False)
        plan = plan_of(server.name, known)
        marks[server.name] = version, is_silent, plan.number if plan else 0
    return marks


def _in_force() -> QuerySet[Maintenance, Any]:
    rows = Maintenance.objects.in_force(Now())
    return rows.order_by("pk").values_list("pk", "server__name", "begun_at", "until", "begun_by", "note")


class KnownPlans:
    """Maintenance as it was last read, for those who must not wait for the database."""

    def __init__(self) -> None:
        self._known: list[Plan] = []
        self._plans = Unchanged(plans, rows=Rows(_in_force))

    def look(self) -> None:
        """Read what has changed. Raises what the database raises; then what was known stays."""
        self._known = self._plans()

    def of(self, name: str, now: float) -> Plan | None:
        """Return the maintenance of a server, as far as that is not over since. `now`: Unix seconds."""
        return plan_of(name, [plan for plan in self._known if plan.until is None or plan.until > now])
