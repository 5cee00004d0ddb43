"""Servers of nothing but sockets, whose answers are bytes of a script."""

from __future__ import annotations

import os
import re
import socket
import threading
from contextlib import contextmanager, suppress

import pytest

from supervisor_app.core.machine.probe import HttpProbe
from supervisor_app.core.sightings import Endpoint
from supervisor_app.core.spec import LaunchSpec


@contextmanager
def server(*answers: bytes | None, requests: list[bytes] | None = None):
    """Answer each connection with the next of these bytes, then always with the last one; None: say nothing."""
    script = list(answers)
    listener = socket.create_server(("127.0.0.1", 0))
    open_sockets: list[socket.socket] = [listener]

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_sockets.append(connection)
            answer = script.pop(0) if len(script) > 1 else script[0]
            if answer is None:
                continue
            with suppress(OSError):  # it was only looked at, or all is over
                data = whole_request(connection)
                if requests is not None:
                    requests.append(data)
                connection.sendall(answer)
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield spec_for(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for opened in open_sockets:
            opened.close()
        thread.join(5)


def whole_request(connection: socket.socket) -> bytes:
    """Its body often comes after its head. Less when the client leaves."""
    data, missing = b"", 1
    while missing > 0 and (received := connection.recv(65536)):
        data += received
        head, end, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        missing = (int(length[1]) if length else 0) - len(body) if end else 1
    return data


def proved(spec: LaunchSpec, uid: int | None = None) -> LaunchSpec:
    uid = os.getuid() if uid is None else uid
    return spec.at(Endpoint(address="127.0.0.1", port=spec.port, uid=uid))


def spec_for(port: int, **more) -> LaunchSpec:
    return LaunchSpec(host="127.0.0.1", port=port, command=(), args=(), **more)


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture
def probe():
    made = HttpProbe()
    yield made
    made.close()
