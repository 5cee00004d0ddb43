"""Hooks by which the apps above the fleet follow its state: one supervisor does it all."""

from __future__ import annotations

from supervisor_app.alerts import incidents, retention
from supervisor_app.fleet.store import StoreHooks
from supervisor_app.traffic.models import explained_deaths, quarantined_rows
from supervisor_app.traffic.reuse import is_isolated, isolating_rows

STORE_HOOKS = StoreHooks(
    follow=incidents.follow,
    explained=explained_deaths,
    isolated=is_isolated,
    rows=(quarantined_rows, isolating_rows),
    prune=retention.prune,
)
