"""Heads that were read already: the requests of a client, and the answers of a server, are much alike."""

from __future__ import annotations

from typing import Generic, TypeVar

from supervisor_app.gateway.http.answer_heads import ResponseHead, read_response
from supervisor_app.gateway.http.framing import ChunkedBody, FramedBody, SizedBody
from supervisor_app.gateway.http.heads import MAX_DIGITS
from supervisor_app.gateway.http.request_heads import RequestHead, read_request

V = TypeVar("V")

LENGTH = b"\r\nContent-Length: "
MAX_REMEMBERED = 1024
LONGEST_REMEMBERED = 4096


class HeadCache:
    """Heads that were read already.

    A client's requests differ in nothing but the length of their bodies, so that line is cut out, and its
    presence remembered: with `Transfer-Encoding` it would be a contradiction.
    """

    def __init__(self) -> None:
        self._requests: dict[bytes, RequestHead] = {}
        self._sized_requests: dict[bytes, RequestHead] = {}
        self._sized_responses: dict[bytes, ResponseHead] = {}
        self._chunked_responses: dict[bytes, ResponseHead] = {}

    def request(self, raw: bytes) -> tuple[RequestHead, int | None]:
        """`raw` is a whole head with its empty line. Returns it with its body's length; None: chunked.

        Raises BadHeadError.
        """
        if len(raw) > LONGEST_REMEMBERED:
            return read_request(raw)
        size, rest = _without_length(raw)
        known = self._requests if size is None else self._sized_requests
        head = known.get(rest)
        if head is not None:
            return head, size if size is not None else None if head.chunked else 0
        head, length = read_request(raw)
        if size is not None or not length:  # else the length is said in a way that the key does not know
            _remember(known, rest, head)
        return head, length

    def response(self, raw: bytes) -> tuple[ResponseHead, int | None, FramedBody]:
        """Read the answer to a request other than HEAD as `read_response` does. Raises BadHeadError."""
        if len(raw) > LONGEST_REMEMBERED:
            return read_response(raw, to_head=False)
        size, rest = _without_length(raw)
        if size is None:
            return self._unsized_response(raw)
        known = self._sized_responses.get(rest)
        if known is not None:
            return known, size, SizedBody(size)
        head, length, body = read_response(raw, to_head=False)
        if type(body) is SizedBody and 0 < size == body.left:  # 204 and 304 have none, whatever they say
            _remember(self._sized_responses, rest, head)
        return head, length, body

    def _unsized_response(self, raw: bytes) -> tuple[ResponseHead, int | None, FramedBody]:
        known = self._chunked_responses.get(raw)
        if known is not None:
            return known, None, ChunkedBody()
        head, length, body = read_response(raw, to_head=False)
        if type(body) is ChunkedBody:
            _remember(self._chunked_responses, raw, head)
        return head, length, body


class Pattern(Generic[V]):
    """A head that was read before, known by all of its bytes but the digits of its length.

    On one connection most are the same. To see that takes a third of the time of a look into the cache.
    """

    __slots__ = ("_after", "_after_size", "_before", "_before_size", "head")

    def __init__(self, head: V, before: bytes, after: bytes) -> None:
        self.head = head
        self._before, self._before_size = before, len(before)
        self._after, self._after_size = after, len(after)

    def body_of(self, data: bytes) -> bytes | None:
        """Return the body if `data` is one message with this head, whole, and no more."""
        if not data.startswith(self._before):
            return None
        start = self._before_size
        end = data.find(b"\r", start, start + MAX_DIGITS + 1)
        digits = data[start:end]
        if not digits.isdigit() or not data.startswith(self._after, end):
            return None
        body = end + self._after_size
        return data[body:] if len(data) - body == int(digits) else None


def pattern_of(raw: bytes, head: V) -> Pattern[V] | None:
    """Cut the length out of a head that ends with its empty line.

    None: the head says no length, or oddly, or is too long to be kept for each connection.
    """
    start = _start_of_length(raw)
    if start < 0 or len(raw) > LONGEST_REMEMBERED:
        return None
    return Pattern(head, raw[:start], raw[raw.find(b"\r", start) :])


def _without_length(raw: bytes) -> tuple[int | None, bytes]:
    """The length that a head says and the head without it, or None and the head."""
    start = _start_of_length(raw)
    if start >= 0:
        end = raw.find(b"\r", start)
        digits = raw[start:end]
        if len(digits) <= MAX_DIGITS and digits.isdigit():
            return int(digits), raw[: start - len(LENGTH)] + raw[end:]
    return None, raw


def _start_of_length(raw: bytes) -> int:
    """Find the first digit of Content-Length; -1: there is none.

    The two usual spellings are found in a third of the time that an expression for all of them takes.
    """
    start = raw.find(LENGTH)
    if start < 0:
        start = raw.find(LENGTH.lower())
    return start if start < 0 else start + len(LENGTH)


def _remember(cache: dict[bytes, V], key: bytes, value: V) -> None:
    if len(cache) >= MAX_REMEMBERED:
        cache.clear()
    cache[key] = value
