"""Stand-ins for what is around a part of a request, so that the part can be built alone."""

from __future__ import annotations

from types import SimpleNamespace

from supervisor_app.gateway.http.answer_heads import read_response
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.http.reply import Reply
from supervisor_app.gateway.servers.backend import Backend
from supervisor_app.gateway.servers.hold import Hold
from tests.unit.gateway.raw_heads import read

JSON_TYPE = "application/json"
EVENTS = "text/event-stream"


def request_head(path="/v1/chat/completions", *lines, method="POST"):
    return read(*lines, first=f"{method} {path} HTTP/1.1")[0]


def answer_head(status=200, content_type=JSON_TYPE, length=None):
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    raw = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n"
    return read_response(raw.encode(), to_head=False)[0]


class Transport:
    """The way to the client, which remembers what was written."""

    def __init__(self):
        self.written = b""
        self.is_aborted = False

    def write(self, data):
        self.written += data

    def abort(self):
        self.is_aborted = True

    def get_extra_info(self, name):
        return SimpleNamespace(setsockopt=lambda *_: None)

    @property
    def content(self):
        """Return what came after the head of the answer."""
        return self.written.partition(b"\r\n\r\n")[2]


class Outlet:
    """`errand.Outlet`, over a real `Reply`."""

    passes_chunks = True

    def __init__(self):
        self.transport = Transport()
        self.reply = Reply(self.transport, http11=True, keep_alive=True)
        self.hold = None
        self.shown = []
        self.content = b""

    def show_head(self, head, comments):
        self.shown.append(comments)
        self.reply.start(head.status, head.beginning, None)

    def write(self, content):
        self.content += content


class Connection:
    """`upstream.Connection`, which asks nobody."""

    authority = b"server:1"

    def __init__(self, *, used=False):
        self.used = used
        self.asked = []
        self.written = b""
        self.is_held = self.is_aborted = False
        self.listener = self.on_chunk = None

    def ask(self, listener, head, body, *, to_head=False, whole=True):
        self.listener = listener
        self.asked.append((head, body, to_head, whole))

    def hand_over(self, listener):
        self.listener = listener

    def pass_chunks(self, on_chunk):
        self.on_chunk = on_chunk

    def write(self, data):
        self.written += data

    def pause_reading(self, held):
        self.is_held = held

    def abort(self):
        self.is_aborted = True


class Connecting:
    """A connection that is being made until a test says how that went."""

    def __init__(self, made, failed):
        self.made = made
        self.failed = failed
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class Server:
    """`Backend`, as far as an attempt uses it."""

    def __init__(self, *, is_router=False, kept=()):
        self.facts = SimpleNamespace(is_router=is_router, api_key="secret")
        self.pool = self
        self.kept = list(kept)
        self.connecting = []
        self.trusted = 0
        self.moved = self.is_verbose = False

    def take(self):
        return self.kept.pop() if self.kept else None

    def connect(self, made, failed):
        self.connecting.append(Connecting(made, failed))
        return self.connecting[-1]

    def trust(self):
        self.trusted += 1

    def turned_out_verbose(self):
        self.is_verbose = True


class Answer(Outlet):
    """`request.Answer`, with a real `Hold`."""

    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    @property
    def waits(self):
        return self.hold is not None and self.hold.waits

    def wait(self):
        self.hold = self.hold or Hold(self._loop)
        return self.hold

    def renew_wait(self):
        if self.hold is not None:
            self.hold.renew()

    def begin_stream(self):
        if not self.reply.started:
            self.reply.start(200, b"HTTP/1.1 200 OK\r\n", None)


class NearBackend(Backend):
    """A `Backend` that makes no connection until a test does."""

    def __init__(self, facts):
        super().__init__(facts, Limits())
        self.connecting = []
        self.kept = []
        self.open_if_ready()

    @property
    def pool(self):
        return self

    def take(self):
        return self.kept.pop() if self.kept else None

    def give_back(self, connection):
        self.kept.append(connection)

    def connect(self, made, failed):
        self.connecting.append(Connecting(made, failed))
        return self.connecting[-1]

    def made(self):
        """The connection that was asked for last is there."""
        connection = Connection()
        self.connecting[-1].made(connection)
        return connection
