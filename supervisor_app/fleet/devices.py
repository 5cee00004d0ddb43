"""The devices of this node, and which processes on it are ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.machine.devices.survey import this_machine
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.fleet.models import ServerState, this_node
from supervisor_app.fleet.snapshots import identity_of_row

if TYPE_CHECKING:
    from supervisor_app.core.machine.devices.device import Survey


def survey_this_node() -> Survey:
    """Look at the devices of this machine, for at most some seconds. Blocking."""
    return this_machine().survey(_our_pids())


def _our_pids() -> list[int]:
    """Pids of this node's servers that are still the processes which were written down."""
    rows = ServerState.objects.filter(server__node=this_node()).exclude(pid=None)
    found = (identity_of_row(row) for row in rows)
    return [identity.pid for identity in found if identity and identity_of(identity.pid) == identity]
