"""The tab of a server that tells what it does now: the part that is pushed, and charts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.db.models.functions import Now
from django.http import Http404
from django.shortcuts import redirect, render

from supervisor_app.core.devices import HOST
from supervisor_app.core.status import Status
from supervisor_app.fleet.course import FRESH_SECONDS
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.models import LlamaServer, Pulse, ServerState
from supervisor_app.fleet.sample_record import newest_point, points_since, seconds_since
from supervisor_app.fleet.sample_rules import HELD_SECONDS, MEMORY
from supervisor_app.pages.door import page
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.charts import SPANS, charts
from supervisor_app.pages.presenters.now import figures_in_words, latest, memory_name, slot_rows
from supervisor_app.pages.presenters.traffic import queues
from supervisor_app.traffic.live import flight
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpResponseBase

    from supervisor_app.web.http import HtmxHttpRequest

LATEST_SECONDS = 300
"""Time over which figures of answers are a mean."""


@pushed("supervisor/_now.html", lambda asked, _may: [now_panel(asked["name"])])
@page(Right.READ)
def now(request: HtmxHttpRequest, name: str) -> HttpResponseBase:
    """Answer with the part that is pushed to open pages."""
    if not request.htmx:
        return redirect("server", name=name)
    return render(request, "supervisor/_now.html", now_panel(name))


def now_panel(name: str) -> dict[str, Any]:
    """Return what `supervisor/_now.html` shows. Seven queries at most. Raises Http404."""
    server = LlamaServer.objects.select_related("state").filter(name=name).first()
    if server is None:
        raise Http404(f"There is no server {name}.")
    state, moment = getattr(server, "state", None), time.time()
    runs = state is not None and _works(state)
    devices = device_names(server.node)
    flying = flight(name)
    figures, figures_at = _figures(name, int(moment), runs=runs)
    return {
        "name": name,
        "runs": runs,
        "rows": slot_rows(_slots(name) if runs else [], flying.requests),
        "queues": queues(flying.waiting, flying.requests, {name: state.detail if state else ""}),
        "figures": figures_in_words(figures, devices),
        "figures_at": figures_at,
        "now": moment,
        "devices": devices,
        "memory": [
            (f"{MEMORY}{device}", memory_name(f"{MEMORY}{device}", devices)) for device in (HOST, *devices)
        ],
    }


def _works(state: ServerState) -> bool:
    """Does it compute: also the requests that it finishes before it stops?"""
    return state.status == Status.READY or (state.draining and state.status == Status.STOPPING)


def _figures(name: str, now: int, *, runs: bool) -> tuple[Mapping[str, float], int | None]:
    """Return the newest figures, and when that was if it is not now. Three queries at most."""
    samples = seconds_since(name, now - LATEST_SECONDS) if runs else []
    if samples:
        at = samples[-1][0]
        return latest(samples), at if now - at > HELD_SECONDS else None
    last = newest_point(name)
    if last is None:
        return {}, None
    return {key: mean.mean for key, mean in last.figures.items()}, last.at


def _slots(name: str) -> list[dict[str, Any]]:
    """Slots as they were seen last; while nobody sees them work, none does."""
    pulse = Pulse.objects.filter(server__name=name).annotate(asked_at=Now()).first()
    if pulse is None:
        return []
    age = (pulse.asked_at - pulse.seen_at).total_seconds()
    slots: list[dict[str, Any]] = pulse.slots
    return slots if age < FRESH_SECONDS else [{**slot, "works": False} for slot in slots]


def history_panel(name: str, span: str, devices: Mapping[str, str]) -> dict[str, Any]:
    """Return what `supervisor/_charts.html` shows of a day or a year. One query.

    `devices`: names of the devices by `Device.id`.
    """
    chosen, moment = SPANS.get(span, SPANS["day"]), int(time.time())
    points = points_since(name, chosen.step, moment - chosen.seconds)
    return {"span": chosen.key, "charts": charts(points, chosen, moment, devices)}


def device_names(node: str) -> dict[str, str]:
    """Names of the GPUs of a node by `Device.id`. One query."""
    return {
        device.id: device.name
        for known in known_devices()
        if known.node == node
        for device in known.devices
        if not device.is_host
    }
