"""Real processes are adopted: watched, signalled and found again, also where the kernel has no pidfd."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from supervisor_app.core.machine import process as process_module
from supervisor_app.core.machine.identity import boot_id, identity_of
from supervisor_app.core.machine.process import LocalProcess
from supervisor_app.core.ports import SignalDeniedError
from supervisor_app.core.sightings import Autopsy, Exit, Identity, PortHolder, ProcessUsage
from tests.deadline import DEADLINE
from tests.integration.spawning import fake_spec, until, until_async


async def test_a_path_is_meant_from_where_the_process_was_started(started, tmp_path):
    process = await started(fake_spec(cwd=str(tmp_path)))
    (tmp_path / "link.gguf").symlink_to("model.gguf")
    for path in ("model.gguf", "./link.gguf", str(tmp_path / "model.gguf")):
        assert await process.means_file(path, tmp_path / "model.gguf")
    assert not await process.means_file("../model.gguf", tmp_path / "model.gguf")
    process.kill()
    await process.wait()
    assert await process.means_file("elsewhere/model.gguf", tmp_path / "model.gguf"), "as far as can be told"


async def test_an_adopted_process_is_watched_and_signalled_like_a_child(processes, started):
    spec = fake_spec()
    child = await started(spec)
    holder = await processes.port_holder("default", spec)
    adopted = await processes.adopt("default", holder, spec)
    assert await adopted.endpoint(spec) == await child.endpoint(spec)
    assert await adopted.last_lines(5), "it writes to our file"
    adopted.terminate()
    assert await asyncio.wait_for(adopted.wait(), DEADLINE) == Exit()
    assert await child.wait() == Exit(code=0)
    adopted.kill()


async def test_output_that_goes_elsewhere_is_not_ours(processes):
    spec = fake_spec()
    with subprocess.Popen(spec.argv, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as stranger:
        await until_async(lambda: processes.port_holder("default", spec))
        adopted = await processes.adopt("default", await processes.port_holder("default", spec), spec)
        assert await adopted.last_lines(5) == []
        # Not a group leader: the signal is for it alone, not for the group that we are in.
        adopted.kill()
        await asyncio.wait_for(adopted.wait(), DEADLINE)
    assert stranger.returncode == -9


async def test_a_process_that_has_gone_cannot_be_adopted(processes):
    gone = PortHolder(
        identity=Identity(pid=2**22 + 1, start=1, boot_id="b"), command="x", is_llama_server=True
    )
    with pytest.raises(ProcessLookupError):
        await processes.adopt("default", gone, fake_spec())


async def test_a_process_of_another_user_is_neither_watched_nor_signalled(processes):
    hidden = await processes.adopt(
        "default", PortHolder(identity=None, command="", is_llama_server=True), fake_spec()
    )
    assert await hidden.endpoint(fake_spec()) is None
    assert await hidden.resident_bytes() == 0
    assert await hidden.sample() is None
    assert await hidden.autopsy() == Autopsy()
    assert await hidden.usage(fake_spec()) == ProcessUsage()
    assert await hidden.look(fake_spec()) == (ProcessUsage(), None)
    hidden.forget()
    with pytest.raises(SignalDeniedError):
        hidden.terminate()


async def test_a_process_of_another_user_is_known_by_its_socket(processes, started):
    spec = fake_spec()
    child = await started(spec)
    seen = await processes.port_holder("default", spec)
    adopted = await processes.adopt("default", replace(seen, identity=None), spec)
    assert await adopted.endpoint(spec) == await child.endpoint(spec)


async def test_a_signal_that_is_not_permitted_is_told(started, monkeypatch):
    process = await started(fake_spec())

    def not_permitted(pid, number):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "killpg", not_permitted)
        with pytest.raises(SignalDeniedError):
            process.terminate()


async def test_a_pid_that_was_given_to_somebody_else_is_never_signalled(processes):
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        mistaken = Identity(pid=other.pid, start=1, boot_id=boot_id())
        process = LocalProcess(identity=mistaken, started_at=0.0)
        process.terminate()
        process.kill()
        await asyncio.sleep(0.1)
        assert other.poll() is None
        process.forget()
    finally:
        other.kill()
        other.wait()


async def test_a_survivor_is_found_by_identity_alone(processes, started):
    spec = fake_spec()
    process = await started(spec)
    identity = process.identity
    found = await processes.find("default", identity, spec)
    assert found.identity == identity
    assert (
        await processes.find("default", Identity(pid=identity.pid, start=1, boot_id=identity.boot_id), spec)
        is None
    )


async def test_a_process_that_was_spawned_is_found_wherever_it_listens(processes, started):
    process = await started(fake_spec("--fake-child"))
    found = await processes.find_ours("default")
    assert found.identity == process.identity
    assert found.argv[-1] == "--fake-child"
    assert await processes.find_ours("another") is None
    assert await processes.find_ours("default", but=process.identity) is None, "a child is not the server"


async def test_a_process_that_has_gone_is_not_found(processes, started):
    process = await started(fake_spec())
    process.kill()
    await process.wait()
    assert await processes.find_ours("default") is None


async def test_a_process_that_goes_while_it_is_looked_for_is_not_found(processes, started, monkeypatch):
    def gone(pid):
        raise ProcessLookupError

    await started(fake_spec())
    monkeypatch.setattr(os, "getsid", gone)
    assert await processes.find_ours("default") is None


async def test_the_children_of_one_that_nobody_saw_end_are_ended(processes, started):
    process = await started(fake_spec("--fake-child"))
    (child,) = psutil.Process(process.identity.pid).children()
    await processes.end_rest("another")
    assert identity_of(child.pid)
    await processes.end_rest("default")
    await until(lambda: identity_of(child.pid) is None)


async def test_the_rest_of_one_process_is_ended_without_the_one_beside_it(processes, started):
    old, new = await started(fake_spec("--fake-child")), await started(fake_spec())
    await processes.end_rest("default", only=old.identity)
    await until(lambda: identity_of(old.identity.pid) is None)
    assert identity_of(new.identity.pid) == new.identity


# Where there is no pidfd


@pytest.fixture
def no_pidfd(monkeypatch):
    def unavailable(pid):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", unavailable)
    monkeypatch.setattr(process_module, "POLL_SECONDS", 0.01)


async def test_without_pidfd_a_thread_waits_for_a_child(no_pidfd, started):
    process = await started(fake_spec())
    os.kill(process.identity.pid, signal.SIGKILL)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit(signal=9)


async def test_without_pidfd_an_adopted_process_is_looked_at(no_pidfd, processes, started, monkeypatch):
    spec = fake_spec()
    child = await started(spec)
    adopted = await processes.adopt("default", await processes.port_holder("default", spec), spec)
    looks, look = [], process_module.identity_of

    def looked(pid):
        looks.append(pid)
        return look(pid)

    monkeypatch.setattr(process_module, "identity_of", looked)
    await until(lambda: len(looks) > 2)
    child.kill()
    assert await asyncio.wait_for(adopted.wait(), DEADLINE) == Exit()


async def test_without_pidfd_one_may_still_be_let_go(no_pidfd, processes, started):
    spec = fake_spec()
    child = await started(spec)
    adopted = await processes.adopt("default", await processes.port_holder("default", spec), spec)
    adopted.forget()
    child.kill()
    await child.wait()


async def test_without_pidfd_a_child_may_still_be_let_go(no_pidfd, processes):
    process = await processes.spawn("default", fake_spec())
    process.forget()
    os.kill(process.identity.pid, signal.SIGKILL)
    await until(lambda: identity_of(process.identity.pid) is None)
    assert not process.has_ended
    process.forget()
