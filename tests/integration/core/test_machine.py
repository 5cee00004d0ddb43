"""What this machine is asked: which process is it, who holds a port, may the cause of a failure be gone."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.machine import listeners
from supervisor_app.core.machine.identity import boot_id, identity_of, is_llama_command, machine
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.core.status import FailureKind
from tests.integration.spawning import FAKE, fake_spec, until_async
from tests.ports import free_port


@contextmanager
def foreign_program(port: int):
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


# Identity


def test_an_identity_is_more_than_a_pid():
    me = identity_of(os.getpid())
    assert me is not None
    assert me.pid == os.getpid()
    assert me.boot_id == boot_id()
    assert identity_of(os.getpid()) == me


def test_containers_of_one_machine_are_machines_of_their_own():
    assert machine() == f"{boot_id()}/{os.stat('/proc/self/ns/pid').st_ino}"


def test_there_is_no_identity_without_a_process():
    assert identity_of(2**22 + 1) is None


def test_a_zombie_has_no_identity():
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity_of(child.pid) is None
    child.wait()


@pytest.mark.parametrize(
    ("argv", "llama"),
    [
        (["/usr/bin/llama-server", "-m", "x"], True),
        # Another build of it.
        (["./llama-server-cuda"], True),
        # The bundled engine.
        (["/venv/bin/python", "-I", "/srv/supervisor_app/engine/launcher.py", "-m", "x"], True),
        # Through a loader.
        (["/lib/ld-linux.so", "/opt/llama-server", "-m", "x"], True),
        (["python", "-m", "http.server"], False),
        ([], False),
    ],
)
def test_a_llama_server_is_known_by_its_command_line(argv, llama):
    assert is_llama_command(argv) is llama


# Ports


async def test_a_free_port_has_no_holder(processes):
    assert await processes.port_holder("default", fake_spec()) is None


async def test_a_foreign_program_is_named_with_pid_and_program_alone(processes):
    """Its arguments may be passwords, and everybody may read why a port is taken."""
    spec = fake_spec()
    with foreign_program(spec.port) as child:
        await until_async(lambda: processes.port_holder("default", spec))
        holder = await processes.port_holder("default", spec)
    assert holder.identity.pid == child.pid
    assert str(holder) == f"pid {child.pid} ({Path(sys.executable).name})"
    assert "http.server" in holder.argv
    assert not holder.is_llama_server


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
async def test_a_llama_server_is_recognised_by_its_answers(processes, started, bound):
    await started(fake_spec(port=(port := free_port()), host=bound))
    holder = await processes.port_holder("default", fake_spec(port=port))
    assert holder.is_llama_server
    assert holder.started_at == pytest.approx(time.time(), abs=60)


async def test_a_wildcard_is_held_by_any_listener_on_the_port(processes):
    spec = fake_spec(host="0.0.0.0")
    with foreign_program(spec.port):
        await until_async(lambda: processes.port_holder("default", spec))


async def test_a_server_whose_socket_nobody_tells_of_is_seen_by_its_answer(processes, started, monkeypatch):
    spec = fake_spec()
    await started(spec)
    monkeypatch.setattr(listeners, "listening", lambda port: [])
    holder = await processes.port_holder("default", spec)
    assert holder.identity is None
    assert not holder.is_llama_server, "it could be anybody's"


async def test_a_host_that_does_not_resolve_is_a_problem_before_the_start(processes, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    spec = fake_spec(host="no-such-host.invalid")
    holder = await processes.port_holder("default", spec)
    assert holder.problem == "the host no-such-host.invalid is not known here (Name or service not known)"
    cause = await processes.cause_of("default", failure_of(FailureKind.PORT_TAKEN), spec)
    assert cause.present


async def test_an_address_of_another_machine_is_a_problem_before_the_start(processes):
    holder = await processes.port_holder("default", fake_spec(host="192.0.2.1"))
    assert holder.problem == "192.0.2.1 is no address of this machine"


async def test_a_port_that_is_taken_without_a_listener_is_a_problem_before_the_start(processes):
    spec = fake_spec()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", spec.port))
        holder = await processes.port_holder("default", spec)
        assert "has taken port" in holder.problem
        assert not holder.is_llama_server
        assert (await processes.cause_of("default", failure_of(FailureKind.PORT_TAKEN), spec)).present
    assert await processes.port_holder("default", spec) is None
    assert not (await processes.cause_of("default", failure_of(FailureKind.PORT_TAKEN), spec)).present


async def test_our_own_port_is_named_as_that(processes):
    with socket.create_server(("127.0.0.1", 0)) as ours:
        holder = await processes.port_holder("default", fake_spec(port=ours.getsockname()[1]))
    assert "llamaproxy itself listens on it" in holder.problem
    assert not holder.is_llama_server


async def test_a_llama_server_behind_a_prefix_is_not_taken_over_and_the_flag_is_named(processes, tmp_path):
    spec = fake_spec()
    command = ["llama-server", str(FAKE), "--port", str(spec.port), "--api-prefix", "/x"]
    with subprocess.Popen(command, executable=sys.executable, stderr=subprocess.DEVNULL) as child:
        await until_async(lambda: processes.port_holder("default", spec))
        holder = await processes.port_holder("default", spec)
        child.kill()
    assert "--api-prefix cannot be used" in holder.problem
    assert not holder.is_llama_server


class Forbidden(socket.socket):
    """Any port is for root."""

    def bind(self, address):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


async def test_a_port_for_root_alone_is_a_problem_unless_the_program_has_rights_of_its_own(
    processes, tmp_path, monkeypatch
):
    program = tmp_path / "llama-server"
    program.touch(0o755)
    spec = replace(fake_spec(), command=(str(program),))
    monkeypatch.setattr(socket, "socket", Forbidden)
    assert "is for root alone" in (await processes.port_holder("default", spec)).problem
    assert "is for root alone" in listeners.why_not_bindable(replace(spec, command=()))
    program.chmod(0o4755)
    assert await processes.port_holder("default", spec) is None


def test_whatever_else_keeps_a_port_from_being_had_is_told(monkeypatch):
    error = OSError(errno.EPERM, "Operation not permitted")
    assert (
        listeners.unbindable(error, fake_spec(port=7000), "::1") == "::1 port 7000: Operation not permitted"
    )


async def test_the_port_belongs_to_the_process_that_listens(started):
    spec = fake_spec()
    process = await started(spec)
    endpoint = await process.endpoint(spec)
    assert (endpoint.address, endpoint.port, endpoint.uid) == ("127.0.0.1", spec.port, os.getuid())
    assert not endpoint.unseen
    assert await process.endpoint(fake_spec()) is None


async def test_a_listener_on_another_address_is_not_in_our_way(processes):
    spec = fake_spec(host="127.0.0.2")
    with foreign_program(spec.port):
        await until_async(lambda: processes.port_holder("default", fake_spec(port=spec.port)))
        assert await processes.port_holder("default", spec) is None


# Causes


async def test_the_cause_of_a_failure_changes_when_it_may_be_gone(processes, tmp_path):
    model = tmp_path / "model.gguf"
    spec = LaunchSpec(
        host="127.0.0.1", port=free_port(), command=("/no/such",), args=(), model_path=str(model)
    )
    missing = failure_of(FailureKind.MODEL_MISSING)
    before = await processes.cause_of("default", missing, spec)
    assert await processes.cause_of("default", missing, spec) == before
    model.write_bytes(b"GGUF")
    assert await processes.cause_of("default", missing, spec) != before


async def test_a_port_that_was_freed_is_a_cause_that_is_gone(processes):
    spec = fake_spec()
    taken = failure_of(FailureKind.PORT_TAKEN)
    with foreign_program(spec.port):
        await until_async(lambda: processes.port_holder("default", spec))
        before = await processes.cause_of("default", taken, spec)
        assert await processes.cause_of("default", taken, spec) == before
    assert await processes.cause_of("default", taken, spec) != before


async def test_a_binary_that_appears_is_a_cause_that_is_gone(processes, tmp_path):
    binary = tmp_path / "llama-server"
    spec = LaunchSpec(host="127.0.0.1", port=free_port(), command=(str(binary),), args=())
    missing = failure_of(FailureKind.BINARY_MISSING)
    before = await processes.cause_of("default", missing, spec)
    binary.touch(0o755)
    assert await processes.cause_of("default", missing, spec) != before


async def test_a_bad_flag_cannot_be_watched(processes):
    assert await processes.cause_of("default", failure_of(FailureKind.BAD_ARGUMENT), fake_spec()) is None


async def test_the_size_of_a_model_is_that_of_all_its_parts(processes, tmp_path):
    for part in (1, 2, 3):
        (tmp_path / f"big[v2]-0000{part}-of-00003.gguf").write_bytes(b"x" * part)
    first = str(tmp_path / "big[v2]-00001-of-00003.gguf")
    spec = LaunchSpec(host="h", port=1, command=(), args=(), model_path=first)
    assert await processes.model_bytes("default", spec) == 6
    assert await processes.model_bytes("default", LaunchSpec(host="h", port=1, command=(), args=())) == 0


@pytest.mark.parametrize("kind", [FailureKind.MODEL_CORRUPT, FailureKind.LIBRARY_MISSING])
async def test_a_file_that_is_replaced_is_another_cause(processes, tmp_path, kind):
    file = tmp_path / "file"
    file.write_bytes(b"broken")
    spec = LaunchSpec(host="127.0.0.1", port=free_port(), command=(str(file),), args=(), model_path=str(file))
    before = await processes.cause_of("default", failure_of(kind), spec)
    assert before.present
    file.write_bytes(b"whole again")
    assert await processes.cause_of("default", failure_of(kind), spec) != before


# Where there is no /proc, or where what we look at goes away


def test_without_proc_a_boot_is_known_by_its_time(monkeypatch):
    def unreadable(path):
        raise OSError

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert boot_id() == str(int(psutil.boot_time()))


def test_without_proc_a_machine_is_its_boot(monkeypatch):
    def unreadable(path):
        raise OSError

    monkeypatch.setattr(Path, "stat", unreadable)
    assert machine() == boot_id()


def test_without_proc_an_identity_is_pid_and_start_time(monkeypatch):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    me = identity_of(os.getpid())
    assert me.start == int(psutil.Process().create_time() * 100)
    assert identity_of(2**22 + 1) is None


async def test_a_listener_that_goes_while_it_is_looked_at_is_no_holder(processes, started, monkeypatch):
    spec = fake_spec()
    await started(spec)
    monkeypatch.setattr(listeners, "identity_of", lambda pid: None)
    assert await processes.port_holder("default", spec) is None


async def test_a_holder_that_hides_its_command_line_still_has_a_pid(processes, started, monkeypatch):
    spec = fake_spec()
    process = await started(spec)

    def hidden(process):
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "cmdline", hidden)
    monkeypatch.setattr(psutil.Process, "create_time", hidden)
    holder = await processes.port_holder("default", spec)
    assert holder.identity == process.identity
    assert holder.command == "unknown program"
    assert holder.started_at is None
