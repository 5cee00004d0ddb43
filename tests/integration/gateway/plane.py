"""A gateway's data plane in the event loop of the test, what it knows of its servers, and its clients."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from supervisor_app.core.status import Status
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.access.keys import KeyPolicy, KeyRing, digest_of
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.plane.client import Client
from supervisor_app.gateway.plane.exchange import Exchange
from supervisor_app.gateway.plane.gateway import Gateway
from supervisor_app.gateway.servers.facts import End, ServerFacts
from tests.deadline import DEADLINE
from tests.integration.building import eventually
from tests.integration.gateway.scripts import Script, Scripted

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.gateway.records.record import QuarantineEntry, Record
    from supervisor_app.gateway.workers.board import Board

"""Seconds. Everything takes a moment; on a busy machine a long one."""
CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
LARGE = b"x" * 300_000
"""Bytes that are more than is read or pipelined at once."""


def request(
    path: str = EMBEDDINGS, *lines: str, body: Any = None, method: str = "", version: str = "1.1"
) -> bytes:
    """`body` is bytes or what to make JSON of; without one it is a GET."""
    content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    length = [] if body is None else [f"Content-Length: {len(content)}"]
    head = [f"{method} {path} HTTP/{version}", "Host: localhost", *length, *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + content


def question(text: str = "hi", path: str = EMBEDDINGS, **fields: Any) -> bytes:
    """Make a request for an answer that comes in one piece."""
    return request(path, body={"model": "default", "input": text, **fields})


def streaming(text: str = "hi", path: str = CHAT, **fields: Any) -> bytes:
    messages = [{"role": "user", "content": text}]
    return request(path, body={"model": "default", "messages": messages, "stream": True, **fields})


@dataclass
class Answer:
    """The answer that a client got."""

    status: int
    fields: dict[str, str]
    content: bytes = b""
    whole: bool = True
    """True: the answer came to its end, as far as the framing tells."""
    was_reset: bool = False
    interim: list[int] = field(default_factory=list)
    """Statuses of answers such as 100 that came before."""

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def is_broken(self) -> bool:
        """A stream that ended in good order, as its client has to see it, but in an error event of ours."""
        return self.whole and "retryable" in self.last_event["error"]

    @property
    def last_event(self) -> Any:
        """Return the data of the last event of a stream."""
        return json.loads(self.content.rpartition(b"data: ")[2])


class Caller:
    """A client's connection, down to the byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        async with asyncio.timeout(DEADLINE):
            await self._writer.drain()

    async def ask(self, data: bytes, *, to_head: bool = False) -> Answer:
        self._writer.write(data)  # not waiting for it to be taken: the answer may come first
        return await self.answer(to_head=to_head)

    async def answer(self, *, to_head: bool = False) -> Answer:
        """The next one, with as much of its content as came. Raises IncompleteReadError: not even a head."""
        async with asyncio.timeout(DEADLINE):
            interim: list[int] = []
            while (answer := await self._head()).status < 200:
                interim.append(answer.status)
            answer.interim = interim
            pieces: list[bytes] = []
            if not (to_head or answer.status in (204, 304)):
                try:
                    await self._read_body(answer.fields, pieces)
                except asyncio.IncompleteReadError as error:
                    answer.whole = False
                    pieces.append(error.partial)
                except ConnectionResetError:
                    answer.whole, answer.was_reset = False, True
            answer.content = b"".join(pieces)
            return answer

    async def head(self) -> Answer:
        """Read the head of the next answer, which goes on."""
        async with asyncio.timeout(DEADLINE):
            return await self._head()

    async def read_until(self, end: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE):
            return await self._reader.readuntil(end)

    async def rest(self) -> bytes:
        """All up to the end of the connection. Raises ConnectionResetError."""
        async with asyncio.timeout(DEADLINE):
            return await self._reader.read()

    async def is_cut_off(self) -> bool:
        """The connection ends, in whatever way, and nothing comes before."""
        with suppress(ConnectionResetError):
            return await self.rest() == b""
        return True

    def read_nothing(self) -> None:
        """Read nothing from now on: what comes stays in the kernel, until that is full."""
        self._writer.transport.pause_reading()

    def read_on(self) -> None:
        self._writer.transport.resume_reading()

    def send_no_more(self) -> None:
        self._writer.write_eof()

    def close(self) -> None:
        """Close in order, as a program does that ends."""
        self._writer.close()

    def leave(self) -> None:
        self._writer.transport.abort()

    async def _head(self) -> Answer:
        raw = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        assert len({name.lower() for name, _ in pairs}) == len(pairs), raw
        return Answer(int(first.split()[1]), {name.lower(): value for name, value in pairs})

    async def _read_body(self, fields: dict[str, str], pieces: list[bytes]) -> None:
        reader = self._reader
        if "content-length" in fields:
            assert "transfer-encoding" not in fields
            pieces.append(await reader.readexactly(int(fields["content-length"])))
        elif fields.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                pieces.append(await reader.readexactly(size))
                assert await reader.readexactly(2) == b"\r\n"
            assert await reader.readexactly(2) == b"\r\n"
        else:
            while piece := await reader.read(2**16):
                pieces.append(piece)


class Collector:
    """`outside.Outside` that keeps what it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.woken: list[str] = []
        self.entries: list[QuarantineEntry] = []
        self.more: Callable[[], None] | None = None
        """Call that asks servers for their models; None: there is no need to."""
        self.reads: list[str] = []
        self.changed: list[str] = []

    def wake(self, server: str) -> None:
        self.woken.append(server)

    def record(self, record: Record) -> None:
        self.records.append(record)

    def quarantined(self, entry: QuarantineEntry) -> None:
        self.entries.append(entry)

    async def metrics(self) -> bytes:
        return b"llamaproxy_up 1\n"

    async def read_models(self, *, now: bool = False, reload: bool = False) -> None:
        self.reads.append("reload" if reload else "now" if now else "")
        if self.more is not None:
            self.more()

    def server_lost(self) -> None:
        pass

    def models_changed(self, server: str) -> None:
        self.changed.append(server)


class Server(Scripted):
    """A scripted server, and what its supervisor says of it."""

    def __init__(self, plane: Plane, name: str, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.name = name
        self._plane = plane
        self._pid = 0

    @property
    def facts(self) -> ServerFacts:
        return self._plane.gateway.backends[self.name].facts

    @property
    def texts(self) -> list[str]:
        """List the texts of the questions that came, in order."""
        return [json.loads(content)["input"] for content in self.contents if content]

    def says(self, **changes: Any) -> None:
        """Change what is known of the server."""
        facts = self.facts
        self._plane.gateway.hear(replace(facts, version=facts.version + 1, **changes))

    def crashed(self, **changes: Any) -> None:
        """Tell that the server's process has ended."""
        self._pid = self.facts.pid or self._pid
        self.says(status=Status.CRASHED, pid=None, **{"detail": "Retry 1 of 5 after 1 s.", **changes})

    def restarted(self, *, blameless: bool = False) -> None:
        """Tell that the server's process has ended, and that another one is ready."""
        if self.facts.pid is not None:
            self.crashed()
        facts = self.facts
        self.says(
            status=Status.READY,
            detail="Serving.",
            pid=self._pid + 1,
            run=(facts.run or 0) + 1,
            ends={**facts.ends, self._pid: End(blameless=blameless, sentence="It crashed.")},
        )


class Plane:
    """Made by the fixture of this name."""

    def __init__(self, gateway: Gateway, outside: Collector) -> None:
        self.gateway = gateway
        self.outside = outside
        self.port = 0
        self._kernel_bytes = 0
        self._servers: list[Server] = []
        self._callers: list[Caller] = []
        self._listening: asyncio.Server

    def limit(self, **limits: Any) -> None:
        """Set limits, before servers and clients come."""
        self.gateway.limits = replace(self.gateway.limits, **limits)

    def narrow(self, kernel_bytes: int = 4096) -> None:
        """Keep buffers so small, before clients come, that most of an answer to one that does not read waits here."""
        self._kernel_bytes = kernel_bytes
        self._listening.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, kernel_bytes)

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(lambda: Client(self.gateway), "127.0.0.1", 0, backlog=1024)
        self.port = self._listening.sockets[0].getsockname()[1]

    async def serve(self, *scripts: Script, name: str = "default", **facts: Any) -> Server:
        """A server that is ready, unless `facts` say otherwise."""
        server = Server(self, name, *scripts)
        await server.start()
        self._servers.append(server)
        known = {"status": Status.READY, "pid": 1001, "run": 1, "version": 1, "detail": "Serving."}
        url = f"http://127.0.0.1:{server.port}"
        self.gateway.hear(ServerFacts(**{"name": name, "url": url, **known, **facts}))
        return server

    async def connect(self) -> Caller:
        # Without the protocol asyncio would not set TCP_NODELAY.
        connection = socket.socket(proto=socket.IPPROTO_TCP)
        if self._kernel_bytes:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._kernel_bytes)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=connection)
        caller = Caller(reader, writer)
        self._callers.append(caller)
        return caller

    async def ask(self, data: bytes, *, to_head: bool = False) -> Answer:
        """Ask on a new connection."""
        caller = await self.connect()
        try:
            return await caller.ask(data, to_head=to_head)
        finally:
            caller.leave()

    def asks(self, data: bytes) -> asyncio.Task[Answer]:
        return asyncio.create_task(self.ask(data))

    async def records(self, number: int) -> list[Record]:
        """All, once there are so many."""
        await eventually(lambda: len(self.outside.records) >= number, DEADLINE)
        assert len(self.outside.records) == number, self.outside.records
        return self.outside.records

    async def until_waiting(self, number: int, name: str = "default") -> None:
        gate = self.gateway.backends[name].gate
        await eventually(lambda: len(gate.waiting) == number, DEADLINE)

    async def until_inside(self, number: int, name: str = "default") -> None:
        gate = self.gateway.backends[name].gate
        await eventually(lambda: len(gate.inside) == number, DEADLINE)

    async def until_begun(self) -> list[Exchange]:
        """Wait until some answer has begun, and return those that have."""

        def begun() -> list[Exchange]:
            exchanges = (each for each in self.gateway.exchanges if isinstance(each, Exchange))
            return [each for each in exchanges if each.answer.reply.started]

        await eventually(begun, DEADLINE)
        return begun()

    def leave(self) -> None:
        """All clients do."""
        for caller in self._callers:
            caller.leave()

    async def close(self) -> None:
        """All clients leave; then nobody is left, neither here nor at a gate."""
        gateway = self.gateway
        self.leave()
        try:
            await eventually(lambda: not (gateway.exchanges or gateway.clients), DEADLINE)
            gates = [backend.gate for backend in gateway.backends.values()]
            assert not [gate for gate in gates if gate.in_flight or gate.waiting]
            assert gateway.kept_bytes == 0
            assert gateway.spooled_bytes == 0
        finally:
            self._listening.close()
            gateway.close()
            for server in self._servers:
                await server.stop()


async def start_plane(board: Board | None = None) -> Plane:
    """Start a plane for programs of this machine, with the limits of production."""
    outside = Collector()
    door = Door(["localhost"])
    gateway = Gateway(limits=Limits(), door=door, outside=outside, board=board, default_server="default")
    plane = Plane(gateway, outside)
    await plane.listen()
    return plane


def with_key(plane: Plane, **fields: Any) -> None:
    """Ask for a key from now on."""
    key = KeyPolicy(id=7, name="chat", digest=digest_of("lp-a"), **fields)
    plane.gateway.door.keys = KeyRing([key])
