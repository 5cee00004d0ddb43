"""Somewhere for alerts to arrive: a web server and a mail server of this process."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Post:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Hook:
    """Answers 200, or the next of `answers`; 0 among them is no answer until `release`."""

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def events(self) -> list[str]:
        return [post.json["event"] for post in self.posts]

    @property
    def texts(self) -> list[str]:
        return [post.json["text"] for post in self.posts]


@contextlib.contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on a free port of this machine, each request in a thread of its own; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def web_server() -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with hook.lock:
                hook.posts.append(Post(self.path, dict(self.headers), body))
                status = hook.answers.pop(0) if hook.answers else 200
            if status == 0:
                hook.release.wait(60)
                return
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(b"ok")  # without it Slack's would not count

        def log_message(self, *args: Any) -> None:
            pass

    with listening(Handler) as url:
        hook.url = f"{url}/hook/top-secret"
        try:
            yield hook
        finally:
            hook.release.set()


@dataclass
class Mailbox:
    port: int = 0
    mails: list[str] = field(default_factory=list)


@contextlib.contextmanager
def mail_server() -> Iterator[Mailbox]:
    """As much SMTP as a mail needs."""
    mailbox = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            for line in self.rfile:
                word = line.split()[0].upper() if line.split() else b""
                if word == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = []
                    while (text := self.rfile.readline()) not in (b".\r\n", b""):
                        lines.append(text)
                    mailbox.mails.append(b"".join(lines).decode())
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                if word == b"QUIT":
                    return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
    mailbox.port = server.server_address[1]
    try:
        yield mailbox
    finally:
        server.shutdown()
        server.server_close()


def until(condition: Any, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
