"""The memory and the CPUs of the host, and what control groups leave of them."""

from __future__ import annotations

import os

import pytest

from supervisor_app.core.devices import Device
from supervisor_app.core.machine.cpus import usable_cpus
from supervisor_app.core.machine.devices.host import host_memory

MIB, GIB = 2**20, 2**30
NOTHING = frozenset()
ALL_CPUS = len(os.sched_getaffinity(0))


@pytest.fixture
def seen(machine):
    def seen(ours=NOTHING):
        found = host_memory(machine.proc, machine.cgroups, ours)
        assert found.problems == ()
        (device,) = found.devices
        return device

    return seen


def group(machine, path, version, *, limit, used, files=0, inactive="inactive_file"):
    folder = machine.cgroups / path
    names = (
        ("memory.max", "memory.current")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    machine.write(folder / names[0], f"{limit}\n")
    machine.write(folder / names[1], f"{used}\n")
    machine.write(folder / "memory.stat", f"anon 5\n{inactive} {files}\nactive_file 0\n")


def test_the_memory_of_a_machine_is_divided_into_ours_others_and_free(machine, seen):
    machine.memory(16384, 12288)
    machine.process(7, anon=1024, swap=512)
    device = seen({7})
    assert device == Device(id="host", name="Host memory", total=16 * GIB, free=12 * GIB, ours=1536 * MIB)
    assert device.strangers == 2560 * MIB
    assert device.is_host


def test_a_process_that_has_just_ended_uses_nothing(machine, seen):
    machine.memory(100, 50)
    assert seen({8}).ours == 0


@pytest.mark.parametrize("version", [1, 2])
def test_pages_of_files_in_a_control_group_count_as_free(machine, seen, version):
    machine.memory(16384, 12288)
    machine.write(machine.proc / "self/cgroup", "4:memory:/job\n0::/\n" if version == 1 else "0::/job\n")
    path, inactive = ("memory/job", "total_inactive_file") if version == 1 else ("job", "inactive_file")
    group(machine, path, version, limit=8 * GIB, used=5 * GIB, files=2 * GIB, inactive=inactive)
    device = seen()
    assert (device.name, device.total, device.free) == ("Memory of our control group", 8 * GIB, 5 * GIB)


def test_the_tightest_limit_up_the_tree_holds(machine, seen):
    machine.memory(16384, 12288)
    machine.write(machine.proc / "self/cgroup", "0::/slice/unit/job\n")
    group(machine, "slice/unit/job", 2, limit="max", used=1 * GIB)
    group(machine, "slice/unit", 2, limit=10 * GIB, used=2 * GIB)
    group(machine, "slice", 2, limit=6 * GIB, used=4 * GIB)
    device = seen()
    assert (device.total, device.free) == (6 * GIB, 2 * GIB)


def test_free_memory_may_be_bounded_by_another_group_than_the_whole(machine, seen):
    machine.memory(16384, 12288)
    machine.write(machine.proc / "self/cgroup", "0::/slice/unit\n")
    group(machine, "slice/unit", 2, limit=4 * GIB, used=1 * GIB)
    group(machine, "slice", 2, limit=8 * GIB, used=7 * GIB)
    device = seen()
    assert (device.total, device.free) == (4 * GIB, 1 * GIB)


def test_a_group_with_more_than_the_machine_has_is_no_limit(machine, seen):
    machine.memory(16384, 2048)
    machine.write(machine.proc / "self/cgroup", "0::/job\n")
    group(machine, "job", 2, limit=64 * GIB, used=1 * GIB)
    device = seen()
    assert (device.name, device.total, device.free) == ("Host memory", 16 * GIB, 2 * GIB)


@pytest.mark.parametrize(
    ("quotas", "expected"),
    [
        ({"slice/unit": "max 100000", "slice": "max 100000"}, ALL_CPUS),
        ({"slice/unit": "100000 100000", "slice": "max 100000"}, 1),
        ({"slice/unit": "max 100000", "slice": "130000 100000"}, 1),
        ({"slice/unit": "20000 100000"}, 1),
        ({"slice/unit": "99900000 100000"}, ALL_CPUS),
        ({"slice/unit": "nonsense"}, ALL_CPUS),
    ],
)
def test_a_control_group_may_leave_fewer_cpus(machine, quotas, expected):
    machine.write(machine.proc / "self/cgroup", "0::/slice/unit\n")
    for path, quota in quotas.items():
        machine.write(machine.cgroups / path / "cpu.max", f"{quota}\n")
    assert usable_cpus(machine.proc, machine.cgroups) == expected


def test_without_control_groups_all_cpus_count(machine, monkeypatch):
    assert usable_cpus(machine.proc, machine.cgroups) == ALL_CPUS
    monkeypatch.setattr("sys.platform", "darwin")
    assert usable_cpus(machine.proc, machine.cgroups) == os.cpu_count()


def test_in_a_container_the_root_is_its_own_group(machine, seen):
    machine.memory(16384, 12288)
    machine.write(machine.proc / "self/cgroup", "0::/docker/0123\n")
    group(machine, "", 2, limit=4 * GIB, used=1 * GIB)
    assert seen().free == 3 * GIB


@pytest.mark.parametrize("text", [None, "", "MemTotal: lots\n", "\0\xff"])
def test_without_a_sensible_meminfo_one_sentence_says_so(machine, text):
    if text is not None:
        machine.write(machine.proc / "meminfo", text)
    found = host_memory(machine.proc, machine.cgroups, NOTHING)
    assert found.devices == ()
    (problem,) = found.problems
    assert problem.startswith("The host's memory cannot be read")
