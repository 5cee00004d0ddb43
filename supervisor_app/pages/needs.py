"""Memory that a server needs, as its page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.footprint_rows import known_needs
from supervisor_app.fleet.models import LlamaServer

if TYPE_CHECKING:
    from supervisor_app.fleet.footprint_record import Known


@dataclass(frozen=True, kw_only=True)
class NeedPanel:
    """Need of a server. `rows`: the name of each device, and the bytes there."""

    known: Known
    rows: tuple[tuple[str, int], ...]


def need_panel(name: str) -> NeedPanel | None:
    """Return what is known of a server; None: its supervisor has not looked yet."""
    known = known_needs(name).get(name)
    if known is None or not known.devices:
        return None
    home = LlamaServer.objects.get(name=name).node
    names = {
        device.id: device.name for node in known_devices() if node.node == home for device in node.devices
    }
    rows = ((names.get(device, device), count) for device, count in sorted(known.devices.items()))
    return NeedPanel(known=known, rows=tuple(rows))
