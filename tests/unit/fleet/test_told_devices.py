"""Devices of the machine that the engine means."""

from __future__ import annotations

import pytest

from supervisor_app.core.devices import HOST, Device
from supervisor_app.core.diagnosis.told_memory import Accelerator, Told
from supervisor_app.fleet.told_devices import placed


def gpu(name, device="GPU-1"):
    return Device(id=device, name=name, total=1, free=1)


MEMORY = Device(id=HOST, name="Host memory", total=1, free=1)
CARD = gpu("GPU 0: NVIDIA GeForce RTX 3090")
SMALL = gpu("GPU 1: NVIDIA GeForce GTX 1080 Ti", "GPU-2")
TWIN = gpu("GPU 2: NVIDIA GeForce RTX 3090", "GPU-3")
RADEON = gpu("GPU 0000:03:00.0: AMD 0x744c", "0000:03:00.0")
TOLD = {"CUDA0": 5, HOST: 2}


def named(name, address=""):
    return {"CUDA0": Accelerator(name=name, address=address)}


@pytest.mark.parametrize(
    ("devices", "accelerators", "found"),
    [
        ([MEMORY], {}, {HOST: 7}),
        ([MEMORY, CARD], {}, {"GPU-1": 5, HOST: 2}),
        ([MEMORY, CARD, SMALL], named("NVIDIA GeForce GTX 1080 Ti"), {"GPU-2": 5, HOST: 2}),
        ([MEMORY, CARD, RADEON], named("Radeon", "0000:03:00.0"), {"0000:03:00.0": 5, HOST: 2}),
        ([MEMORY, CARD, TWIN], named("NVIDIA GeForce RTX 3090"), {}),
        ([MEMORY, CARD, SMALL], {}, {}),
    ],
    ids=["unified", "the only one", "by name", "by address", "twins", "unnamed"],
)
def test_a_gpu_is_recognised_or_nothing_is_said(devices, accelerators, found):
    assert placed(Told(devices=TOLD, accelerators=accelerators), devices) == found
