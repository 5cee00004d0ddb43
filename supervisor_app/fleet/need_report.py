"""Memory that a launch would need here: estimated from its files, and kept of past runs. Blocking."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

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

    from supervisor_app.core.devices import Device
    from supervisor_app.fleet.models import LlamaServer


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
    return report_launch(replace(config.spec, args=(*config.spec.args, *more)), devices)


def report_file(path: str, devices: Sequence[Device], more: Sequence[str]) -> NeedReport:
    """Report on a model with these flags. Raises ModelError."""
    args = ("-m", path, *more)
    return report_launch(LaunchSpec(host="", port=0, command=(), args=args, cwd=os.getcwd()), devices)


def report_launch(spec: LaunchSpec, devices: Sequence[Device]) -> NeedReport:
    """Look at files and what is kept of them, by the build that was used last. Raises ModelError."""
    launch = look_at(spec, devices)
    kept = load_records(this_node(), launch.fresh.identity) if launch.fresh.identity else []
    if launch.estimate is None and not kept:
        raise ModelError(launch.problem)
    newest = max(kept, key=lambda record: record.measured_at or 0.0, default=launch.fresh)
    record = replace(newest, estimated=launch.fresh.estimated)
    return NeedReport(launch=launch, record=record, known=best(record, others_of(record, kept)))
