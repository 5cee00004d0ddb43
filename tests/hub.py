"""A stand-in of the hub in this process: metadata, files by range, and whatever goes wrong on the way."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = "someone/Tiny-GGUF"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BLOCK = 16 * 1024


@dataclass
class Hub:
    """A repository of the stand-in. A change of its attributes counts from the next request on."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    token: str = ""
    """Asked for, if it is set: the repository is gated."""
    break_after: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""
    statuses: list[int] = field(default_factory=list)
    """Answered to the next requests for files."""
    bytes_per_second: float = 0.0
    lies: bool = False
    """Sends other bytes than it tells of."""
    knows_ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Path and range of each request for a file."""
    tokens: set[str] = field(default_factory=set)

    def metadata(self) -> dict[str, Any]:
        siblings = [
            {
                "rfilename": name,
                "size": len(data),
                "blobId": "b",
                "lfs": {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134},
            }
            for name, data in self.files.items()
        ]
        return {"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "siblings": siblings, "tags": []}


@contextlib.contextmanager
def stand_in(files: dict[str, bytes]) -> Iterator[Hub]:
    """Serve files on a free port."""
    hub = Hub(files=files)

    class Handler(_Handler):
        def do_GET(self) -> None:
            _answer(self, hub)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing on the console."""

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # its client was killed or paused
            super().handle()


def _answer(handler: _Handler, hub: Hub) -> None:
    token = handler.headers.get("Authorization", "").removeprefix("Bearer ")
    hub.tokens.add(token)
    path = handler.path.split("?")[0]
    known = path.startswith((f"/api/models/{REPOSITORY}", f"/{REPOSITORY}/resolve/"))
    if not known:
        _send(handler, 401, b"{}", {"X-Error-Code": "RepoNotFound"})
    elif hub.token and token != hub.token:
        _send(handler, 401 if not token else 403, b"{}", {"X-Error-Code": "GatedRepo"})
    elif path.startswith("/api/"):
        _send(handler, 200, json.dumps(hub.metadata()).encode(), {"Content-Type": "application/json"})
    else:
        _send_file(handler, hub, path.split("/", 5)[5])


def _send_file(handler: _Handler, hub: Hub, name: str) -> None:
    wanted = handler.headers.get("Range", "")
    hub.asked.append((name, wanted))
    if hub.statuses:
        _send(handler, hub.statuses.pop(0), b"busy", {})
        return
    data = hub.files[name]
    sent = bytes(len(data)) if hub.lies else data
    found = re.fullmatch(r"bytes=(\d+)-", wanted) if hub.knows_ranges else None
    start = int(found[1]) if found else 0
    handler.send_response(206 if found else 200)
    if found:
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
    handler.send_header("Content-Length", str(len(data) - start))
    handler.end_headers()
    end = start + hub.break_after.pop(0) if hub.break_after else len(data)
    for at in range(start, min(end, len(data)), BLOCK):
        handler.wfile.write(sent[at : min(at + BLOCK, end)])
        if hub.bytes_per_second:
            time.sleep(BLOCK / hub.bytes_per_second)
    handler.close_connection = True


def _send(handler: _Handler, status: int, body: bytes, headers: dict[str, str]) -> None:
    handler.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)
