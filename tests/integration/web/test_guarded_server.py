"""Daphne within limits: what happens to a client that takes nothing, or is not listened to."""

from __future__ import annotations

import json
import select
import socket
import sys
from contextlib import closing, suppress

import pytest

from tests.acceptance.children import ROOT, Child, environment, listens, wait_for
from tests.deadline import DEADLINE
from tests.ports import free_port

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
MESSAGE = b"\x82\xfe\x03\xe8\0\0\0\0" + b"x" * 1000
GENEROUS = {"frames": 10**9, "frames_per_second": 10**9, "frame_bytes_per_second": 10**9}


@pytest.fixture
def serve(tmp_path):
    children = []

    def start(application, **limits):
        port = free_port()
        command = [sys.executable, "-m", "tests.guarded", str(port), json.dumps(limits), application]
        child = Child(command, tmp_path / "log", cwd=ROOT, env=environment(LLAMAPROXY_DATA_DIR=str(tmp_path)))
        children.append(child)
        wait_for("it listens", lambda: listens(port), lambda: child.output)
        return port

    yield start
    for child in children:
        child.kill()


def is_ready(connection, event, milliseconds=0):
    """Say whether a socket can be read or written; any descriptor will do, also one above 1024."""
    ready = select.poll()
    ready.register(connection, event)
    return bool(ready.poll(milliseconds))


def connect(port):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    connection.settimeout(DEADLINE)
    connection.connect(("127.0.0.1", port))
    return closing(connection)


def open_socket(connection):
    connection.sendall(HANDSHAKE)
    assert b" 101 " in connection.recv(4096)


def test_a_socket_that_takes_none_of_its_answers_is_read_no_further_and_closed(serve):
    port = serve("talkative", unread_seconds=1, message_bytes=10**8, **GENEROUS)
    with connect(port) as connection:
        open_socket(connection)
        with suppress(ConnectionError):
            for _ in range(10_000):
                connection.sendall(MESSAGE)
        size = 0
        with suppress(ConnectionError):
            while data := connection.recv(65536):
                size += len(data)
        assert size < 50_000_000


def test_a_message_that_is_sent_may_be_longer_than_one_that_is_taken(serve):
    port = serve("talkative", message_bytes=2000, **GENEROUS)
    with connect(port) as connection:
        open_socket(connection)
        connection.sendall(MESSAGE)
        size = 0
        while size < 100_000:
            data = connection.recv(65536)
            assert data
            size += len(data)
        connection.sendall(b"\x82\xfe\x0f\xa0\0\0\0\0" + b"x" * 4000)
        with suppress(ConnectionError):
            while data := connection.recv(65536):
                size += len(data)
        assert size < 200_000


def test_a_socket_is_not_read_while_nobody_takes_what_it_said(serve):
    port = serve("deaf", message_bytes=10**8, **GENEROUS)
    with connect(port) as connection:
        open_socket(connection)
        connection.sendall(MESSAGE)
        assert b"heard" in connection.recv(4096)
        sent = 0
        connection.setblocking(False)
        while is_ready(connection, select.POLLOUT, 1000) and sent < 100_000_000:
            sent += connection.send(MESSAGE * 100)
        assert sent < 100_000_000


def ask(connection):
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    content = b""
    while b"begun" not in content:
        content += connection.recv(4096)


def test_a_client_that_is_being_answered_keeps_its_place_and_another_is_turned_away(serve):
    port = serve("slow", connections=2)
    with connect(port) as first, connect(port) as second, connect(port) as third:
        ask(second)
        ask(third)
        with suppress(ConnectionError):
            assert first.recv(1) == b""  # it asked nothing, so it made room
        with connect(port) as fourth, suppress(ConnectionError):
            assert fourth.recv(1) == b""
        assert not is_ready(second, select.POLLIN)
        assert not is_ready(third, select.POLLIN)


def test_a_program_whose_body_is_too_large_is_told_so_in_json(serve):
    port = serve("slow", body_bytes=2)
    with connect(port) as connection:
        connection.sendall(b"POST /api/servers/a/stop HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        content = b""
        while data := connection.recv(4096):
            content += data
        head, _, body = content.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"Content-Type: application/json" in head
        assert json.loads(body)["error"]["code"] == "too_large"
