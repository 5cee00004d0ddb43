"""GPUs of NVIDIA, by NVML, the library of the driver; https://docs.nvidia.com/deploy/nvml-api/."""

from __future__ import annotations

import importlib
from typing import Any

from supervisor_app.core.devices import Device, Survey

PACKAGE = "pynvml"
"""The module of the distribution `nvidia-ml-py`, which the extra `nvidia` installs."""


def load_nvml() -> Any | None:
    """Return the module that talks to the driver, or None where it is not installed."""
    try:
        return importlib.import_module(PACKAGE)
    except ImportError:
        return None


class NvidiaReader:
    """Asks an NVML module. The driver is opened with the first question, and again after it was lost."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._is_open = False

    def read(self, ours: frozenset[int]) -> Survey:
        """Read all GPUs. A GPU that cannot be read is a problem and does not hide the others."""
        nvml = self._nvml
        try:
            if not self._is_open:
                nvml.nvmlInit()
                self._is_open = True
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            self._is_open = False
            if _is(nvml, error, "NVML_ERROR_LIBRARY_NOT_FOUND", "NVML_ERROR_DRIVER_NOT_LOADED"):
                return Survey()  # a machine without such a GPU
            return Survey(problems=(f"NVIDIA's driver cannot be asked: {error}.",))
        return Survey.of_all(self._device(index, ours) for index in range(count))

    def _device(self, index: int, ours: frozenset[int]) -> Survey:
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            used, unknown = self._used_by(handle, ours)
            device = Device(
                id=_text(nvml.nvmlDeviceGetUUID(handle)),
                name=f"GPU {index}: {_text(nvml.nvmlDeviceGetName(handle))}",
                total=int(memory.total),
                free=int(memory.free),
                ours=min(sum(used.values()), int(memory.used)),
                users=used,
                note="The driver does not tell how much each process uses." if unknown else "",
            )
        except nvml.NVMLError as error:
            if _is(nvml, error, "NVML_ERROR_GPU_IS_LOST"):
                self._is_open = False
            if _is(nvml, error, "NVML_ERROR_NOT_SUPPORTED"):
                return Survey(problems=(f"GPU {index} has no memory of its own: it uses the host's.",))
            return Survey(problems=(f"GPU {index} cannot be read: {error}.",))
        except (TypeError, ValueError, AttributeError) as error:
            return Survey(problems=(f"GPU {index} cannot be read: its driver says nonsense ({error}).",))
        return Survey((device,))

    def _used_by(self, handle: Any, ours: frozenset[int]) -> tuple[dict[int, int], bool]:
        """Bytes of each of our processes, and whether those of one are unknown. One may compute and draw."""
        nvml = self._nvml
        used: dict[int, int] = {}
        unknown = False
        for ask in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
            try:
                processes = ask(handle)
            except nvml.NVMLError:
                unknown = True
                continue
            for process in processes:
                if process.usedGpuMemory is None:  # Windows' driver model, or no right to know
                    unknown = True
                elif process.pid in ours:
                    used[process.pid] = max(used.get(process.pid, 0), int(process.usedGpuMemory))
        return used, unknown


def _is(nvml: Any, error: Any, *names: str) -> bool:
    return getattr(error, "value", None) in {getattr(nvml, name, object()) for name in names}


def _text(said: str | bytes) -> str:
    """Older versions return bytes."""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said
