"""GPUs of NVIDIA, by a driver's library that is played here with its own kinds of answers and errors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from supervisor_app.core.machine.devices.nvidia import NvidiaReader, load_nvml

GIB = 2**30
OURS = frozenset({7, 8})


class NVMLError(Exception):
    def __init__(self, value, text):
        super().__init__(text)
        self.value = value


class Nvml:
    """`pynvml`, as far as it is used."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED = 3
    NVML_ERROR_DRIVER_NOT_LOADED = 9
    NVML_ERROR_LIBRARY_NOT_FOUND = 12
    NVML_ERROR_GPU_IS_LOST = 15

    def __init__(self, *gpus, error=None):
        self.gpus, self.error, self.opened = gpus, error, 0

    def nvmlInit(self):  # noqa: N802
        self.opened += 1
        if self.error is not None:
            raise self.error

    def nvmlDeviceGetCount(self):  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802
        return self.gpus[index]

    def nvmlDeviceGetMemoryInfo(self, gpu):  # noqa: N802
        return self._said(gpu["memory"])

    def nvmlDeviceGetUUID(self, gpu):  # noqa: N802
        return gpu.get("uuid", "GPU-1")

    def nvmlDeviceGetName(self, gpu):  # noqa: N802
        return gpu.get("name", "NVIDIA H200")

    def nvmlDeviceGetComputeRunningProcesses(self, gpu):  # noqa: N802
        return self._said(gpu.get("computing", []))

    def nvmlDeviceGetGraphicsRunningProcesses(self, gpu):  # noqa: N802
        return self._said(gpu.get("drawing", []))

    def _said(self, answer):
        if isinstance(answer, NVMLError):
            raise answer
        return answer


def memory(total=24, used=10):
    return SimpleNamespace(total=total * GIB, used=used * GIB, free=(total - used) * GIB)


def process(pid, gib):
    return SimpleNamespace(pid=pid, usedGpuMemory=None if gib is None else gib * GIB)


def test_the_memory_of_a_gpu_is_divided_into_ours_others_and_free():
    gpu = {
        "memory": memory(),
        "computing": [process(7, 3), process(8, 1), process(99, 4)],
        "drawing": [process(7, 3)],
    }
    found = NvidiaReader(Nvml(gpu)).read(OURS)
    (device,) = found.devices
    assert (device.id, device.name) == ("GPU-1", "GPU 0: NVIDIA H200")
    assert (device.total, device.free) == (24 * GIB, 14 * GIB)
    assert (device.ours, device.strangers) == (4 * GIB, 6 * GIB)
    assert device.users == {7: 3 * GIB, 8: GIB}
    assert found.problems == ()


def test_older_versions_say_names_in_bytes():
    (device,) = (
        NvidiaReader(Nvml({"memory": memory(), "name": b"Tesla T4", "uuid": b"GPU-2"})).read(OURS).devices
    )
    assert (device.id, device.name) == ("GPU-2", "GPU 0: Tesla T4")


def test_the_driver_is_opened_once():
    nvml = Nvml({"memory": memory()})
    reader = NvidiaReader(nvml)
    reader.read(OURS)
    reader.read(OURS)
    assert nvml.opened == 1


@pytest.mark.parametrize("value", [Nvml.NVML_ERROR_LIBRARY_NOT_FOUND, Nvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_a_machine_without_such_a_gpu_says_nothing(value):
    found = NvidiaReader(Nvml(error=NVMLError(value, "no driver"))).read(OURS)
    assert found.as_json() == {"devices": [], "problems": []}


def test_a_driver_that_cannot_be_opened_is_one_sentence():
    found = NvidiaReader(Nvml(error=NVMLError(18, "Driver/library version mismatch"))).read(OURS)
    assert found.problems == ("NVIDIA's driver cannot be asked: Driver/library version mismatch.",)


def test_a_gpu_that_falls_off_the_bus_is_one_sentence_and_the_driver_is_opened_anew():
    lost = {"memory": NVMLError(Nvml.NVML_ERROR_GPU_IS_LOST, "GPU is lost")}
    nvml = Nvml(lost, {"memory": memory()})
    reader = NvidiaReader(nvml)
    found = reader.read(OURS)
    assert found.problems == ("GPU 0 cannot be read: GPU is lost.",)
    assert [device.name for device in found.devices] == ["GPU 1: NVIDIA H200"]
    reader.read(OURS)
    assert nvml.opened == 2


def test_a_gpu_that_shares_the_hosts_memory_is_said_to():
    found = NvidiaReader(Nvml({"memory": NVMLError(Nvml.NVML_ERROR_NOT_SUPPORTED, "Not Supported")})).read(
        OURS
    )
    assert found.problems == ("GPU 0 has no memory of its own: it uses the host's.",)


@pytest.mark.parametrize(
    "gpu",
    [
        {"memory": memory(), "computing": [process(7, None)]},
        {"memory": memory(), "computing": NVMLError(4, "Insufficient Permissions")},
    ],
)
def test_where_no_process_is_told_apart_the_device_says_so(gpu):
    (device,) = NvidiaReader(Nvml(gpu)).read(OURS).devices
    assert (device.ours, device.strangers) == (0, 10 * GIB)
    assert device.note == "The driver does not tell how much each process uses."


@pytest.mark.parametrize(
    "said", [None, SimpleNamespace(total="x", used=0, free=0), SimpleNamespace(total=None)]
)
def test_nonsense_is_one_sentence(said):
    (problem,) = NvidiaReader(Nvml({"memory": said})).read(OURS).problems
    assert problem.startswith("GPU 0 cannot be read: its driver says nonsense")


def test_without_the_package_there_is_nothing_to_ask(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    assert load_nvml() is None
