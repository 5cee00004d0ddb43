"""Memory and GPUs of all nodes: a panel that is pushed."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from django.shortcuts import render

from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.footprint_rows import known_needs
from supervisor_app.fleet.models import ServerState
from supervisor_app.fleet.sample_record import memory_since
from supervisor_app.fleet.sample_rules import HELD_SECONDS
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
    """Return what the panel shows; a page of one node does without its name. At most six queries."""
    nodes = known_devices()
    needs, used = _held() if nodes else ({}, {})
    panels = [
        {
            "node": node.node,
            "problems": node.problems,
            "devices": [
                memory_of(device, needs.get((node.node, device.id), {}), used.get((node.node, device.id)))
                for device in node.devices
            ],
        }
        for node in nodes
    ]
    return {"nodes": panels}


ByServer = dict[tuple[str, str], dict[str, int]]
"""Bytes by node and device, then by server."""


def _held() -> tuple[ByServer, ByServer]:
    """Return what servers with a process need, and what they were seen to use lately."""
    running = ServerState.objects.exclude(pid=None).values_list("server__name", "server__node")
    known = {name: need.devices for name, need in known_needs().items()}
    seen = memory_since(int(time.time()) - HELD_SECONDS)
    needs: ByServer = defaultdict(dict)
    used: ByServer = defaultdict(dict)
    for name, node in running:
        for found, by_device in ((needs, known.get(name, {})), (used, seen.get(name, {}))):
            for device, count in by_device.items():
                found[node, device][name] = count
    return needs, used
