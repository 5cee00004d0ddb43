"""What strangers do to the web listener: it costs them their connection, and nobody else anything."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from tempfile import gettempdir

import psutil
import pytest

from tests.acceptance.children import wait_for
from tests.deadline import DEADLINE

FEW_FILES = Path(__file__).parents[1] / "few_files.py"
HANDSHAKE = (
    b"GET /llamaproxws?format=json HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
POST = b"POST /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n"
TOO_MUCH = b"\x03\xf0Too many messages"
"""1008 and why."""


@pytest.fixture(scope="module", params=["one process", "daphne"])
def pages(request, make_shared):
    """Pages in either shape, and the process that serves them as `serving`."""
    proxy = make_shared(retry_backoff_ms=50, health_check_interval_ms=200)
    proxy.script()
    if request.param == "daphne":
        proxy.start(web=False)
        proxy.serving = proxy.start_web()
    else:
        proxy.serving = proxy.start("--no-gateway").supervisor
    proxy.wait_for_status("ready")
    return proxy


def connect(proxy):
    connection = socket.create_connection(("127.0.0.1", proxy.web_port), timeout=DEADLINE)
    return closing(connection)


def read_to_end(connection):
    """All that comes until the other side ends it, politely or not."""
    content = b""
    with suppress(ConnectionError):
        while data := connection.recv(65536):
            content += data
    return content


def send_until_refused(connection, data, times):
    with suppress(ConnectionError):
        for _ in range(times):
            connection.sendall(data)


def test_more_idle_connections_than_descriptors_end_no_server_and_keep_nobody_out(pages):
    before = pages.status()
    with ExitStack() as stack:
        for number in range(1500):
            connection = stack.enter_context(connect(pages))
            if number % 2:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert pages.get("/livez").status_code == 200
        assert psutil.Process(pages.serving.pid).num_fds() < 1300
        assert pages.wait_for_status("ready")["pid"] == before["pid"]
    assert len(pages.runs()) == 1


def test_sockets_leave_room_for_pages(pages):
    with ExitStack() as stack:
        answers = []
        for _ in range(600):
            connection = stack.enter_context(connect(pages))
            connection.sendall(HANDSHAKE)
            answers.append(connection.recv(12))
        assert answers.count(b"HTTP/1.1 101") == 512
        assert answers[-1] == b"HTTP/1.1 503"
        assert pages.get("/").status_code == 200

    def opens():
        with connect(pages) as connection:
            connection.sendall(HANDSHAKE)
            return connection.recv(12) == b"HTTP/1.1 101"

    wait_for("sockets are let in again", opens)


@pytest.mark.parametrize(
    "frame",
    [
        b"\x81\x82\0\0\0\0{}",
        b"\x81\x80\0\0\0\0",
        b"\x89\x80\0\0\0\0",
        b"\x00\x80\0\0\0\0",
        b"\x8a\x80\0\0\0\0",
    ],
    ids=["messages", "empty messages", "pings", "pieces of a message", "pongs"],
)
def test_a_flood_of_frames_is_closed_with_1008(pages, frame):
    with connect(pages) as connection:
        connection.sendall(HANDSHAKE)
        assert connection.recv(12) == b"HTTP/1.1 101"
        flood = b"\x01\x80\0\0\0\0" + frame * 5000 if frame[0] == 0 else frame * 5000
        send_until_refused(connection, flood, times=5)
        assert TOO_MUCH in read_to_end(connection)
    assert pages.get("/livez").status_code == 200


def test_large_messages_are_counted_by_their_bytes(pages):
    message = b"\x81\xfe\xf0\x00\0\0\0\0" + b"x" * 0xF000
    with connect(pages) as connection:
        connection.sendall(HANDSHAKE)
        assert connection.recv(12) == b"HTTP/1.1 101"
        send_until_refused(connection, message, times=20)
        assert TOO_MUCH in read_to_end(connection)


def test_frames_before_the_answer_to_the_handshake_are_not_kept(pages):
    with connect(pages) as connection:
        connection.sendall(HANDSHAKE)
        send_until_refused(connection, b"\x81\x82\0\0\0\0{}" * 10_000, times=50)
        read_to_end(connection)


def test_a_client_that_asks_for_the_status_now_and_then_is_answered(pages):
    with pages.events() as events:
        events.next()
        for _ in range(10):
            events.send('{"type": "requestLlamaStatus"}')
            assert events.next()["type"] == "llama_status"


@pytest.mark.parametrize("fields", [b"", b"Expect: 100-continue\r\n"])
def test_a_body_of_any_size_is_refused_by_its_head(pages, fields):
    with connect(pages) as connection:
        connection.sendall(POST + fields + b"Content-Length: 1500000000\r\n\r\n")
        assert read_to_end(connection).startswith(b"HTTP/1.1 413 ")


def test_the_answer_to_a_body_that_comes_all_the_same_arrives(pages):
    with connect(pages) as connection:
        connection.sendall(POST + b"Content-Length: 1500000000\r\n\r\n")
        for _ in range(20):
            connection.sendall(b"x" * 65536)
        assert connection.recv(13) == b"HTTP/1.1 413 "


@pytest.mark.parametrize(
    ("chunk", "reason"),
    [(b"10000\r\n" + b"x" * 65536 + b"\r\n", b"too large"), (b"1\r\nx\r\n" * 500, b"too many pieces")],
)
def test_a_body_in_chunks_is_refused_as_soon_as_it_is_too_large(pages, chunk, reason):
    with connect(pages) as connection:
        connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        send_until_refused(connection, chunk, times=5)
        answer = read_to_end(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert reason in answer
        assert pages.get("/livez").status_code == 200


def test_a_short_body_in_chunks_is_taken(pages):
    with connect(pages) as connection:
        connection.sendall(
            POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        )
        assert read_to_end(connection).startswith(b"HTTP/1.1 403 ")  # as any form of a stranger


def test_no_body_is_written_to_disk(pages):
    """A temporary file would be a descriptor for each, and somebody's disk."""
    process = psutil.Process(pages.serving.pid)
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(pages)) for _ in range(20)]
        for connection in connections:
            connection.sendall(POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 150_000)
        clients = {connection.getsockname()[1] for connection in connections}
        wait_for("all have come", lambda: clients <= ports_of_clients(process))
        assert pages.get("/livez").status_code == 200
        assert temporary_files(process) == []


def ports_of_clients(process):
    return {one.raddr.port for one in process.net_connections("tcp") if one.raddr}


def temporary_files(process):
    """Return the names of the files that are open in the directory for temporary files, removed ones among them."""
    names = []
    for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            names.append(descriptor.readlink())
    return [name for name in names if name.parent == Path(gettempdir())]


def test_a_socket_that_asks_all_the_time_and_takes_nothing_is_closed(pages):
    ask = b'\x81\x9e\0\0\0\0{"type": "requestLlamaStatus"}'
    with socket.socket() as connection, pages.events() as other:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(DEADLINE)
        connection.connect(("127.0.0.1", pages.web_port))
        connection.sendall(HANDSHAKE)
        assert connection.recv(12) == b"HTTP/1.1 101"
        send_until_refused(connection, ask * 20, times=2)
        other.send('{"type": "requestLlamaStatus"}')
        other.wait_for("an answer", lambda message: message["type"] == "llama_status")
        assert len(read_to_end(connection)) < 2**20


def test_half_a_request_is_not_waited_for_long_however_slowly_it_comes(pages):
    with connect(pages) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        deadline = time.monotonic() + 2 * DEADLINE
        ended = False
        while not ended and time.monotonic() < deadline:
            with suppress(TimeoutError):
                connection.settimeout(0.5)
                ended = connection.recv(1) == b""
            with suppress(ConnectionError):
                connection.sendall(b"X")
        assert ended


@pytest.mark.parametrize("files", [256, 1024])
def test_where_descriptors_are_few_supervision_keeps_its_own(fake, files):
    fake.configure(health_check_interval_ms=100, max_retries=100)
    fake.start("--no-gateway", through=[str(FEW_FILES), str(files)])
    pid = fake.wait_for_status("ready")["pid"]
    with ExitStack() as stack:
        for number in range(files + 100):
            connection = stack.enter_context(connect(fake))
            if number % 3 == 0:
                connection.sendall(HANDSHAKE)
            elif number % 3 == 1:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
        for _ in range(3):
            assert fake.wait_for_status("ready")["pid"] == pid
            psutil.Process(pid).kill()
            pid = fake.wait_for_new_pid(pid)["pid"]
        assert psutil.Process(fake.supervisor.pid).num_fds() < files - 20
    assert [run["signal"] for run in fake.runs()] == [9, 9, 9, None]
