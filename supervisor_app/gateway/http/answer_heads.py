"""Heads of answers: what a server said, and where its body ends."""

from __future__ import annotations

from dataclasses import dataclass

import httptools

from supervisor_app.gateway.http.framing import BodyUntilClose, ChunkedBody, FramedBody, SizedBody
from supervisor_app.gateway.http.heads import (
    DIGITS,
    HOP_BY_HOP,
    LISTS,
    BadHeadError,
    Fields,
    keeps_alive,
    status_line,
    without,
)

RESPONSE_OURS = HOP_BY_HOP | {b"content-length"}
NOT_PASSED = frozenset({b"set-cookie", b"set-cookie2", b"clear-site-data", b"x-request-id", b"request-id"})
"""Cookies know no ports: those of a server would be those of our pages, and could log people out, or in.
A request goes by the id that we give it. Nor is what it says of pages (Access-Control-*): our door does.
"""

UNBUFFERED = b"X-Accel-Buffering: no\r\n"
"""Field for streams: without it nginx would keep each until its end, in one lump."""


@dataclass(slots=True, kw_only=True)
class ResponseHead:
    """Head of a server's answer."""

    status: int
    beginning: bytes
    """Status line and the header lines that go on to the client."""
    is_event_stream: bool
    keep_alive: bool


def read_response(raw: bytes, *, to_head: bool) -> tuple[ResponseHead, int | None, FramedBody]:
    """`raw` is a whole head; `to_head`: it answers a HEAD. Raises BadHeadError.

    Returns it with the length of its body (None: chunked, or until it closes) and the reader of that body.
    """
    fields = Fields()
    parser = httptools.HttpResponseParser(fields)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        raise BadHeadError(502, "The server wants to speak another protocol.") from None
    except httptools.HttpParserError as error:
        raise BadHeadError(502, f"The server's answer cannot be read: {error}") from error
    status = parser.get_status_code()
    ours: dict[bytes, bytes] = {}
    lines = []
    for name, value in fields.fields:
        lower = name.lower()
        if lower in RESPONSE_OURS:
            ours[lower] = ours[lower] + b"," + value if lower in ours and lower in LISTS else value
        elif lower not in NOT_PASSED and not lower.startswith(b"access-control-"):
            lines.append(name + b": " + value + b"\r\n")
            if lower in (b"content-type", b"x-accel-buffering"):
                ours[lower] = value.lower()
    body, length = _response_body(status, ours, to_head=to_head)
    http11 = parser.get_http_version() == "1.1"
    is_event_stream = ours.get(b"content-type", b"").startswith(b"text/event-stream")
    if is_event_stream and b"x-accel-buffering" not in ours:
        lines.append(UNBUFFERED)
    head = ResponseHead(
        status=status,
        beginning=status_line(status) + b"".join(without(ours.get(b"connection", b""), lines)),
        is_event_stream=is_event_stream,
        keep_alive=not isinstance(body, BodyUntilClose)
        and keeps_alive(ours.get(b"connection", b""), http11=http11),
    )
    return head, length, body


def _response_body(status: int, ours: dict[bytes, bytes], *, to_head: bool) -> tuple[FramedBody, int | None]:
    """The reader of it, and the length that it has or, to HEAD, would have."""
    length = ours.get(b"content-length", b"")
    size = int(length) if DIGITS.fullmatch(length) else None
    if to_head or status in (204, 304) or status < 200:
        return SizedBody(0), size
    if b"transfer-encoding" in ours:
        return ChunkedBody(), None
    if size is not None:
        return SizedBody(size), size
    return BodyUntilClose(), None
