"""A scripted server on a host of its own, with a cable that can be pulled: a network namespace."""

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
from tests.network import network

if TYPE_CHECKING:
    from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
BACKLOG = 1024


class FarHost:
    """Made by `far_host`."""

    def __init__(self, name: str, address: str) -> None:
        self._name = name
        self.address = address

    def vanish(self) -> None:
        """Pull the cable: nothing comes from the host any more, not even a reset."""
        _ip("-n", self._name, "link", "set", "far", "down")

    def return_(self) -> None:
        _ip("-n", self._name, "link", "set", "far", "up")

    def listening(self) -> socket.socket:
        """A socket that listens there. It stays there, whichever thread uses it."""
        made: list[socket.socket] = []

        def listen() -> None:
            with Path(f"/run/netns/{self._name}").open() as space:
                if ctypes.CDLL(None, use_errno=True).setns(space.fileno(), CLONE_NEWNET):
                    return
            made.append(socket.create_server((self.address, 0), backlog=BACKLOG))

        thread = Thread(target=listen)  # which ends there: this process stays where it is
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
        return f"http://{self._host.address}:{self.port}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._host.listening())
        self.port = self._server.sockets[0].getsockname()[1]


@contextmanager
def far_host() -> Iterator[FarHost]:
    """Skips the test where this user may not make one."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("a network namespace takes root and iproute2")
    number = os.getpid() % 16384  # a net of four addresses for each test process
    name, near = f"far-{number}", f"near{number}"
    net = 4 * number
    here, there = (f"10.231.{net >> 8}.{(net & 255) + host}" for host in (1, 2))
    with network(changes=True):
        try:
            _ip("netns", "add", name)
            _ip("link", "add", near, "type", "veth", "peer", "name", "far", "netns", name)
            _ip("address", "add", f"{here}/30", "dev", near)
            _ip("link", "set", near, "up")
            _ip("-n", name, "address", "add", f"{there}/30", "dev", "far")
            _ip("-n", name, "link", "set", "far", "up")
        except subprocess.CalledProcessError as error:
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
            pytest.skip(f"no network namespace can be made: {error.stderr.decode().strip()}")
        try:
            yield FarHost(name, there)
        finally:
            _ip("netns", "delete", name)  # its end of the cable goes with it, and so does ours
            subprocess.run(["ip", "link", "delete", near], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
