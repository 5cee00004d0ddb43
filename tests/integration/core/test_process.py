"""Real processes of this machine are spawned, watched and signalled."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess

import psutil
import pytest

from supervisor_app.core.machine.identity import identity_of
from supervisor_app.core.machine.process import LocalProcess
from supervisor_app.core.machine.spawning import child_environment
from supervisor_app.core.sightings import Exit, Identity, PortHolder, ProcessUsage
from supervisor_app.core.spec import LaunchSpec
from tests.deadline import DEADLINE
from tests.integration.spawning import fake_spec, until, until_async
from tests.ports import free_port

# The environment of a child


def test_a_child_sees_no_llama_flags_and_none_of_our_secrets():
    environ = {
        "PATH": "/bin",
        "LLAMA_ARG_PORT": "1",
        "LLAMA_API_KEY": "old",
        "SECRET_KEY": "s",
        "DATABASE_URL": "d",
        "REDIS_URL": "r",
    }
    assert child_environment(environ, fake_spec()) == {"PATH": "/bin"}
    own = child_environment(environ, fake_spec(api_key="k", has_own_key=True))
    assert own == {"PATH": "/bin", "LLAMA_API_KEY": "k", "LLAMA_ARG_CORS_ORIGINS": "none"}
    assert child_environment(environ, fake_spec(api_key="k")) == {"PATH": "/bin", "LLAMA_API_KEY": "k"}


async def test_a_secret_is_on_no_command_line(started):
    process = await started(fake_spec(api_key="hunter2"))
    assert "hunter2" not in " ".join(psutil.Process(process.identity.pid).cmdline())


# Spawn and watch


async def test_a_child_outlives_us_in_its_own_session_and_writes_to_a_file(started, processes):
    process = await started(fake_spec("--fake-stderr-line", "hello from the engine"))
    pid = process.identity.pid
    assert os.getsid(pid) == pid
    assert "hello from the engine" in await process.last_lines(50)
    text = processes.log_file("default").path.read_text()
    assert "starting: " in text


@pytest.mark.parametrize(
    ("number", "exit"),
    [(signal.SIGKILL, Exit(signal=9)), (signal.SIGSEGV, Exit(signal=11)), (signal.SIGTERM, Exit(code=0))],
)
async def test_the_way_in_which_a_process_ended_is_known(started, number, exit):
    process = await started(fake_spec())

    async def handles_signals() -> bool:
        return "listening on" in " ".join(await process.last_lines(5))

    await until_async(handles_signals)
    os.kill(process.identity.pid, number)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == exit
    assert await process.wait() == exit, "may be awaited again"


async def test_an_exit_code_is_known_and_the_child_is_reaped(started):
    process = await started(fake_spec("--fake-exit-code", "7", "--fake-exit-after", "0"), listening=False)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit(code=7)
    assert not psutil.pid_exists(process.identity.pid)


async def test_processes_left_behind_in_the_group_of_a_server_are_killed(started):
    process = await started(fake_spec("--fake-child"))
    (grandchild,) = psutil.Process(process.identity.pid).children()
    os.kill(process.identity.pid, signal.SIGKILL)
    await asyncio.wait_for(process.wait(), DEADLINE)
    await until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


async def test_an_ended_process_leaves_nothing_once_its_group_is_gone(started, monkeypatch):
    process = await started(fake_spec())
    assert not process.leaves_nothing(), "it runs"
    process.kill()
    await asyncio.wait_for(process.wait(), DEADLINE)
    assert process.leaves_nothing()
    monkeypatch.setattr(os, "killpg", lambda group, number: None)
    assert not process.leaves_nothing(), "one of its group is there"

    def denied(group, number):
        raise PermissionError

    monkeypatch.setattr(os, "killpg", denied)
    assert not process.leaves_nothing(), "it cannot be seen"


async def test_terminate_and_kill(started):
    process = await started(fake_spec("--fake-ignore-sigterm"))
    process.terminate()
    await asyncio.sleep(0.2)
    assert identity_of(process.identity.pid) is not None
    process.kill()
    assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit(signal=9)
    process.kill()


async def test_all_who_look_at_the_devices_at_once_see_them(processes):
    looks = await asyncio.gather(*(processes.devices([os.getpid()]) for _ in range(3)))
    assert all(look.devices for look in looks)


async def test_resident_memory_is_of_the_process_and_its_children(started):
    process = await started(fake_spec())
    assert await process.resident_bytes() > 5_000_000
    process.kill()
    await process.wait()
    assert await process.resident_bytes() == 0


async def test_memory_is_sampled_until_a_process_is_gone_and_the_kernel_asked_afterwards(started):
    process = await started(fake_spec())
    assert (await process.sample()).anon > 1_000_000
    usage, memory = await process.look(fake_spec())
    assert usage.cpu_seconds > 0
    assert memory.anon > 1_000_000
    process.kill()
    await process.wait()
    assert await process.sample() is None
    assert (await process.autopsy()).oom_kills == 0


async def test_processor_time_and_clients_of_a_server_are_counted(started):
    spec = fake_spec()
    process = await started(spec)

    async def has_a_client():
        return (await process.usage(spec)).connections == 1

    there = await process.endpoint(spec)
    with socket.create_connection(("127.0.0.1", spec.port)):
        assert process.has_clients(there)
        await until_async(has_a_client)  # it counts once the server has taken it
    await until(lambda: not process.has_clients(there))
    assert (await process.usage(spec)).cpu_seconds > 0
    process.kill()
    await process.wait()
    assert await process.usage(spec) == ProcessUsage()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_a_process_that_is_forgotten_leaves_no_open_file(processes, started):
    spec = fake_spec()
    await started(spec)
    holder = await processes.port_holder("default", spec)
    before = open_files()
    adopted = await processes.adopt("default", holder, spec)
    assert open_files() > before
    adopted.forget()
    assert open_files() == before


async def test_nothing_is_done_about_the_end_of_a_child_that_was_let_go(processes):
    process = await processes.spawn("default", fake_spec("--fake-child"))
    pid = process.identity.pid
    await until(lambda: psutil.Process(pid).children())
    (grandchild,) = psutil.Process(pid).children()
    process.forget()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: identity_of(pid) is None)
    assert not process.has_ended
    assert identity_of(grandchild.pid), "its group is left alone"
    grandchild.kill()
    process.forget()
    await until(lambda: not psutil.pid_exists(pid))


async def test_a_process_that_goes_just_before_its_signal_is_no_error(started, monkeypatch):
    process = await started(fake_spec())

    def gone(pid):
        raise ProcessLookupError

    with monkeypatch.context() as patch:
        patch.setattr(os, "getpgid", gone)
        process.terminate()


async def test_the_end_of_a_process_is_told_once(started):
    process = await started(fake_spec())
    process.kill()
    assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit(signal=9)
    process.note_end()
    assert await process.wait() == Exit(signal=9)


async def test_a_process_that_ended_before_it_could_be_watched_has_ended(processes):
    child = subprocess.Popen(["true"])
    child.wait()
    process = LocalProcess(identity=Identity(pid=child.pid, start=1, boot_id="b"), started_at=0.0)
    assert await asyncio.wait_for(process.wait(), DEADLINE) == Exit()


async def test_bytes_a_process_writes_into_files_are_counted_but_not_those_of_its_log(processes, tmp_path):
    """As a download grows."""
    part = tmp_path / "model.part"
    (tmp_path / "read").write_text("it only reads this")
    script = f"exec 5<{tmp_path}/read; exec 3>{part}; printf 12345 >&3; exec 4>{part}.gone; rm {part}.gone; echo begun; exec sleep 60"
    writing = LaunchSpec(host="localhost", port=free_port(), command=("sh", "-c", script), args=())
    process = await processes.spawn("writing", writing)
    try:
        async with asyncio.timeout(DEADLINE):
            while await process.fetched() != 5:
                await asyncio.sleep(0.02)
    finally:
        process.kill()
        await process.wait()
    silent = LaunchSpec(
        host="localhost", port=free_port(), command=("sh", "-c", "echo; exec sleep 60"), args=()
    )
    process = await processes.spawn("silent", silent)
    try:
        async with asyncio.timeout(DEADLINE):
            while not await process.fetched():
                await asyncio.sleep(0.02)
    finally:
        process.kill()
        await process.wait()


async def test_nothing_is_known_to_be_fetched_by_a_process_that_cannot_be_seen(processes):
    hidden = PortHolder(identity=None, command="", is_llama_server=True)
    process = await processes.adopt("default", hidden, fake_spec())
    assert await process.fetched() == 0
    process.forget()
