"""Signs of life for systemd: from each event loop, and only while all of them go round."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from supervisor_app.common.watchdog import Watchdog, notify

LIMIT = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "40000"}


class Systemd:
    """Collects what it is told. Its clock is set by hand."""

    def __init__(self, environ):
        self.told = []
        self.now = 100.0
        self.dog = Watchdog(environ, send=self._take, clock=lambda: self.now)

    def _take(self, address, text):
        assert address == "/run/x"
        self.told.append(text)


async def test_a_loop_that_goes_round_is_told_and_that_it_is_ready_first():
    systemd = Systemd(LIMIT)
    task = asyncio.create_task(systemd.dog.watch("main"))
    while len(systemd.told) < 4:
        await asyncio.sleep(0.001)
    task.cancel()
    assert systemd.told[:4] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]


async def test_a_loop_that_hangs_is_not_covered_for_by_another():
    systemd = Systemd(LIMIT)
    hung = systemd.dog.watch("supervision")
    hung.send(None)  # one beat, and never again
    systemd.now += 0.04
    other = asyncio.create_task(systemd.dog.watch("pages"))
    await asyncio.sleep(0.05)
    assert systemd.told == ["READY=1", "WATCHDOG=1"]
    hung.close()  # the loop has ended, which is no hang
    while len(systemd.told) < 3:
        await asyncio.sleep(0.001)
    other.cancel()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, []),
        ({"WATCHDOG_USEC": "40000"}, []),
        ({"NOTIFY_SOCKET": "/run/x"}, ["READY=1"]),
        ({"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "soon"}, ["READY=1"]),
        ({**LIMIT, "WATCHDOG_PID": "1"}, ["READY=1"]),
    ],
)
async def test_a_process_that_nobody_watches_says_no_more_than_it_must(environ, told):
    systemd = Systemd(environ)
    await systemd.dog.watch("main")
    assert systemd.told == told


async def test_a_watch_for_this_very_process_is_kept():
    systemd = Systemd({**LIMIT, "WATCHDOG_PID": str(os.getpid())})
    task = asyncio.create_task(systemd.dog.watch("main"))
    while len(systemd.told) < 2:
        await asyncio.sleep(0.001)
    task.cancel()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_message_arrives_at_the_socket(kind, tmp_path):
    address = str(tmp_path / "notify") if kind == "path" else f"@{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{address[1:]}" if kind == "abstract" else address)
        notify(address, "READY=1")
        assert systemd.recv(100) == b"READY=1"


def test_a_socket_that_is_gone_harms_nobody(tmp_path):
    notify(str(tmp_path / "nobody"), "READY=1")
