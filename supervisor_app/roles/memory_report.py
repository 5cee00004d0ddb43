"""`manage.py llama devices` and `llama footprint`: what there is, and what a server needs, as tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from supervisor_app.common.redact import harmless
from supervisor_app.common.table import aligned
from supervisor_app.common.words import roughly, size
from supervisor_app.core.devices import HOST

if TYPE_CHECKING:
    from supervisor_app.core.devices import Survey
    from supervisor_app.fleet.footprints import Estimate
    from supervisor_app.fleet.need_report import NeedReport


def devices_table(survey: Survey) -> list[str]:
    """Lines for a terminal, without the problems."""
    rows = [
        (harmless(device.name), *map(size, (device.total, device.ours, device.strangers, device.free)))
        for device in survey.devices
    ]
    notes = [f"{harmless(device.name)}: {device.note}" for device in survey.devices if device.note]
    return [*aligned([("Device", "Total", "Our servers", "Others", "Free"), *rows]), *notes]


def footprint_table(name: str, report: NeedReport) -> list[str]:
    """Return lines for a terminal: a column for each device, a row for each part and source, and remedies."""
    estimate = report.launch.estimate
    rows = _rows(report, estimate) if estimate is not None else [report.launch.problem]
    remedies = [
        f"With {remedy.flags} it would need about {roughly(sum(remedy.devices.values()))}."
        for remedy in report.launch.need(report.known).remedies
    ]
    notes = estimate.footprint.notes if estimate is not None else ()
    return [f"{harmless(name)} needs {report.known.sentence}.", "", *rows, "", *notes, *remedies]


def _rows(report: NeedReport, estimate: Estimate) -> list[str]:
    footprint, places = estimate.footprint, estimate.footprint.places
    whats = list(dict.fromkeys(part.what for part in footprint.parts))
    found = {(part.what, part.place): part.bytes for part in footprint.parts}
    devices = [estimate.device(place) for place in places]
    ids = [device.id if device else HOST for device in devices]
    return aligned(
        [
            ("", *(harmless(estimate.name(place)) for place in places)),
            *((what, *(size(found.get((what, place), 0)) for place in places)) for what in whats),
            ("together", *(size(footprint.on(place)) for place in places)),
            *(
                (source, *(size(counts.get(device, 0)) for device in ids))
                for source, counts in report.sources.items()
            ),
            ("free now", *(size(device.free) if device else "unknown" for device in devices)),
        ]
    )


def footprint_json(name: str, report: NeedReport) -> str:
    """Return all that is known, in bytes: the best with its source, and each source beside it."""
    estimate = report.launch.estimate
    told = {
        "name": name,
        **report.known.as_json(),
        "sources": {"estimated": dict(report.record.estimated), **report.sources},
        "remedies": [
            {"flags": remedy.flags, "bytes": dict(remedy.devices)}
            for remedy in report.launch.need(report.known).remedies
        ],
        "estimate": estimate.as_json() if estimate is not None else None,
    }
    return json.dumps(told, indent=2)
