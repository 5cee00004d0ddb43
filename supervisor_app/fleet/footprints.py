"""Estimates of what servers need, from their command lines and the files that these name. Blocking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.core.devices import HOST
from supervisor_app.library.footprint import Files, Footprint, estimate
from supervisor_app.library.model import Model, ModelError, read_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from supervisor_app.core.devices import Device
    from supervisor_app.library.flags import Load
    from supervisor_app.library.placing import Place


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A footprint on the devices of one machine. `devices`: its GPUs in their order, and its host."""

    footprint: Footprint
    gpus: tuple[Device, ...]
    host: Device | None

    def device(self, place: Place) -> Device | None:
        """Return the device that a part lies on, if it was seen."""
        return self.host if place is None else self.gpus[place]

    def name(self, place: Place) -> str:
        device = self.device(place)
        return device.name if device else "Host memory"

    @property
    def bytes(self) -> dict[str, int]:
        """Bytes by `Device.id`."""
        needs: dict[str, int] = {}
        for place in self.footprint.places:
            device = self.device(place)
            needs[device.id if device else HOST] = self.footprint.on(place)
        return needs

    def as_json(self) -> dict[str, Any]:
        footprint = self.footprint
        return {
            "total": footprint.total,
            "devices": [
                {
                    "id": device.id if (device := self.device(place)) else HOST,
                    "name": self.name(place),
                    "bytes": footprint.on(place),
                    "parts": {part.what: part.bytes for part in footprint.parts if part.place == place},
                }
                for place in footprint.places
            ],
            "notes": list(footprint.notes),
        }


def estimate_files(files: Files, load: Load, devices: Sequence[Device]) -> Estimate:
    """Estimate models that were read already. Raises ModelError."""
    gpus = tuple(device for device in devices if not device.is_host)
    return Estimate(
        footprint=estimate(files, load, len(gpus), [float(gpu.free) for gpu in gpus]),
        gpus=gpus,
        host=next((device for device in devices if device.is_host), None),
    )


def read_files(load: Load, folder: Path) -> Files:
    """Read the headers of all models that flags name. Raises ModelError."""
    if load.model is None:
        raise ModelError("The flags name no model (-m).")
    return Files(
        model=_read(folder, load.model),
        draft=_read(folder, load.draft.model) if load.draft.model else None,
        projector=_read(folder, load.projector) if load.projector else None,
        adapters=tuple(_read(folder, path) for path in load.adapters),
    )


def _read(folder: Path, path: Path) -> Model:
    return read_model(folder / path.expanduser())
