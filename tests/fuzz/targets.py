"""What must hold for any bytes. Each takes what a fuzzer makes up, and raises when it does not hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway.http.framing import ChunkedBody, FramedBody, FramingError
from supervisor_app.gateway.http.head_cache import HeadCache
from supervisor_app.gateway.http.heads import END, BadHeadError
from supervisor_app.gateway.http.request_heads import read_request
from supervisor_app.gateway.llama.sse import ContentScanner
from tests.unit.gateway.second_reader import check_chunked, check_what_goes_on

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

cache = HeadCache()


def _until_end(data: bytes) -> bytes:
    return data.partition(END)[0] + END


def request_head(data: bytes) -> None:
    """What is taken goes on in one reading only, and means the same when it was seen before."""
    raw = _until_end(data)
    try:
        head, length = read_request(raw)
    except BadHeadError:
        head = None
    for _ in range(2):
        try:
            remembered = cache.request(raw)
        except BadHeadError:
            remembered = None
        assert remembered == (None if head is None else (head, length))
    if head is not None:
        for sent in (length, None, 0, 5):
            check_what_goes_on(head, sent)


def response_head(data: bytes) -> None:
    """It is taken or refused, and the second time as the first."""
    raw = _until_end(data)
    first = _response(raw)
    assert _response(raw) == first


def _response(raw: bytes) -> object:
    try:
        head, length, body = cache.response(raw)
    except BadHeadError as error:
        return error.status
    return head, length, type(body), body.done


def chunked(data: bytes) -> None:
    """Whole or in two pieces, and for another reader, it is the same body with the same end."""
    check_chunked(data)
    middle = len(data) // 2
    assert _fed(ChunkedBody(), [data]) == _fed(ChunkedBody(), [data[:middle], data[middle:]])


def _fed(body: FramedBody, pieces: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Content and rest of a body that is whole; None: it is refused or goes on."""
    content = rest = b""
    try:
        for piece in pieces:
            more, rest = (b"", rest + piece) if body.done else body.feed(piece)
            content += more
    except FramingError:
        return None
    return (content, rest) if body.done else None


def event_stream(data: bytes) -> None:
    """Whether there is content does not depend on the pieces."""
    whole, bytewise = ContentScanner(), ContentScanner()
    seen = [bytewise.feed(data[at : at + 1]) for at in range(len(data))]
    assert whole.feed(data) == any(seen)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (request_head, response_head, chunked, event_stream)
}
SEEDS = {
    "request_head": [
        b"GET /v1/models?a=b HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close, x\r\nX: y\r\n\r\n",
        b"POST http://a/b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nUpgrade: h2c\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"OPTIONS * HTTP/1.0\r\nExpect: 100-continue\r\nAuthorization: Bearer a\r\n\r\n",
    ],
    "response_head": [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nServer: a\r\n\r\n",
    ],
    "chunked": [
        b'5;a=b;c="d"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nx: y\r\n\r\nGET /',
        b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        b"1\r\n\r\r\n0\r\n\r\n",
    ],
    "event_stream": [b": ping\r\n\r\n:\n\ndata: {}\n\n", b"event: a\rdata: b\r\r"],
}
