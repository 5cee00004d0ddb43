"""Facts for the report of a crash: of the run, and of this host where that is the one it ran on. Blocking."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.common import words
from supervisor_app.common.redact import secrets_of
from supervisor_app.core.command_line.argv import spelled_out
from supervisor_app.core.devices import Device
from supervisor_app.fleet.conf import overlaid
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.crash_groups import crashes_of
from supervisor_app.fleet.history import last_lines
from supervisor_app.fleet.models import NodeLease, Run, this_node
from supervisor_app.fleet.report import Facts, write_report
from supervisor_app.library.model import ModelError, read_model
from supervisor_app.library.quantization import named_quantization, numbered_quantization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.fleet.models import LlamaServer

_DRIVERS = {"NVIDIA": "/proc/driver/nvidia/version", "amdgpu": "/sys/module/amdgpu/version"}


def report_of(run: Run) -> str:
    """Write the report of a run."""
    return write_report(_facts(run))


def newest_crash(server: LlamaServer) -> Run | None:
    """Find the newest run that died; None: none has."""
    return Run.objects.filter(server=server).exclude(failure_kind="").exclude(ended_at=None).first()


def _facts(run: Run) -> Facts:
    evidence = run.evidence
    is_here = run.server.node == this_node()
    return Facts(
        title=run.failure_title or ("It runs" if run.ended_at is None else "It was asked to end"),
        detail=run.failure_detail or run.note,
        story=_story(run),
        ended="it lives" if run.ended_at is None else words.ending(run.exit_code, run.signal),
        times=_times(run),
        build=run.build,
        argv=[str(word) for word in run.argv],
        environment={str(name): str(value) for name, value in run.environment.items()},
        lines=last_lines(run),
        decisive=str(evidence.get("decisive") or ""),
        decisive_at=evidence.get("decisiveAt"),
        host=_host() if is_here else ["another one than that of the pages"],
        devices=_devices(run.server.node) + (_drivers() if is_here else []),
        model=_model(run) if is_here else [],
        secrets=_secrets(run),
    )


def _story(run: Run) -> str:
    ready = "It was never ready" if run.ready_at is None else "It was ready"
    story = f"{ready} and lived for {words.duration(run.uptime.total_seconds())}."
    serving = str(run.evidence.get("serving") or "")
    return f"{story} {serving}".strip()


def _times(run: Run) -> int:
    crashes = crashes_of(run.server)
    this = next((crash for crash in crashes if crash.number == run.pk), None)
    return this is not None and sum(each.key == this.key and each.build == this.build for each in crashes)


def _secrets(run: Run) -> tuple[str, ...]:
    server = run.server
    configured = overlaid(server, last_good())
    key = str(configured.get("api_key", server.api_key) or "")
    return (key, server.own_key, *secrets_of(configured.get("args", server.args)), *secrets_of(run.argv))


def _host() -> list[str]:
    """Name system, kernel and processor, but not the host."""
    name = platform.platform(terse=True)
    with suppress(OSError):
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    return [
        f"{name}, kernel {platform.release()}, {platform.machine()}",
        f"{_processor()}, {words.counted(os.cpu_count() or 1, 'core')}",
    ]


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "processor unknown"


def _devices(node: str) -> list[str]:
    """Tell the memory of each device as the node's supervisor has seen it last."""
    seen = NodeLease.objects.filter(node=node).values_list("devices", flat=True).first()
    devices = map(Device.from_json, seen["devices"]) if seen else ()
    return [f"{'RAM' if each.is_host else each.name}, {words.size(each.total)}" for each in devices]


def _drivers() -> list[str]:
    found = []
    for name, path in _DRIVERS.items():
        with suppress(OSError):
            found.append(f"{name} driver: {Path(path).read_text(errors='replace').splitlines()[0]}")
    return found


def _model(run: Run) -> list[str]:
    """Tell what the header of the model's file says now."""
    path = _model_path([str(word) for word in run.argv])
    if path is None:
        return []
    try:
        model = read_model(path)
    except ModelError:
        return [f"{path.name}, which cannot be read now"]
    kind = numbered_quantization(model.metadata.get("general.file_type")) or named_quantization(path.name)
    said = [path.name, model.architecture, kind, words.size(model.file_size)]
    return [", ".join(word for word in said if word)]


def _model_path(argv: Sequence[str]) -> Path | None:
    words_ = spelled_out(argv)
    paths = [after for word, after in zip(words_, argv[1:], strict=False) if word in ("-m", "--model")]
    return Path(paths[-1]) if paths else None
