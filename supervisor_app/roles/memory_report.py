"""`manage.py llama devices` and `llama footprint`: what there is, and what a server needs, as tables."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from supervisor_app.common.redact import harmless
from supervisor_app.common.table import aligned
from supervisor_app.common.words import roughly, size
from supervisor_app.core.devices import HOST
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.fleet.conf import resolve
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.footprint_record import Known, Record, best, others_of
from supervisor_app.fleet.footprint_rows import load_records
from supervisor_app.fleet.launches import Launch, look_at
from supervisor_app.fleet.models import this_node
from supervisor_app.library.model import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor_app.core.devices import Device, Survey
    from supervisor_app.fleet.footprints import Estimate
    from supervisor_app.fleet.models import LlamaServer


def devices_table(survey: Survey) -> list[str]:
    """Lines for a terminal, without the problems."""
    rows = [
        (harmless(device.name), *map(size, (device.total, device.ours, device.strangers, device.free)))
        for device in survey.devices
    ]
    notes = [f"{harmless(device.name)}: {device.note}" for device in survey.devices if device.note]
    return [*aligned([("Device", "Total", "Our servers", "Others", "Free"), *rows]), *notes]


@dataclass(frozen=True, kw_only=True)
class NeedReport:
    """Knowledge of a launch on this node, as it would be started now."""

    launch: Launch
    record: Record
    known: Known

    @property
    def sources(self) -> dict[str, Mapping[str, int]]:
        """Bytes by device of each source that has some, the best last."""
        kept = {"told": self.record.told, "measured": self.record.measured}
        return {source: devices for source, devices in kept.items() if devices}


def report_server(server: LlamaServer, devices: Sequence[Device], more: Sequence[str]) -> NeedReport:
    """Report on a server of this node, with `more` flags behind its own. Raises ModelError."""
    if server.node != this_node():
        raise ModelError(f"{server.name} runs on node {server.node}, and so its model is there: ask there.")
    config = resolve(server, last_good(), command=(), cwd=os.getcwd())
    if config.spec.model_path is None:
        raise ModelError(
            "llama-server chooses or fetches its model itself: there is no file to look into before it runs."
        )
    return _report(replace(config.spec, args=(*config.spec.args, *more)), devices)


def report_file(path: str, devices: Sequence[Device], more: Sequence[str]) -> NeedReport:
    """Report on a model with these flags. Raises ModelError."""
    args = ("-m", path, *more)
    return _report(LaunchSpec(host="", port=0, command=(), args=args, cwd=os.getcwd()), devices)


def _report(spec: LaunchSpec, devices: Sequence[Device]) -> NeedReport:
    """Look at files and what is kept of them, by the build that was used last."""
    launch = look_at(spec, devices)
    kept = load_records(this_node(), launch.fresh.identity) if launch.fresh.identity else []
    if launch.estimate is None and not kept:
        raise ModelError(launch.problem)
    newest = max(kept, key=lambda record: record.measured_at or 0.0, default=launch.fresh)
    record = replace(newest, estimated=launch.fresh.estimated)
    return NeedReport(launch=launch, record=record, known=best(record, others_of(record, kept)))


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
