"""`manage.py llama devices` and `llama footprint`: what there is, and what a server needs, as tables."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.common.redact import harmless
from supervisor_app.common.table import aligned
from supervisor_app.common.words import size
from supervisor_app.fleet.conf import resolve
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.footprints import Estimate, estimate_flags, estimate_launch
from supervisor_app.fleet.models import this_node
from supervisor_app.library.model import ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.devices import Device, Survey
    from supervisor_app.fleet.models import LlamaServer


def devices_table(survey: Survey) -> list[str]:
    """Lines for a terminal, without the problems."""
    rows = [
        (harmless(device.name), *map(size, (device.total, device.ours, device.strangers, device.free)))
        for device in survey.devices
    ]
    notes = [f"{harmless(device.name)}: {device.note}" for device in survey.devices if device.note]
    return [*aligned([("Device", "Total", "Our servers", "Others", "Free"), *rows]), *notes]


def estimate_server(server: LlamaServer, devices: Sequence[Device], more: Sequence[str]) -> Estimate:
    """Estimate a server of this node. Raises ModelError, FlagError."""
    if server.node != this_node():
        raise ModelError(f"{server.name} runs on node {server.node}, and so its model is there: ask there.")
    config = resolve(server, last_good(), command=(), cwd=os.getcwd())
    return estimate_launch(config.spec, devices, more)


def estimate_file(path: str, devices: Sequence[Device], more: Sequence[str]) -> Estimate:
    """Estimate a model with these flags. Raises ModelError, FlagError."""
    return estimate_flags(("-m", path, *more), Path.cwd(), devices)


def footprint_table(name: str, estimate: Estimate) -> list[str]:
    """Lines for a terminal: a column for each device, a row for each part, and what there is."""
    footprint, places = estimate.footprint, estimate.footprint.places
    whats = list(dict.fromkeys(part.what for part in footprint.parts))
    found = {(part.what, part.place): part.bytes for part in footprint.parts}
    devices = [estimate.device(place) for place in places]
    rows = [
        ("", *(harmless(estimate.name(place)) for place in places)),
        *((what, *(size(found.get((what, place), 0)) for place in places)) for what in whats),
        ("together", *(size(footprint.on(place)) for place in places)),
        ("free now", *(size(device.free) if device else "unknown" for device in devices)),
    ]
    return [f"{harmless(name)} needs {estimate.sentence}.", "", *aligned(rows), "", *footprint.notes]


def footprint_json(name: str, estimate: Estimate) -> str:
    return json.dumps({"name": name, **estimate.as_json()}, indent=2)
