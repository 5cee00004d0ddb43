"""Rows of incidents and of their servers to the values by which `alerts.rules` decides, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from supervisor_app.alerts import rules as core
from supervisor_app.alerts.rules import AlertEvent
from supervisor_app.common.moments import moment, seconds
from supervisor_app.core.status import Status
from supervisor_app.fleet.conf import apply_overlay
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.snapshots import failure_from_json

if TYPE_CHECKING:
    from supervisor_app.alerts.models import Incident


def incident_of(row: Incident) -> core.Incident:
    """Return a row as a value."""
    return core.Incident(
        opened_at=row.opened_at.timestamp(),
        failure=failure_from_json(row.failure),
        worst=Status(row.worst),
        said=frozenset(AlertEvent(word) for word in row.said),
        recovered_at=seconds(row.recovered_at),
        closes_at=seconds(row.closes_at),
    )


def fill(row: Incident, incident: core.Incident) -> None:
    """Write a value into the columns of a row, which the caller saves."""
    columns: dict[str, Any] = {
        "opened_at": moment(incident.opened_at),
        "recovered_at": moment(incident.recovered_at),
        "closes_at": moment(incident.closes_at),
        "worst": incident.worst.value,
        "failure": incident.failure and incident.failure.as_json(),
        "failure_kind": incident.failure.kind.value if incident.failure else "",
        "said": sorted(event.value for event in incident.said),
    }
    for name, value in columns.items():
        setattr(row, name, value)


def configured(server: LlamaServer) -> LlamaServer:
    """Copy a row with the config file's values. An incident is over when the retries count from 0 again."""
    copied = LlamaServer(
        name=server.name,
        node=server.node,
        stable_after_ms=server.stable_after_ms,
        api_key=server.api_key,
        own_key=server.own_key,
    )
    apply_overlay(copied, last_good())
    return copied
