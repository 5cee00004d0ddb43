"""llama-server's side of a connection: reads request after request, answers each by a plan of its own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tests.simulation.answers import ENDS, Deed, Question, plan_of
from tests.simulation.chance import chance_of
from tests.simulation.transport import Transport

if TYPE_CHECKING:
    from tests.simulation.world import World

LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
IDENT = re.compile(rb"id-(\d+-\d+)")
FIRST_LINE = re.compile(rb"[A-Z]+ /\S* HTTP/1\.1")
EARLY = 0.15
"""How often a request is answered by its head, while its body is still to come."""


class ServerConnection:
    """A `transport.Peer`."""

    def __init__(self, world: World, number: int, port: int, kernel_bytes: int) -> None:
        self.port = port
        self.is_over = False
        self.transport = Transport(world.loop, self, kernel_bytes)
        self._world = world
        self._number = number
        self._buffer = b""
        self._is_busy = False
        self._answered = 0
        self._considered = b""
        """A head whose body is still to come."""
        self._skips = False
        """It has been answered."""

    @property
    def name(self) -> str:
        return f"server connection {self._number} to {self.port}"

    def received(self, data: bytes) -> None:
        self._world.saw(self.name, data)
        self._buffer += data
        if not self._is_busy:
            self._take()

    def ended(self, how: str) -> None:
        self.is_over = True
        self._world.saw(self.name, f"ended: {how}")

    def end(self, deed: Deed) -> None:
        """Its process ends, or it has enough of this connection."""
        if self.is_over:
            return
        self.is_over = True
        if deed is Deed.RESET:
            self.transport.peer_resets()
        else:
            self.transport.peer_ends()

    def _take(self) -> None:
        """The next request, if it has come."""
        end = self._buffer.find(b"\r\n\r\n") + 4
        if self.is_over or end < 4:
            return
        head, rest = self._buffer[:end], self._buffer[end:]
        if not FIRST_LINE.fullmatch(head.split(b"\r\n", 1)[0]):
            self._world.problems.append(f"{self.name}: no request begins with {head[:100]!r}")
            return
        size = _size_of_body(head, rest)
        if size is None:
            self._consider(head, rest)
            return
        body, self._buffer, self._considered = rest[:size], rest[size:], b""
        if self._skips:
            self._skips = False
            self._take()
        else:
            self._is_busy = True
            self._answer(head, body)

    def _consider(self, head: bytes, rest: bytes) -> None:
        """Some answer by the head alone. What comes next is still its body."""
        if head == self._considered or b"Transfer-Encoding: chunked" in head:
            return
        self._considered = head
        if chance_of(self._world.seed, "early", head).hits(EARLY):
            self._skips = True
            content = b'{"for":"id-%b"}' % _ident_of(rest).encode()
            self.transport.peer_sends(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
            )

    def _answer(self, head: bytes, body: bytes) -> None:
        world = self._world
        ident = _ident_of(body) or _ident_of(head)
        question = Question(
            ident=ident,
            to_head=head.startswith(b"HEAD"),
            wants_stream=b'"stream":true' in body.replace(b" ", b""),
        )
        chance = chance_of(world.seed, "answer", ident, world.asked(ident))
        plan = plan_of(chance, question, world.scene.calm)
        if not any(isinstance(step, Deed) for _, step in plan):
            world.somebody_hangs = True
        if head.startswith(b"POST /tools") and ident:
            loads = any(isinstance(step, bytes) and b"Loading model" in step for _, step in plan)
            world.acted(ident, loads=loads)
        self._answered += 1
        # Not at the same moment as another connection: which of two is first would be left open.
        at = 1e-7 * (self._number % 97) + 3e-9
        for seconds, step in plan:
            at += seconds
            world.loop.call_later(at, self._do, self._answered, step)

    def _do(self, answer: int, step: bytes | Deed) -> None:
        if self.is_over or answer != self._answered:
            return
        if isinstance(step, bytes):
            self.transport.peer_sends(step)
        elif step in ENDS:
            self.end(step)
        else:
            self._is_busy = False
            self._take()


def _ident_of(data: bytes) -> str:
    found = IDENT.search(data)
    return found[1].decode() if found else ""


def _size_of_body(head: bytes, rest: bytes) -> int | None:
    """None: it has not come whole yet."""
    if b"Transfer-Encoding: chunked" not in head:
        length = LENGTH.search(head)
        size = int(length[1]) if length else 0
        return size if size <= len(rest) else None
    at, chunk = 0, -1
    while chunk:
        end = rest.find(b"\r\n", at)
        if end < 0:
            return None
        chunk = int(rest[at:end], 16)
        at = end + 2 + chunk + 2
        if at > len(rest):
            return None
    return at
