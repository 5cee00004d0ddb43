"""Devices that the engine means by `CUDA0` and the like. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.core.devices import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from supervisor_app.core.devices import Device
    from supervisor_app.core.diagnosis.told_memory import Accelerator, Told


def placed(told: Told, devices: Sequence[Device]) -> dict[str, int]:
    """Return what was told by `Device.id`; empty when a device cannot be recognised.

    An accelerator on a machine whose GPUs have no memory of their own uses the host's.
    """
    gpus = [device for device in devices if not device.is_host]
    needs: dict[str, int] = {}
    for place, count in told.devices.items():
        device = HOST if place == HOST or not gpus else _gpu(place, told.accelerators, gpus)
        if device is None:
            return {}
        needs[device] = needs.get(device, 0) + count
    return needs


def _gpu(place: str, accelerators: Mapping[str, Accelerator], gpus: Sequence[Device]) -> str | None:
    """Recognise a GPU by its PCI address, else by a name that only one has; an only GPU is meant anyway."""
    said = accelerators.get(place)
    if said is not None:
        if found := [gpu.id for gpu in gpus if said.address and gpu.id.lower() == said.address]:
            return found[0]
        if len(found := [gpu.id for gpu in gpus if gpu.name.endswith(said.name)]) == 1:
            return found[0]
    return gpus[0].id if len(gpus) == 1 else None
