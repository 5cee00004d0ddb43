"""Processes that write to a log, of all processes of the machine: found at one look."""

from __future__ import annotations

import os
import subprocess

import pytest

from supervisor_app.core.machine import writers
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.core.machine.logs import LogFile
from supervisor_app.core.machine.writers import end_writers, find_server, read_outputs


@pytest.fixture
def log(tmp_path):
    return LogFile(path=tmp_path / "default.log")


@pytest.fixture
def server(log):
    with log.open() as output:
        process = subprocess.Popen(
            ["/bin/sh", "-c", "read x"], stdin=subprocess.PIPE, stderr=output, start_new_session=True
        )
    yield process
    process.kill()
    process.communicate()


def test_a_server_is_found_by_its_log(server, log):
    assert find_server(log, None).identity.pid == server.pid
    assert find_server(log, identity_of(server.pid)) is None
    assert find_server(LogFile(path=log.path.with_name("another.log")), None) is None


def test_a_server_is_found_whose_log_is_gone(server, log):
    log.path.unlink()
    assert find_server(log, None).identity.pid == server.pid


def test_a_server_is_found_whose_log_is_reached_by_another_name(server, log):
    other = LogFile(path=log.path.with_name("the-same"))
    os.link(log.path, other.path)
    assert find_server(other, None).identity.pid == server.pid


def test_a_process_that_writes_to_no_file_is_not_looked_at_any_further(server):
    with subprocess.Popen(
        ["/bin/sh", "-c", "read x"], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as other:
        outputs = read_outputs()
        other.communicate(b"\n")
    assert server.pid in outputs
    assert outputs.keys().isdisjoint([other.pid, os.getpid()])


def test_a_process_that_writes_elsewhere_by_now_is_not_ended(server, log, monkeypatch):
    """Its pid was given to another one after the look."""
    monkeypatch.setattr(writers, "_writers", lambda _: [server.pid])
    end_writers(LogFile(path=log.path.with_name("another.log")), None)
    assert server.poll() is None
    end_writers(log, None)
    assert server.wait(20) == -9
