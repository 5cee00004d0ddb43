"""The question that each server is asked every second, /health: without a thread, and without a trace.

A thread for each question costs more than the question: threads that wait for the interpreter wake up every
`SWITCH_SECONDS`. And each connection that we close would be kept by the kernel for a minute (TIME_WAIT), 60
for each server. No connection is kept for the next question: llama-server has few threads, and an idle
connection keeps one of them waiting for it.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

from supervisor_app.core.machine.sockets import stranger_at, stranger_behind
from supervisor_app.core.shortage import raise_shortage
from supervisor_app.core.sightings import Health

if TYPE_CHECKING:
    from supervisor_app.core.sightings import Endpoint

MAX_ANSWER = 65536
_LEAVE_NO_TRACE = struct.pack("ii", 1, 0)
"""SO_LINGER for no time: closing resets the connection, of which we have all that we want."""
_HEAD = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r\n]")
_LENGTH = re.compile(rb"(?i)\ncontent-length:[ \t]*(\d+)")


def health_of(status: int) -> Health:
    """Return the meaning of an answer to /health."""
    if status == HTTPStatus.OK:
        return Health.OK
    return Health.LOADING if status == HTTPStatus.SERVICE_UNAVAILABLE else Health.WRONG


async def ask_health(endpoint: Endpoint, timeout: float) -> Health:  # noqa: ASYNC109
    """`timeout` in seconds, for the connection and once more for the answer. Raises ShortageError."""
    try:
        if stranger_at(endpoint):
            return Health.REFUSED
        family = socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LEAVE_NO_TRACE)
            return await _ask(connection, endpoint, timeout)
    except ConnectionRefusedError:
        return Health.REFUSED
    except (OSError, ValueError) as error:
        raise_shortage(error)
        return Health.SILENT


async def _ask(connection: socket.socket, endpoint: Endpoint, timeout: float) -> Health:  # noqa: ASYNC109
    loop = asyncio.get_running_loop()
    if not _is_connected(connection, (endpoint.address, endpoint.port)):
        async with asyncio.timeout(timeout):
            await loop.sock_connect(connection, (endpoint.address, endpoint.port))
    if endpoint.uid is not None and stranger_behind(connection, endpoint.uid):
        return Health.REFUSED
    host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    request = f"GET /health HTTP/1.1\r\nHost: {host}:{endpoint.port}\r\nAccept-Encoding: identity\r\n\r\n"
    answer = bytearray()
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await loop.sock_sendall(connection, request.encode())
            while len(answer) < MAX_ANSWER and not is_whole(answer):
                if not (part := await loop.sock_recv(connection, MAX_ANSWER)):
                    break
                answer += part
    if not is_whole(answer):  # it may have come while we did not run, together with the end of the wait
        with suppress(BlockingIOError):
            answer += connection.recv(MAX_ANSWER)
    found = _HEAD.match(answer)
    return health_of(int(found[1])) if found and is_whole(answer) else Health.SILENT


def _is_connected(connection: socket.socket, address: tuple[str, int]) -> bool:
    """Begin to connect. Within a machine that is done at once, unless nobody listens or too many wait."""
    connection.connect_ex(address)
    try:
        connection.getpeername()
    except OSError:
        return False
    return True


def is_whole(answer: bytes | bytearray) -> bool:
    """Has all of an answer come, or as much as is read? An answer that tells no length ends with its head."""
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        return False
    length = _LENGTH.search(head)
    return length is None or len(body) >= int(length[1]) or len(answer) >= MAX_ANSWER
