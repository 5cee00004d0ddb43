"""A scripted server on a host of its own, with a cable that can be pulled: a network namespace.

The test is in another one, at the other end: no interface of this machine comes or goes, for which Chromium gives up
what it loads beside us, also from 127.0.0.1 (ERR_NETWORK_CHANGED).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from tests.integration.gateway.scripts import Script, Scripted

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
BACKLOG = 1024
HERE, THERE = "10.231.0.1", "10.231.0.2"


class FarHost:
    """Made by `far_host`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def vanish(self) -> None:
        """Pull the cable: nothing comes from the host any more, not even a reset."""
        _ip("-n", self._name, "link", "set", "far", "down")

    def return_(self) -> None:
        _ip("-n", self._name, "link", "set", "far", "up")

    def listening(self) -> socket.socket:
        """A socket that listens there. It stays there, whichever thread uses it."""
        made: list[socket.socket] = []

        def listen() -> None:
            if _enter(_space(self._name)):
                made.append(socket.create_server((THERE, 0), backlog=BACKLOG))

        thread = Thread(target=listen)  # which ends there: this one stays where it is
        thread.start()
        thread.join()
        if not made:
            pytest.skip("no socket can be had in a network namespace")
        return made[0]


class FarServer(Scripted):
    def __init__(self, host: FarHost, *scripts: Script) -> None:
        super().__init__(*scripts)
        self._host = host

    @property
    def url(self) -> str:
        return f"http://{THERE}:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._host.listening())
        self.port = self._server.sockets[0].getsockname()[1]


@contextmanager
def far_host() -> Iterator[FarHost]:
    """Have the far host, and this thread, with those that it starts, in a namespace beside it.

    Skips the test where this user may not make one.
    """
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("a network namespace takes root and iproute2")
    near, far = f"near-{os.getpid()}", f"far-{os.getpid()}"
    try:
        _connect(near, far)
        with Path("/proc/thread-self/ns/net").open() as before:
            if not _enter(_space(near)):
                pytest.skip("no thread may enter a network namespace")
            try:
                yield FarHost(far)
            finally:
                assert _setns(before.fileno()), "this thread is where nobody else is"
    finally:
        for name in (near, far):  # the cable goes with its ends
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _connect(near: str, far: str) -> None:
    """Make two namespaces, and a cable between them."""
    try:
        for name in (near, far):
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", near, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", far)
        for name, end, address in ((near, "near", HERE), (far, "far", THERE)):
            _ip("-n", name, "address", "add", f"{address}/30", "dev", end)
            _ip("-n", name, "link", "set", end, "up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made: {error.stderr.decode().strip()}")


def _space(name: str) -> Path:
    return Path("/run/netns") / name


def _enter(space: Path) -> bool:
    """Take this thread there, if it may go."""
    with space.open() as file:
        return _setns(file.fileno())


def _setns(number: int) -> bool:
    return ctypes.CDLL(None, use_errno=True).setns(number, CLONE_NEWNET) == 0


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
