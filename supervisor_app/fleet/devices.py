"""The devices of nodes: as their supervisors saw them last, and of this one by a look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.machine.devices.survey import this_machine
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.fleet.lease import live_leases
from supervisor_app.fleet.models import ServerState, this_node
from supervisor_app.fleet.snapshots import identity_of_row


@dataclass(frozen=True, kw_only=True)
class NodeDevices:
    """Devices as the supervisor of a node has seen them last, from the database."""

    node: str
    devices: tuple[Device, ...]
    problems: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {"node": self.node, **Survey(self.devices, self.problems).as_json()}


def known_devices() -> list[NodeDevices]:
    """Devices of all nodes that a supervisor holds, by node; of others nobody knows what is used."""
    told = live_leases().order_by("node").values_list("node", "devices")
    return [
        NodeDevices(
            node=node,
            devices=tuple(map(Device.from_json, seen["devices"])),
            problems=tuple(seen["problems"]),
        )
        for node, seen in told
        if seen is not None
    ]


def survey_this_node() -> Survey:
    """Look at the devices of this machine, for at most some seconds. Blocking."""
    return this_machine().survey(_our_pids())


def _our_pids() -> list[int]:
    """Pids of this node's servers that are still the processes which were written down."""
    rows = ServerState.objects.filter(server__node=this_node()).exclude(pid=None)
    found = (identity_of_row(row) for row in rows)
    return [identity.pid for identity in found if identity and identity_of(identity.pid) == identity]
