"""Hooks by which the apps above the fleet follow its state: one supervisor does it all."""

from __future__ import annotations

from supervisor_app.alerts import incidents, retention
from supervisor_app.fleet.store import StoreHooks
from supervisor_app.traffic.models import explained_deaths
from supervisor_app.traffic.reuse import is_isolated

STORE_HOOKS = StoreHooks(
    follow=incidents.follow, explained=explained_deaths, isolated=is_isolated, prune=retention.prune
)
