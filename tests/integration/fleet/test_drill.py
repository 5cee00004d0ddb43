"""A fault on purpose goes where it should, and nowhere else."""

from __future__ import annotations

import signal
import socket
import subprocess

import pytest

from supervisor_app.fleet import drill
from supervisor_app.fleet.drill import DrillError, Fault, inject
from tests.ports import free_port


@pytest.fixture
def victim():
    child = subprocess.Popen(["sleep", "60"])
    yield child
    child.kill()
    child.wait()


@pytest.mark.parametrize("fault", [Fault.KILL, Fault.SEGV, Fault.TERM])
def test_a_signal_ends_the_process_that_was_named(victim, fault):
    with inject(fault, victim.pid, "http://127.0.0.1:1"):
        assert victim.wait(10) == -drill.SIGNALS[fault]


def test_a_port_is_taken_for_the_time_of_the_fault(victim):
    port = free_port()
    with inject(Fault.PORT, victim.pid, f"http://127.0.0.1:{port}"):
        assert victim.wait(10) == -signal.SIGKILL
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
    socket.create_server(("127.0.0.1", port)).close()


def test_a_port_that_somebody_else_has_is_no_drill(victim, monkeypatch):
    monkeypatch.setattr(drill, "TAKE_TRIES", 2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(DrillError, match=f"Port {port} could not be taken"),
            inject(Fault.PORT, victim.pid, f"http://127.0.0.1:{port}"),
        ):
            pass
