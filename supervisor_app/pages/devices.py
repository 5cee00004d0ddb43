"""Memory and GPUs of all nodes: a panel that is pushed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django.shortcuts import render

from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.footprint_rows import known_needs
from supervisor_app.fleet.models import ServerState
from supervisor_app.pages.door import page
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.memory import memory_of
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@pushed("supervisor/_devices.html", lambda _asked, _may: [devices_panel()], pause=5.0)
@page(Right.READ)
def devices(request: HttpRequest) -> HttpResponse:
    return render(request, "supervisor/_devices.html", devices_panel())


def devices_panel() -> dict[str, Any]:
    """Return what the panel shows; a page of one node does without its name. At most four queries."""
    nodes = known_devices()
    held = _held() if nodes else {}
    panels = [
        {
            "node": node.node,
            "problems": node.problems,
            "devices": [memory_of(device, held.get((node.node, device.id), {})) for device in node.devices],
        }
        for node in nodes
    ]
    return {"nodes": panels}


def _held() -> dict[tuple[str, str], dict[str, int]]:
    """Return what servers with a process need, by node and device, then by server."""
    running = ServerState.objects.exclude(pid=None).values_list("server__name", "server__node")
    needs, held = known_needs(), defaultdict[tuple[str, str], dict[str, int]](dict)
    for name, node in running:
        for device, count in needs[name].devices.items() if name in needs else ():
            held[node, device][name] = count
    return held
