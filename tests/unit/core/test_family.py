"""What a process and its children have used, and how seldom that asks for the table of all processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack

import pytest

from supervisor_app.core.machine import family
from supervisor_app.core.machine.family import family_of, usage_of
from supervisor_app.core.machine.shared_look import SharedLook

NOBODY = 2**22 + 1


@pytest.fixture
def tables(monkeypatch):
    """A note of each time that the table of all processes is read."""
    read, original = [], family.read_children

    def noted():
        read.append(time.monotonic())
        return original()

    monkeypatch.setattr(family, "_children", SharedLook(noted))
    return read


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process.pid
    process.communicate(b"\n", 20)


def test_a_family_is_a_process_with_its_children(child):
    found = family_of(os.getpid(), now=True)
    assert found[0] == os.getpid()
    assert child in found


def test_a_process_that_is_gone_has_no_family():
    assert family_of(NOBODY) == []
    assert usage_of(NOBODY, 1).cpu_seconds == 0


def test_nothing_is_known_of_a_process_that_ends_while_it_is_looked_at(machine):
    assert family.cpu_seconds_of(NOBODY) == 0
    assert family.connections_by_psutil(NOBODY, 1) == 0


def test_all_who_ask_within_a_moment_share_one_table(monkeypatch):
    read, now = [], 100.0

    def noted():
        read.append(now)
        return {}

    monkeypatch.setattr(family, "_children", SharedLook(noted, clock=lambda: now))
    for _ in range(50):
        family_of(os.getpid())
        now += family.TABLE_SECONDS / 50
    assert len(read) == 1
    now += family.TABLE_SECONDS
    family_of(os.getpid())
    assert len(read) == 2


def test_a_caller_that_must_know_now_gets_a_table_read_after_its_question(tables, child):
    family_of(os.getpid())
    asked = time.monotonic()
    assert child in family_of(os.getpid(), now=True)
    assert tables[-1] >= asked


def test_callers_that_ask_while_the_table_is_read_share_it(tables):
    threads = [threading.Thread(target=family_of, args=[os.getpid()]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tables) == 1


def refused(_):
    raise OSError("a sandbox")


@pytest.fixture(params=["sock_diag", "no sock_diag", "no Linux"])
def machine(request, monkeypatch):
    """Where it is counted."""
    if request.param != "sock_diag":
        monkeypatch.setattr(family, "connected", refused)
    monkeypatch.setattr(family, "_IS_LINUX", request.param != "no Linux")


def test_clients_of_a_server_are_counted_and_nothing_else(machine):
    with ExitStack() as stack:
        server, other = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        port = server.getsockname()[1]
        assert usage_of(os.getpid(), port).connections == 0
        for each in (server, other):
            stack.enter_context(socket.create_connection(each.getsockname()))
            stack.enter_context(each.accept()[0])
        assert usage_of(os.getpid(), port).connections == 1


def test_the_processor_time_of_a_process_is_counted(machine):
    before = usage_of(os.getpid(), 1).cpu_seconds
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert usage_of(os.getpid(), 1).cpu_seconds > before


class Made:
    """A machine of which it is seen when its processes are read."""

    def __init__(self, newest=b"1"):
        self.now, self.newest, self.reads = 0.0, newest, 0
        self.children = family.Children(self._read, newest=lambda: self.newest, clock=lambda: self.now)

    def _read(self):
        self.reads += 1
        return {1: [self.reads]}


def test_no_process_is_read_again_while_none_is_made():
    made = Made()
    assert [made.children() for _ in range(9)] == [{1: [1]}] * 9


def test_a_new_process_has_all_read_again():
    made = Made()
    made.children()
    made.newest = b"2"
    assert made.children() == {1: [2]}


def test_where_no_pid_is_told_all_are_read_each_time():
    made = Made(newest=b"")
    made.children()
    assert made.children() == {1: [2]}


def test_the_newest_pid_is_not_trusted_for_long():
    made = Made()
    made.children()
    made.now = family.TRUSTED_SECONDS
    assert made.children() == {1: [2]}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_the_kernel_tells_the_pid_that_it_gave_last(child):
    assert int(family.newest_pid()) >= child


def test_where_the_kernel_tells_no_pid_none_is_known(monkeypatch):
    monkeypatch.setattr(family.os, "open", lambda *_: refused(_))
    assert family.newest_pid() == b""
