"""What strangers send, without a key or a login: `python -m tests.bench.strangers.attacks web|gateway NAME PORT`.

Each attack goes on until its process is ended, and keeps going when its connections are closed.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
HOST = "127.0.0.1"
PAUSE = 0.02
"""Seconds before a connection that was lost is made again."""
MIB = 2**20
HANDSHAKE = (
    b"GET /llamaproxws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_all(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(65536):
            pass


async def repeat(port: int, talk: Talk) -> None:
    """One connection after another, each with `talk`."""
    while True:
        with suppress(OSError, EOFError):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                await talk(reader, writer)
            finally:
                writer.transport.abort()
        await asyncio.sleep(PAUSE)


async def many(port: int, count: int, talk: Talk) -> None:
    await asyncio.gather(*(repeat(port, talk) for _ in range(count)))


def endless(data: bytes) -> Talk:
    """Write the same for ever, as fast as it is taken, and read whatever comes back."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading = asyncio.create_task(read_all(reader))
        try:
            while not (reading.done() or writer.transport.is_closing()):
                writer.write(data)
                await writer.drain()
                await asyncio.sleep(0)
        finally:
            reading.cancel()

    return talk


def frames(data: bytes) -> Talk:
    """A WebSocket that is flooded with `data`."""
    flood = endless(data)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\r\n\r\n")
        await flood(reader, writer)

    return talk


def begun(head: bytes, size: int = 0, hold: float = 3600.0) -> Talk:
    """A request that never ends: its head, so much of its body, silence."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for _ in range(size // 65536):
            writer.write(b'"x",' * 16384)
            await writer.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(hold):
                await read_all(reader)

    return talk


def dribbled(data: bytes) -> Talk:
    """A few bytes at a time."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for start in range(0, len(data), 8):
            writer.write(data[start : start + 8])
            await asyncio.sleep(0.001)

    return talk


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def post(path: str, *fields: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def chat(size: int) -> bytes:
    body = json.dumps({"messages": [["x"] * (size // 5)]}).encode()
    return post("/v1/chat/completions", f"Content-Length: {len(body)}") + body


EMPTY_FRAME = b"\x81\x80\0\0\0\0"
TWO_BYTES = b"\x81\x82\0\0\0\0{}"
PING = b"\x89\x80\0\0\0\0"
FRAGMENT = b"\x01\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * 10_000
CHUNKED = "Transfer-Encoding: chunked"
UNFINISHED = post("/v1/chat/completions", f"Content-Length: {8 * MIB}")

Attack = Callable[[int], Awaitable[None]]
WEB: dict[str, Attack] = {
    "idle sockets": lambda port: many(port, 3000, begun(b"")),
    "half requests": lambda port: many(port, 1500, begun(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")),
    "dribbled heads": lambda port: many(port, 500, dribbled(get("/" + "x" * 8000))),
    "connections": lambda port: many(port, 200, begun(b"", hold=0.0)),
    "pages": lambda port: many(port, 100, endless(get("/"))),
    "livez, pipelined": lambda port: many(port, 200, endless(get("/livez") * 100)),
    "bodies": lambda port: many(port, 50, endless(post("/livez", f"Content-Length: {2**30}") + b"x" * MIB)),
    "tiny chunks": lambda port: many(port, 50, endless(post("/livez", CHUNKED) + b"1\r\nx\r\n" * 50_000)),
    "headers": lambda port: many(port, 100, endless(b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 480 + b"\r\n")),
    "websockets": lambda port: many(port, 1500, begun(HANDSHAKE)),
    "frames, empty": lambda port: many(port, 20, frames(EMPTY_FRAME * 10_000)),
    "frames, two bytes": lambda port: many(port, 20, frames(TWO_BYTES * 10_000)),
    "frames, pings": lambda port: many(port, 20, frames(PING * 10_000)),
    "frames, fragments": lambda port: many(port, 20, frames(FRAGMENT)),
}
GATEWAY: dict[str, Attack] = {
    "idle sockets": lambda port: many(port, 5000, begun(b"")),
    "half requests": lambda port: many(port, 3000, begun(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")),
    "connections": lambda port: many(port, 200, begun(b"", hold=0.0)),
    "models, pipelined": lambda port: many(port, 200, endless(get("/v1/models") * 100)),
    "metrics, pipelined": lambda port: many(port, 50, endless(get("/metrics") * 20)),
    "tiny chunks": lambda port: many(
        port, 50, endless(post("/v1/chat/completions", CHUNKED) + b"1\r\n \r\n" * 50_000)
    ),
    "bodies closed together": lambda port: many(port, 60, begun(UNFINISHED, 8 * MIB - 65536, hold=1.0)),
    "bodies of 7 MB": lambda port: many(port, 60, endless(chat(7 * MIB))),
    "bodies of 100 kB": lambda port: many(port, 200, endless(chat(100_000))),
}

ATTACKS = {"web": WEB, "gateway": GATEWAY}


@contextmanager
def attacked(where: str, name: str, port: int) -> Iterator[None]:
    """By a process of its own."""
    assert name in ATTACKS[where]
    command = [sys.executable, "-m", __name__, where, name, str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    where, name, number = sys.argv[1:]
    asyncio.run(ATTACKS[where][name](int(number)))
