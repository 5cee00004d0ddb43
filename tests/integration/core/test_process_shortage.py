"""Real processes, while we lack descriptors or threads ourselves, or their disk hangs."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psutil
import pytest

from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.machine import model_files, processes, spawning
from supervisor_app.core.machine import probe as probe_module
from supervisor_app.core.machine import process as process_module
from supervisor_app.core.machine.identity import boot_id, identity_of
from supervisor_app.core.machine.listeners import answers
from supervisor_app.core.machine.probe import HttpProbe, looks_like_llama_server
from supervisor_app.core.machine.process import LocalProcess
from supervisor_app.core.ports import ProbeError, SpawnError
from supervisor_app.core.shortage import ShortageError
from supervisor_app.core.sightings import Exit, Health, Slots
from supervisor_app.core.status import FailureKind
from tests.deadline import DEADLINE
from tests.integration.spawning import fake_spec, until_async
from tests.ports import free_port


@contextmanager
def no_descriptors():
    """Take every descriptor of the process: only for calls that wait for nothing else."""
    found = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, found[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, found)


async def test_a_process_that_cannot_be_seen_is_not_gone(started):
    process = await started(fake_spec())
    with no_descriptors():
        for look in (boot_id, lambda: identity_of(process.identity.pid)):
            with pytest.raises(ShortageError):
                look()
    assert identity_of(process.identity.pid) == process.identity


async def test_every_look_says_that_it_could_not_be_taken(started, processes):
    spec = fake_spec()
    process = await started(spec)
    probe = HttpProbe()
    await until_async(lambda: is_healthy(probe, spec))
    holder = await processes.port_holder("default", spec)
    looks: list[Any] = [
        lambda: process.endpoint(spec),
        lambda: process.usage(spec),
        lambda: process.resident_bytes(),
        lambda: processes.port_holder("default", spec),
        lambda: processes.find("default", process.identity, spec),
        lambda: processes.find_ours("default"),
        lambda: processes.spawn("default", spec),
        lambda: processes.adopt("default", holder, spec),
        lambda: probe.health(spec, 5.0),
        lambda: probe.models(spec, 5.0),
        lambda: probe.slots(spec, 5.0, may_wake=True),
        lambda: probe.canary(spec, 5.0),
    ]
    await probe.canary(spec, 5.0)
    with no_descriptors():
        for look in looks:
            with pytest.raises(ShortageError):
                await look()
        for ask in (answers, looks_like_llama_server):
            with pytest.raises(ShortageError):
                ask(spec)
    assert psutil.Process(process.identity.pid).children() == []


async def is_healthy(probe, spec) -> bool:
    return await probe.health(spec, 5.0) is Health.OK


async def test_a_process_that_cannot_be_watched_yet_is_watched_as_soon_as_it_can_be(started, monkeypatch):
    lost = OSError(errno.EMFILE, "Too many open files")
    opened = os.pidfd_open
    tries = []

    def scarce(pid):
        tries.append(pid)
        if len(tries) < 4:
            raise lost
        return opened(pid)

    monkeypatch.setattr(os, "pidfd_open", scarce)
    monkeypatch.setattr(process_module, "POLL_SECONDS", 0.01)
    process = await started(fake_spec())
    await until_async(lambda: enough(tries))
    os.kill(process.identity.pid, signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit(signal=9)


async def enough(tries) -> bool:
    return len(tries) >= 4


@pytest.fixture
def never_watched(monkeypatch):
    def scarce(pid):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", scarce)
    monkeypatch.setattr(process_module, "POLL_SECONDS", 0.01)


async def test_the_end_of_a_child_is_seen_without_a_descriptor(never_watched, started):
    process = await started(fake_spec())
    with no_descriptors():
        os.kill(process.identity.pid, signal.SIGKILL)
        assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit(signal=9)


async def test_a_process_that_is_not_our_child_does_not_end_because_we_cannot_look(never_watched, started):
    child = await started(fake_spec())
    adopted = LocalProcess(identity=child.identity, started_at=time.time())
    with no_descriptors():
        await asyncio.sleep(0.1)
        with pytest.raises(ShortageError):
            adopted.terminate()
        assert not adopted.has_ended
    child.kill()
    assert await asyncio.wait_for(adopted.wait(), DEADLINE) == Exit()


async def test_a_descriptor_of_a_pid_that_was_given_away_watches_nobody(started, monkeypatch):
    child = await started(fake_spec())
    stranger = replace(child.identity, start=child.identity.start - 1)
    opened, tries = os.pidfd_open, []

    def scarce(pid):
        tries.append(pid)
        if len(tries) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return opened(pid)

    monkeypatch.setattr(os, "pidfd_open", scarce)
    monkeypatch.setattr(process_module, "POLL_SECONDS", 0.01)
    seen = iter([True])
    monkeypatch.setattr(LocalProcess, "_alive", lambda process: next(seen, False))
    before = len(os.listdir("/proc/self/fd"))
    adopted = LocalProcess(identity=stranger, started_at=time.time())
    assert await asyncio.wait_for(adopted.wait(), DEADLINE) == Exit()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_without_pidfd_and_without_a_thread_a_child_is_looked_at(monkeypatch, started, processes):
    def unavailable(pid):
        raise OSError(errno.ENOSYS, "Function not implemented")

    start = threading.Thread.start

    def limited(thread):
        if thread.name.startswith("wait-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(os, "pidfd_open", unavailable)
    monkeypatch.setattr(threading.Thread, "start", limited)
    monkeypatch.setattr(process_module, "POLL_SECONDS", 0.01)
    process = await started(fake_spec())
    os.kill(process.identity.pid, signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit(signal=9)


async def test_without_pidfd_twenty_children_hold_up_no_look(monkeypatch, started):
    def unavailable(pid):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unavailable)
    children = [await started(fake_spec()) for _ in range((os.cpu_count() or 1) + 5)]
    assert await asyncio.wait_for(asyncio.to_thread(str, 1), DEADLINE) == "1"
    assert (await children[-1].usage(fake_spec())).cpu_seconds >= 0


async def test_a_child_has_the_limit_of_open_files_that_we_were_started_with(started, monkeypatch):
    given = (64, 128)
    monkeypatch.setattr("supervisor_app.core.machine.file_limit._FOUND", given)
    process = await started(fake_spec())
    assert resource.prlimit(process.identity.pid, resource.RLIMIT_NOFILE) == given


async def test_a_child_whose_identity_cannot_be_read_is_kept(started, monkeypatch):
    def lost(pid):
        raise ShortageError("no file descriptor left")

    monkeypatch.setattr(spawning, "identity_of", lost)
    monkeypatch.setattr(processes, "MemoryMeter", lambda pid, gpu: lost(pid))
    process = await started(fake_spec())
    assert process.identity.start == 0
    assert await process.sample() is None
    process.kill()
    assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit(signal=9)


# A disk that hangs


async def test_a_start_from_a_dead_disk_fails_for_that_server_alone_and_leaves_nothing(
    processes, started, monkeypatch
):
    alive, born = threading.Event(), []
    start_child = spawning.start_child

    def slow(argv, **more):
        if "--dead" not in argv:
            return start_child(argv, **more)
        alive.wait(DEADLINE)
        born.append(start_child(argv, **more))
        return born[-1]

    monkeypatch.setattr(spawning, "start_child", slow)
    with monkeypatch.context() as hurried:
        hurried.setattr("supervisor_app.core.machine.processes.SPAWN_SECONDS", 0.05)
        with pytest.raises(SpawnError, match="does its disk answer") as raised:
            await processes.spawn("dead", fake_spec("--dead"))
    assert not raised.value.failure.permanent
    assert await started(fake_spec())
    alive.set()

    async def ended() -> bool:
        return any(child.poll() is not None for child in born)

    await until_async(ended)


async def test_a_command_line_that_cannot_be_written_is_told(processes):
    with pytest.raises(SpawnError) as raised:
        await processes.spawn("default", fake_spec("--alias", "half a pair: \ud800"))
    assert raised.value.failure.permanent
    assert "command line cannot be handed to the system" in raised.value.failure.detail
    with pytest.raises(SpawnError):
        await processes.spawn("default", fake_spec("--alias", "\0"))


def test_a_name_that_no_disk_can_hold_has_no_size(tmp_path):
    facts = model_files.file_facts(fake_spec(cwd=str(tmp_path), port=1))
    assert facts == model_files.UNKNOWN_FILE
    odd = replace(fake_spec(port=1), model_path="half a pair: \ud800")
    assert model_files.file_facts(odd) == model_files.UNKNOWN_FILE
    assert model_files.file_facts(replace(odd, model_path=None)) == model_files.UNKNOWN_FILE


async def test_a_model_on_a_dead_disk_holds_no_list_of_models_up(started, monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(probe_module, "file_facts", lambda spec: hangs.wait(DEADLINE))
    monkeypatch.setattr(probe_module, "FILE_SECONDS", 0.01)
    spec = fake_spec()
    await started(spec)
    (model,) = await HttpProbe().models(spec, 5.0)
    assert model.id
    hangs.set()


async def test_a_cause_that_we_cannot_look_at_is_not_gone(processes, monkeypatch):
    spec = fake_spec(port=free_port())
    taken = failure_of(FailureKind.PORT_TAKEN, "")
    with no_descriptors(), pytest.raises(ShortageError):
        await processes.cause_of("default", taken, spec)


# A server that dribbles


async def test_an_answer_that_never_ends_is_silence(monkeypatch):
    hangs = threading.Event()

    def dribbles(*args, **more):
        hangs.wait(DEADLINE)

    probe = HttpProbe()
    monkeypatch.setattr(probe_module, "SPARE_SECONDS", 0.0)
    for name in ("check_health", "read_models", "read_slots"):
        monkeypatch.setattr(probe_module, name, dribbles)
    spec = fake_spec()
    assert await probe.health(spec, 0.01) is Health.SILENT
    assert await probe.slots(spec, 0.01, may_wake=False) == Slots(answered=False)
    with pytest.raises(ProbeError, match="did not come to an end"):
        await probe.models(spec, 0.01)
    hangs.set()
    probe.close()
