"""Memory and GPUs of all nodes: a panel that asks for itself again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.shortcuts import render

from supervisor_app.fleet.devices import known_devices
from supervisor_app.pages.door import page

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@page
def devices(request: HttpRequest) -> HttpResponse:
    return render(request, "supervisor/_devices.html", devices_panel())


def devices_panel() -> dict[str, Any]:
    """Return what the panel shows; a page of one node does without its name."""
    return {"nodes": known_devices()}
