"""What a process and its machine use: a /proc and control groups made of files, a kernel's log made of a pipe."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import time

import psutil
import pytest

from supervisor_app.core.machine import family, memory
from supervisor_app.core.machine.memory import GpuMeter, MemoryMeter, control_group, naming, parse_gpus
from supervisor_app.core.sightings import GpuMemory

MIB = 2**20


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of files: `machine("proc/7/status", text)` writes one."""
    monkeypatch.setattr(memory, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "KERNEL_LOG", tmp_path / "kmsg")

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write


@pytest.fixture
def child(monkeypatch):
    """A process that lives, with one child of its own."""
    monkeypatch.setattr(family, "TABLE_SECONDS", 0.0)
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    end = time.monotonic() + 20
    while not psutil.Process(process.pid).children():
        assert time.monotonic() < end
        time.sleep(0.01)
    yield process
    process.stdin.close()
    process.wait(20)


# --- The process ---------------------------------------------------------------------------------------


def test_a_process_is_measured_with_its_children_and_its_machine(child):
    meter = MemoryMeter(child.pid)
    sample = meter.sample()
    meter.close()
    assert sample.anon > MIB
    assert 0 < sample.host_available <= sample.host_total
    assert sample.at == pytest.approx(time.time(), abs=5)
    assert sample.gpus == ()


def test_swapped_memory_counts(child, machine):
    machine(f"proc/{child.pid}/status", "Name:\tx\nRssAnon:\t 1024 kB\nRssFile:\t 9 kB\nVmSwap:\t 512 kB\n")
    (grandchild,) = psutil.Process(child.pid).children()
    machine(f"proc/{grandchild.pid}/status", "RssAnon:\t 2048 kB\n")
    sample = MemoryMeter(child.pid).sample()
    assert (sample.anon, sample.swap, sample.used) == (3 * MIB, MIB // 2, 3 * MIB + MIB // 2)


def test_without_proc_what_is_resident_counts(child, machine):
    assert MemoryMeter(child.pid).sample().anon > MIB


def test_a_process_that_is_gone_has_no_memory():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    meter = MemoryMeter(process.pid)
    assert meter.sample() is None
    assert meter.autopsy().oom_kills == 0


def test_a_zombie_has_no_memory(child, machine):
    for process in (child, *psutil.Process(child.pid).children()):
        machine(f"proc/{process.pid}/status", "Name:\tx\nState:\tZ (zombie)\n")
    assert MemoryMeter(child.pid).sample() is None


def test_a_process_that_goes_during_the_look_has_no_memory(child, machine, monkeypatch):
    def gone(self):
        raise psutil.NoSuchProcess(self.pid)

    monkeypatch.setattr(psutil.Process, "memory_info", gone)
    assert MemoryMeter(child.pid).sample() is None


# --- Control groups ------------------------------------------------------------------------------------


def version_2(machine, pid, **files):
    machine(f"proc/{pid}/cgroup", "0::/user.slice/x.scope\n")
    for name, text in files.items():
        machine(f"cgroup/user.slice/x.scope/memory.{name}", text)


def test_a_group_of_version_2_is_found(machine, tmp_path):
    version_2(machine, 7, max="max\n")
    assert control_group(7) == tmp_path / "cgroup/user.slice/x.scope"


def test_a_group_of_version_1_is_found_where_memory_is(machine, tmp_path):
    machine("proc/7/cgroup", "5:pids:/\n4:cpu,memory:/docker/abc\n0::/\n")
    machine("cgroup/memory/docker/abc/memory.oom_control", "")
    assert control_group(7) == tmp_path / "cgroup/memory/docker/abc"


def test_inside_a_container_the_root_is_its_own_group(machine, tmp_path):
    machine("proc/7/cgroup", "4:memory:/docker/abc\n")
    assert control_group(7) == tmp_path / "cgroup/memory"


@pytest.mark.parametrize("text", [None, "", "1:name=systemd:/\n"])
def test_there_may_be_no_group(machine, text):
    if text is not None:
        machine("proc/7/cgroup", text)
    assert control_group(7) is None


def test_the_limit_of_its_group_is_measured_without_pages_that_can_be_dropped(child, machine):
    version_2(
        machine,
        child.pid,
        max=f"{8 * MIB}\n",
        current=f"{7 * MIB}\n",
        stat=f"anon 5\ninactive_file {2 * MIB}\nactive_file {MIB}\n",
        events="low 0\noom_kill 0\n",
    )
    sample = MemoryMeter(child.pid).sample()
    assert (sample.limit, sample.limit_used) == (8 * MIB, 4 * MIB)


def test_version_1_says_the_same_in_other_words(child, machine):
    machine(f"proc/{child.pid}/cgroup", "4:memory:/x\n")
    machine("cgroup/memory/x/memory.limit_in_bytes", f"{8 * MIB}\n")
    machine("cgroup/memory/x/memory.usage_in_bytes", f"{7 * MIB}\n")
    machine("cgroup/memory/x/memory.stat", f"inactive_file 1\ntotal_inactive_file {MIB}\n")
    sample = MemoryMeter(child.pid).sample()
    assert (sample.limit, sample.limit_used) == (8 * MIB, 6 * MIB)


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n", ""])
def test_a_group_without_a_limit_has_none(child, machine, text):
    version_2(machine, child.pid, max=text)
    assert MemoryMeter(child.pid).sample().limit is None


def test_the_memory_of_a_control_group_may_be_hidden(child, machine):
    version_2(machine, child.pid, max="100\n")
    assert MemoryMeter(child.pid).sample().limit_used == 0


# --- OOM kills -----------------------------------------------------------------------------------------


def test_an_oom_kill_of_its_group_is_counted(machine):
    version_2(machine, 7, events="oom 0\noom_kill 2\n")
    meter = MemoryMeter(7)
    version_2(machine, 7, events="oom 1\noom_kill 3\n")
    assert meter.autopsy().oom_kills == 1


def test_without_one_nothing_is_counted(machine):
    version_2(machine, 7, events="oom_kill 2\n")
    assert MemoryMeter(7).autopsy().oom_kills == 0


def test_a_group_that_is_gone_tells_nothing(machine):
    version_2(machine, 7, events="oom_kill 2\n")
    meter = MemoryMeter(7)
    version_2(machine, 7, events="")
    assert meter.autopsy().oom_kills == 0


def test_kills_of_another_group_do_not_count(child, machine):
    version_2(machine, child.pid, events="oom_kill 0\n")
    meter = MemoryMeter(child.pid)
    machine(f"proc/{child.pid}/cgroup", "0::/other\n")
    machine("cgroup/other/memory.events", "oom_kill 5\n")
    meter.sample()
    assert meter.autopsy().oom_kills == 0


def test_a_kill_long_before_its_death_is_somebody_elses(child, machine, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(memory.time, "monotonic", lambda: now[0])
    version_2(machine, child.pid, events="oom_kill 0\n")
    meter = MemoryMeter(child.pid)
    version_2(machine, child.pid, events="oom_kill 1\n")
    for _ in range(3):
        now[0] += 50
        meter.sample()
    assert meter.autopsy().oom_kills == 0


# --- The kernel's log ----------------------------------------------------------------------------------


def test_lines_that_name_the_process_are_kept():
    lines = [
        "Out of memory: Killed process 70 (llama-server) total-vm:1kB",
        "oom-kill:constraint=CONSTRAINT_NONE,task=llama-server,pid=70,uid=0",
        "llama-server[70]: segfault at 0 ip 0 sp 0 error 4",
        "NVRM: Xid (PCI:0000:01:00): 31, pid=71, name=llama-server",
        "Killed process 700 (other)",
        "usb 1-70: new device",
    ]
    assert naming(lines, {70, 71}) == tuple(lines[:4])


def test_the_last_of_many_lines_are_kept():
    assert naming([f"process 7 {number}" for number in range(9)], {7})[-1] == "process 7 8"
    assert len(naming([f"process 7 {number}" for number in range(9)], {7})) == memory.MAX_KERNEL_LINES


def test_no_pattern_is_kept_of_a_process_that_has_ended():
    pids = range(5_000_000, 5_000_050)
    for pid in pids:
        naming([], {pid})
    # Its type, for a lazy object of another test would go to the database to say what it is.
    kept = [thing for thing in gc.get_objects() if type(thing) is re.Pattern]
    assert not [pattern for pattern in kept if any(str(pid) in str(pattern.pattern) for pid in pids)]


@pytest.fixture
def kernel_log(monkeypatch):
    """Records as /dev/kmsg hands them out: one a read."""
    script: list[bytes | OSError] = []

    def read(log, limit):
        if not script:
            raise BlockingIOError
        record = script.pop(0)
        if isinstance(record, OSError):
            raise record
        return record

    monkeypatch.setattr(memory.os, "read", read)
    return script


def test_the_log_is_read_from_the_birth_of_the_process_on(machine, kernel_log, tmp_path):
    machine("kmsg", "")
    meter = MemoryMeter(7)
    kernel_log += [
        b"6,1,1,-;Killed process 8 (x)\n",
        BrokenPipeError(),  # some were overwritten
        b"3,2,2,-;Killed process 7 (llama-server) anon-rss:1kB\n SUBSYSTEM=x\n",
    ]
    assert meter.autopsy().kernel == ("Killed process 7 (llama-server) anon-rss:1kB",)
    assert meter.autopsy().kernel == (), "only once"


def test_a_log_that_ends_is_read_to_its_end(machine):
    machine("kmsg", "")
    assert MemoryMeter(7).autopsy().kernel == ()


def test_a_log_that_floods_is_read_within_bounds(machine, monkeypatch):
    machine("kmsg", "")
    reads = []

    def flood(log, limit):
        reads.append(limit)
        return b"6,1,1,-;process 7\n"

    monkeypatch.setattr(memory, "MAX_RECORDS", 10)
    meter = MemoryMeter(7)
    monkeypatch.setattr(memory.os, "read", flood)
    assert meter.autopsy().kernel
    assert len(reads) == 10


def test_a_log_that_is_not_for_us_tells_nothing(machine):
    meter = MemoryMeter(7)
    assert meter.autopsy().kernel == ()
    meter.close()


def test_the_log_is_let_go_of(machine):
    machine("kmsg", "")
    open_files = set(os.listdir("/dev/fd"))
    meter = MemoryMeter(7)
    meter.close()
    meter.close()
    assert set(os.listdir("/dev/fd")) == open_files


# --- The GPU -------------------------------------------------------------------------------------------


def test_gpus_are_read_from_what_nvidia_smi_says():
    assert parse_gpus("1024, 24576\n[N/A], [N/A]\n 0, 8\n") == (
        GpuMemory(used=1024 * MIB, total=24576 * MIB),
        GpuMemory(used=0, total=8 * MIB),
    )


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """A program of that name on PATH: `nvidia_smi(script)`."""

    def install(script):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


def asked(meter, now=0.0):
    """Ask, and wait for the answer to have come."""
    meter.latest(now)
    answered(meter)


def answered(meter):
    end = time.monotonic() + 10
    while meter.is_asking:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_gpu_is_asked_in_the_background(nvidia_smi, child):
    nvidia_smi("echo 1024, 24576")
    gpu = GpuMeter()
    asked(gpu, time.monotonic())
    assert gpu.latest(time.monotonic()) == (GpuMemory(used=1024 * MIB, total=24576 * MIB),)
    assert MemoryMeter(child.pid, gpu).sample().gpus


def test_a_gpu_is_asked_every_ten_seconds_and_old_answers_go(nvidia_smi, tmp_path):
    nvidia_smi(f"echo x >> {tmp_path}/asked; echo 1, 2")
    gpu = GpuMeter()
    now = time.monotonic()
    for later in (0.0, 1.0, 9.0, 10.0):
        asked(gpu, now + later)
    assert len((tmp_path / "asked").read_text().split()) == 2
    assert gpu.latest(now + 31.0 + 5) == ()


def test_a_hanging_one_is_asked_once(nvidia_smi, tmp_path, monkeypatch):
    nvidia_smi(f"echo x >> {tmp_path}/asked; sleep 0.5")
    monkeypatch.setattr(memory, "GPU_TIMEOUT", 0.3)
    gpu = GpuMeter()
    now = time.monotonic()
    for later in range(0, 100, 20):
        gpu.latest(now + later)
    answered(gpu)
    assert (tmp_path / "asked").read_text() == "x\n"
    assert gpu.latest(now) == ()


def test_a_driver_that_fails_tells_nothing(nvidia_smi):
    nvidia_smi("echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9")
    gpu = GpuMeter()
    asked(gpu)
    assert gpu.latest(0.0) == ()


def test_without_nvidia_smi_nobody_is_asked(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    gpu = GpuMeter()
    assert gpu.latest(0.0) == ()
    assert not gpu.is_asking
