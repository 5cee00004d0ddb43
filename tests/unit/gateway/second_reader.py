"""What llhttp, Node's parser, makes of the same bytes: with it we must agree on where a message ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from supervisor_app.gateway.http.framing import ChunkedBody, FramingError

if TYPE_CHECKING:
    from supervisor_app.gateway.http.request_heads import RequestHead

AUTHORITY = b"127.0.0.1:8134"
KEY = "the-server-s-own"
CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
FOR_US_ALONE = frozenset(
    {
        b"connection",
        b"expect",
        b"http2-settings",
        b"keep-alive",
        b"te",
        b"trailer",
        b"upgrade",
        b"x-api-key",
    }
)


class Reader:
    """One request, as it comes. Raises HttpParserError."""

    def __init__(self, raw: bytes) -> None:
        self.url = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.content = b""
        self.done = False
        self.parser = httptools.HttpRequestParser(self)
        self.feed(raw)

    def feed(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def on_body(self, content: bytes) -> None:
        self.content += content

    def on_message_complete(self) -> None:
        self.done = True

    def all(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found == name]


def check_what_goes_on(head: RequestHead, length: int | None) -> None:
    """What a server gets of it can be read in one way only, and has nothing that was for us alone."""
    seen = Reader(head.for_server(AUTHORITY, KEY, length))
    assert seen.parser.get_method().decode() == head.method
    assert seen.url.startswith(b"/")
    assert seen.all(b"host") == [AUTHORITY]
    assert seen.all(b"authorization") == [f"Bearer {KEY}".encode()]
    assert seen.all(b"transfer-encoding") == ([b"chunked"] if length is None else [])
    assert seen.all(b"content-length") in (
        [[]] if length is None else [[b"%d" % length]] + [[]] * (not length)
    )
    assert not FOR_US_ALONE & {name for name, _ in seen.fields}


def check_chunked(data: bytes) -> None:
    """A body that is whole for us is whole there, has the same content, and not a byte less would do."""
    body = ChunkedBody()
    try:
        content, rest = body.feed(data)
    except FramingError:
        return
    if body.done:
        end = len(data) - len(rest)
        other = Reader(CHUNKED_HEAD)
        other.feed(data[: end - 1])
        assert not other.done
        other.feed(data[end - 1 : end])
        assert other.done
        assert other.content == content
