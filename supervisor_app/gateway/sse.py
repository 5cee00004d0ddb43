"""Server-sent events: is there content yet, and how an error is said inside of a stream. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

_END_OF_LINE = re.compile(rb"[\r\n]")
_WHOLE_LINES = re.compile(rb"(?::[^\r\n]*+[\r\n]|[\r\n])*+")
"""Comments and blank lines, as many as there are."""

EVENT_END = (b"\n\n", b"\r\n\r\n")


class ContentScanner:
    """Tells whether a stream has carried anything yet, from its bytes in any pieces.

    Content is every line that is neither blank nor a comment: `data:`, and the `event:` before it.
    """

    __slots__ = ("_in_comment", "seen")

    def __init__(self) -> None:
        self.seen = False
        self._in_comment = False

    def feed(self, piece: bytes) -> bool:
        """Takes the next bytes; True once there was content."""
        if self.seen:
            return True
        start = 0
        if self._in_comment:
            end = _END_OF_LINE.search(piece)
            if end is None:
                return False
            start = end.end()
        lines = _WHOLE_LINES.match(piece, start)
        rest = piece[lines.end() if lines else start :][:1]
        self._in_comment = rest == b":"
        self.seen = rest not in (b"", b":")
        return self.seen


@dataclass(frozen=True, slots=True)
class Kind:
    """How the streams of one path look."""

    piece: bytes = b"data:"
    """In each event that has a piece of what was generated."""
    others: int = 0
    """Events before the first piece that look like one."""
    last: bytes = b""
    """A line of the event after which nothing is missing; empty: it may be any."""

    def is_whole(self, end: bytes) -> bool:
        """Of a stream with this `end`: did it come to its own end, or only its connection?"""
        if not self.last:
            return True
        event = end.rstrip().replace(b"\r\n", b"\n").rpartition(b"\n\n")[2]
        return ERROR in event or any(line.replace(b": ", b":", 1) == self.last for line in event.split(b"\n"))


_DONE = b"data:[DONE]"
_CHAT = Kind(others=1, last=_DONE)
OTHER = Kind()
_KINDS = {
    "/v1/chat/completions": _CHAT,
    "/chat/completions": _CHAT,
    "/v1/completions": Kind(last=_DONE),
    "/v1/messages": Kind(piece=b"event: content_block_delta", last=b"event:message_stop"),
    # Its last event holds the whole answer, which may be longer than what is looked at.
    "/v1/responses": Kind(piece=b".delta\ndata:"),
}
ERROR = b'"error"'


def kind_of(path: str) -> Kind:
    return _KINDS.get(path, OTHER)


def error_event(error: Mapping[str, object], path: str) -> bytes:
    """The event by which a stream of `path` ends with an error.

    `error` is OpenAI's: `message`, `type`, `code` and whatever else.
    """
    if path.endswith("/messages"):
        return _event({"type": "error", "error": error}, name=b"error")
    if path.endswith("/responses"):
        # The specification wants the fields beside `type`; OpenAI's clients raise for `error`.
        fields = {"code": str(error.get("code", "")), "message": error.get("message", ""), "param": None}
        return _event({"type": "error", **fields, "sequence_number": 0, "error": error}, name=b"error")
    return _event({"error": error})


def _event(data: Mapping[str, object], name: bytes = b"") -> bytes:
    head = b"event: %s\n" % name if name else b""
    return b"%sdata: %s\n\n" % (head, msgspec.json.encode(data))
