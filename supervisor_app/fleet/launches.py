"""Launches, as far as memory goes: files, the flags that matter, the engine. Blocking."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor_app.core.diagnosis.named_files import parts_of
from supervisor_app.core.diagnosis.told_memory import Told, told_by_fit_params
from supervisor_app.core.placement.world import Need, Remedy
from supervisor_app.engine.build import build_of
from supervisor_app.engine.fit_params import ask_fit_params, fit_params_beside
from supervisor_app.fleet.footprint_record import Record
from supervisor_app.fleet.footprints import Estimate, estimate_files, read_files
from supervisor_app.library.flags import FlagError, Load, files_of, load_of, words_of
from supervisor_app.library.model import ModelError
from supervisor_app.library.remedies import remedies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor_app.core.devices import Device
    from supervisor_app.core.spec import LaunchSpec
    from supervisor_app.fleet.footprint_record import Known

DIGEST_BYTES = 64 * 1024
"""Read of the beginning of each file, its metadata: files of one size that agree in them need the same."""
MATTERS = ("CUDA_", "HIP_", "ROCR_", "GGML_", "GPU_DEVICE_", "LLAMA_ARG_")
"""Variables of which those that people set for a server may change where it loads, and how much."""
SAVES = 0.02
"""A remedy that saves less than this part is none."""

Mark = tuple[object, ...]
"""Differs when a file or the engine is another one."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A launch with its estimate. `problem`: why there is none, as a sentence."""

    mark: Mark
    fresh: Record
    """Record of the launch without any run."""
    load: Load
    estimate: Estimate | None = None
    remedies: tuple[Remedy, ...] = ()
    """The mildest first, as estimated."""
    problem: str = ""

    def need(self, known: Known) -> Need:
        """Return the need for the planner; a remedy saves as much of what is known as it is estimated to."""
        estimated = self.fresh.estimated
        return Need(
            devices=dict(known.devices),
            source=known.source,
            remedies=tuple(
                replace(remedy, devices=_scaled(remedy.devices, estimated, known.devices))
                for remedy in self.remedies
            ),
            runs=known.runs,
            build=known.build,
            shrinks=self.load.shrinks,
        )


def look_at(spec: LaunchSpec, devices: Sequence[Device], known: Launch | None = None) -> Launch:
    """Look at what would be started; nothing is read when that is the `known` launch.

    A model that cannot be read is no error: the launch says why it has no estimate.
    """
    try:
        load = load_of(spec.args)
    except FlagError as error:
        return Launch(mark=(), fresh=Record(identity="", build=""), load=Load(), problem=str(error))
    files = [Path(spec.cwd, path.expanduser()) for path in files_of(load)]
    parts = [part for file in files for part in parts_of(file)]
    mark = (
        spec.argv,
        spec.cwd,
        spec.environment,
        *map(_stat, (*parts, Path(spec.command[0]) if spec.command else Path())),
        *((device.id, device.total) for device in devices),
    )
    if known is not None and known.mark == mark:
        return known
    environment = {name: value for name, value in spec.environment if name.startswith(MATTERS)}
    flags = words_of(load)
    record = Record(
        # A launch that names no file is known by its whole command line.
        identity=_digest(
            [*map(_contents, parts), flags if files else spec.args, sorted(environment.items())]
        ),
        build=build_of(spec.command, dict(spec.environment)) if spec.command else "",
        model=files[0].name if files else "",
        flags=" ".join(flags),
    )
    return _estimated(Launch(mark=mark, fresh=record, load=load), spec, visible(devices, environment))


def _estimated(launch: Launch, spec: LaunchSpec, devices: Sequence[Device]) -> Launch:
    try:
        files = read_files(launch.load, Path(spec.cwd))
        found = estimate_files(files, launch.load, devices)
        others = [
            Remedy(flags=flags, devices=estimate_files(files, changed, devices).bytes)
            for flags, changed in remedies(files.model, launch.load)
        ]
    except (ModelError, FlagError) as error:
        return replace(launch, problem=str(error))
    total = found.footprint.total
    worth = [each for each in others if sum(each.devices.values()) <= (1 - SAVES) * total]
    return replace(
        launch,
        fresh=replace(launch.fresh, estimated=found.bytes),
        estimate=found,
        remedies=tuple(sorted(worth, key=lambda each: -sum(each.devices.values()))),
    )


def told_beforehand(spec: LaunchSpec, launch: Launch) -> Told | None:
    """Ask the tool beside the engine what a launch will need; None where it is not, or tells only a part.

    It takes the model alone: neither a draft model nor the projector of pictures.
    """
    load, tool = launch.load, fit_params_beside(spec.command)
    if tool is None or load.model is None or load.draft.model is not None or load.projector is not None:
        return None
    adapters = [word for path in load.adapters for word in ("--lora", str(path.expanduser()))]
    # The tool is no server: it has no cache of prompts, and `--fit` is said below.
    words = words_of(replace(load, fit=True, prompt_cache_mib=Load.prompt_cache_mib))
    flags = ["--model", str(load.model.expanduser()), *adapters, *words]
    return told_by_fit_params(ask_fit_params(tool, flags, spec.cwd, dict(spec.environment)))


def _scaled(
    changed: Mapping[str, int], estimated: Mapping[str, int], known: Mapping[str, int]
) -> dict[str, int]:
    """Take from what is known what the estimate saves; less of it where less is known to be needed.

    Never more than that: what a driver takes, or a cache of prompts, no flag of these makes smaller.
    """
    needs = {}
    for device, count in known.items():
        before = estimated.get(device, 0)
        saved = max(0, before - changed.get(device, 0))
        needs[device] = count - round(saved * min(1.0, count / before)) if before else count
    return needs


def visible(devices: Sequence[Device], environment: Mapping[str, str]) -> list[Device]:
    """Return the host and the GPUs that these variables leave to the engine.

    NVIDIA's are numbered here as the driver does it, by PCI address (`CUDA_DEVICE_ORDER=PCI_BUS_ID`).
    """
    hosts = [device for device in devices if device.is_host]
    nvidia = [device for device in devices if device.id.startswith("GPU-")]
    others = [device for device in devices if device not in (*hosts, *nvidia)]
    return [
        *hosts,
        *_chosen(nvidia, environment.get("CUDA_VISIBLE_DEVICES")),
        *_chosen(others, environment.get("HIP_VISIBLE_DEVICES", environment.get("ROCR_VISIBLE_DEVICES"))),
    ]


def _chosen(devices: Sequence[Device], words: str | None) -> Sequence[Device]:
    """Return the devices that numbers or ids name, in order; as in CUDA the first bad word ends them."""
    if words is None:
        return devices
    chosen: list[Device] = []
    for word in words.split(","):
        found = [device for device in devices if word.strip() and device.id.startswith(word.strip())]
        if word.strip().isdigit():
            found = list(devices[int(word) : int(word) + 1])
        if not found:
            break
        chosen.append(found[0])
    return chosen


def _stat(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except (OSError, ValueError):
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _contents(path: Path) -> str:
    """Tell a file by its size and its beginning: a copy is the same, a changed one is not."""
    try:
        with path.open("rb") as file:
            beginning = file.read(DIGEST_BYTES)
            return f"{os.fstat(file.fileno()).st_size} {hashlib.sha256(beginning).hexdigest()}"
    except (OSError, ValueError):
        return ""


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
