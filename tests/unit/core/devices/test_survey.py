"""One look at all devices, whatever their drivers do."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import replace

import pytest

from supervisor_app.core.devices import Device, Survey
from supervisor_app.core.machine.devices import apple
from supervisor_app.core.machine.devices import survey as module
from supervisor_app.core.machine.devices.apple import unified_memory
from supervisor_app.core.machine.devices.survey import Source, Surveyor, this_machine
from tests.unit.core.devices.test_nvidia import Nvml, memory, process

GIB = 2**30
GPU = Survey((Device(id="a", name="GPU a", total=8 * GIB, free=8 * GIB),))


def test_every_source_is_asked_with_our_processes_and_their_children():
    asked = []

    def ask(ours):
        asked.append(ours)
        return GPU

    found = Surveyor([Source("A", ask)], family=lambda pid: [pid, 2 * pid]).survey([10])
    assert asked == [{10, 20}]
    assert found == GPU


def test_memory_of_a_child_counts_as_used_by_its_server():
    seen = Survey((replace(GPU.devices[0], ours=7, users={10: 1, 20: 2, 30: 4, 99: 8}),))
    surveyor = Surveyor([Source("A", lambda ours: seen)], family=lambda pid: [pid, 2 * pid])
    found = surveyor.survey([10, 30])
    assert found.devices[0].users == {10: 3, 30: 4}
    assert (found.used_by(10), found.used_by(11)) == ({"a": 3}, {})


def test_a_driver_that_hangs_is_one_sentence_and_is_not_asked_again_meanwhile():
    answer, asked = threading.Event(), []

    def hang(ours):
        asked.append(ours)
        answer.wait(60)
        return GPU

    surveyor = Surveyor([Source("The driver", hang), Source("Another", lambda ours: GPU)])
    for _ in range(2):
        found = surveyor.survey([], patience=0.05)
        assert found == Survey(GPU.devices, ("The driver has not answered for 5 s.",))
    assert len(asked) == 1
    answer.set()


def test_a_source_that_cannot_hang_is_asked_without_a_thread():
    asked_in = []

    def ask(ours):
        asked_in.append(threading.current_thread())
        return GPU

    found = Surveyor([Source("The kernel", ask, hangs=False), Source("A driver", ask)]).survey([])
    assert (asked_in[0], asked_in[1].name) == (threading.current_thread(), "A driver")
    assert found.devices == GPU.devices * 2


def test_a_driver_that_answers_again_is_asked_again():
    answer = threading.Event()

    def hang(ours):
        answer.wait(60)
        return GPU

    surveyor = Surveyor([Source("The driver", hang)])
    assert surveyor.survey([], patience=0.05).devices == ()
    answer.set()
    assert surveyor.survey([], patience=60) == GPU


def test_a_library_that_fails_is_one_sentence():
    def fail(ours):
        raise RuntimeError("boom")

    found = Surveyor([Source("The driver", fail)]).survey([])
    assert found.problems == ("The driver cannot be read: RuntimeError('boom').",)


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_at_least_the_memory_of_this_machine_is_seen():
    device = this_machine().survey([os.getpid()]).devices[0]
    assert device.is_host
    assert 0 < device.ours < device.total
    assert 0 < device.free < device.total


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_a_card_of_nvidia_without_its_package_is_told_how_to_be_seen(machine, monkeypatch):
    monkeypatch.setattr(module, "load_nvml", lambda: None)
    machine.memory(100, 50)
    assert this_machine(machine.proc, machine.sys).survey([]).problems == ()
    machine.card(0, vendor="0x10de")
    assert this_machine(machine.proc, machine.sys).survey([]).problems == (
        "A GPU of NVIDIA is here, but nothing to ask it with: pip install 'llamaproxy[nvidia]'.",
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_with_its_package_the_driver_of_nvidia_is_asked(machine, monkeypatch):
    monkeypatch.setattr(module, "load_nvml", lambda: Nvml({"memory": memory(), "computing": [process(7, 1)]}))
    machine.memory(100, 50)
    host, gpu = this_machine(machine.proc, machine.sys).survey([]).devices
    assert (host.is_host, gpu.name) == (True, "GPU 0: NVIDIA H200")


# --- Macs ----------------------------------------------------------------------------------------------


def test_a_mac_has_one_memory_for_both():
    said = {"hw.memsize": str(64 * GIB), "hw.optional.arm64": "1", "iogpu.wired_limit_mb": "49152"}
    (device,) = unified_memory(lambda key: said.get(key, ""), 40 * GIB, 8 * GIB).devices
    assert (device.name, device.total, device.free) == ("Memory of CPU and GPU", 64 * GIB, 40 * GIB)
    assert (device.ours, device.strangers) == (8 * GIB, 16 * GIB)
    assert device.note == "Of it the GPU may have 49152 MiB."


def test_a_mac_of_intel_has_a_host_alone():
    said = {"hw.memsize": str(16 * GIB), "iogpu.wired_limit_mb": "0"}
    (device,) = unified_memory(lambda key: said.get(key, ""), 8 * GIB, 0).devices
    assert (device.name, device.note) == ("Host memory", "")


def test_a_mac_is_asked_by_sysctl(monkeypatch, tmp_path):
    program = tmp_path / "sysctl"
    program.write_text('#!/bin/sh\n[ "$2" = hw.memsize ] && echo 68719476736 || exit 1\n')
    program.chmod(0o755)
    monkeypatch.setattr(apple, "SYSCTL", str(program))
    monkeypatch.setattr(module.sys, "platform", "darwin")
    gone = 2**22 + 1  # no pid is so large
    (device,) = this_machine().survey([os.getpid(), gone]).devices
    assert (device.name, device.total) == ("Host memory", 64 * GIB)
    assert device.ours > 0


def test_a_process_that_ends_while_a_mac_looks_uses_nothing(monkeypatch):
    monkeypatch.setattr(module, "sysctl", lambda key: "8" if key == "hw.memsize" else "")
    assert module.memory_of_mac(frozenset({2**22 + 1})).devices[0].ours == 0


def test_a_mac_that_tells_nothing_is_reported_in_one_sentence():
    assert unified_memory(lambda key: "", 0, 0).problems == (
        "The Mac's memory cannot be read: sysctl does not tell hw.memsize.",
    )
