"""Parts that heads of both directions share: their fields, what is for one hop only, status lines."""

from __future__ import annotations

import re
from http import HTTPStatus

END = b"\r\n\r\n"
MAX_DIGITS = 18
DIGITS = re.compile(rb"[0-9]{1,%d}" % MAX_DIGITS)
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
LISTS = frozenset({b"accept-encoding", b"connection", b"cookie"})


class BadHeadError(Exception):
    """A head that is refused: with this status, for this reason."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Fields:
    """Collects what httptools finds."""

    __slots__ = ("fields", "target")

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))


def without(connection: bytes, lines: list[bytes]) -> list[bytes]:
    """List the fields that `Connection` names, which are for the next hop only (RFC 9110, section 7.6.1)."""
    named = connection.lower()
    if not named or named in (b"keep-alive", b"close"):
        return lines
    dropped = {token.strip() for token in named.split(b",")}
    return [line for line in lines if line.partition(b":")[0].lower() not in dropped]


def keeps_alive(connection: bytes, *, http11: bool) -> bool:
    tokens = {token.strip() for token in connection.lower().split(b",")}
    return b"close" not in tokens if http11 else b"keep-alive" in tokens


def status_line(status: int) -> bytes:
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
