"""Programs that cannot be started say why, and whether it is worth another try."""

from __future__ import annotations

import shutil

import pytest

from supervisor_app.core.machine.processes import LocalProcesses
from supervisor_app.core.ports import SpawnError
from supervisor_app.core.spec import LaunchSpec
from supervisor_app.core.status import FailureKind
from tests.integration.spawning import fake_spec
from tests.ports import free_port


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ((), "Install llama.cpp"),
        (("/no/such/llama-server",), "/no/such/llama-server: No such file or directory"),
        (("/",), "/: Permission denied"),
    ],
)
async def test_a_program_that_cannot_be_started_says_why(processes, command, words):
    spec = LaunchSpec(host="localhost", port=free_port(), command=command, args=())
    with pytest.raises(SpawnError) as raised:
        await processes.spawn("default", spec)
    assert raised.value.failure.kind is FailureKind.BINARY_MISSING
    assert words in raised.value.failure.detail


async def test_a_server_that_could_not_be_reached_is_not_started_and_the_flag_is_named(processes):
    with pytest.raises(SpawnError) as raised:
        await processes.spawn("default", fake_spec("--ssl-key-file", "key.pem"))
    assert raised.value.failure.kind is FailureKind.BAD_ARGUMENT
    assert raised.value.failure.permanent
    assert "--ssl-key-file cannot be used" in raised.value.failure.detail


async def test_a_file_that_is_no_program_is_no_binary(processes, tmp_path):
    script = tmp_path / "llama-server"
    script.write_bytes(b"\x7fELF garbage")
    script.chmod(0o755)
    spec = LaunchSpec(host="localhost", port=free_port(), command=(str(script),), args=())
    with pytest.raises(SpawnError) as raised:
        await processes.spawn("default", spec)
    assert raised.value.failure.kind is FailureKind.BINARY_MISSING


@pytest.mark.parametrize(
    ("content", "mode", "more", "words"),
    [
        (b"#!/nope/python3\n", 0o755, (), "is a script for /nope/python3, which does not exist"),
        (b"#!/bin/sh\n", 0o644, (), "Permission denied, it may not be run"),
        (b"#!/bin/sh\n", 0o755, ("x" * 3_000_000,), "longer than this system allows"),
    ],
)
async def test_a_program_that_is_there_is_not_said_to_be_missing(
    processes, tmp_path, content, mode, more, words
):
    program = tmp_path / "llama-server"
    program.write_bytes(content)
    program.chmod(mode)
    spec = LaunchSpec(host="localhost", port=free_port(), command=(str(program),), args=more)
    with pytest.raises(SpawnError) as raised:
        await processes.spawn("default", spec)
    assert words in raised.value.failure.detail
    assert raised.value.failure.permanent
    assert "not found" not in raised.value.failure.sentence


async def test_a_program_that_is_being_written_is_tried_again(processes, tmp_path):
    program = tmp_path / "llama-server"
    shutil.copy("/bin/true", program)
    spec = LaunchSpec(host="localhost", port=free_port(), command=(str(program),), args=())
    with program.open("ab"), pytest.raises(SpawnError) as raised:
        await processes.spawn("default", spec)
    assert "is being written to" in raised.value.failure.detail
    assert not raised.value.failure.permanent


async def test_the_folder_to_start_in_may_be_missing(processes, tmp_path):
    gone = str(tmp_path / "gone")
    spec = LaunchSpec(host="localhost", port=free_port(), command=("/bin/true",), args=(), cwd=gone)
    with pytest.raises(SpawnError) as raised:
        await processes.spawn("default", spec)
    assert raised.value.failure.file == gone


async def test_a_log_that_cannot_be_opened_is_told(tmp_path):
    (tmp_path / "logs").write_text("a file, not a directory")
    with pytest.raises(SpawnError) as raised:
        await LocalProcesses(log_dir=tmp_path / "logs").spawn("default", fake_spec())
    assert raised.value.failure.kind is FailureKind.UNKNOWN
