"""Server-sent events: is there content yet, and has a stream come to its own end? Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_END_OF_LINE = re.compile(rb"[\r\n]")
_WHOLE_LINES = re.compile(rb"(?::[^\r\n]*+[\r\n]|[\r\n])*+")
"""Comments and blank lines, as many as there are."""

EVENT_END = (b"\n\n", b"\r\n\r\n")


class ContentScanner:
    """Tells whether a stream has carried anything yet, from its bytes in any pieces.

    Content is every line that is neither blank nor a comment: `data:`, and the `event:` before it.
    """

    __slots__ = ("in_comment", "seen")

    def __init__(self) -> None:
        self.seen = False
        self.in_comment = False
        """True in the middle of a comment: nothing else can be said there."""

    def feed(self, piece: bytes) -> bool:
        """Takes the next bytes; True once there was content."""
        if self.seen:
            return True
        start = 0
        if self.in_comment:
            end = _END_OF_LINE.search(piece)
            if end is None:
                return False
            start = end.end()
        lines = _WHOLE_LINES.match(piece, start)
        rest = piece[lines.end() if lines else start :][:1]
        self.in_comment = rest == b":"
        self.seen = rest not in (b"", b":")
        return self.seen


_ERROR = re.compile(rb'(?m)^(?:error:|event: ?(?:error|response\.failed)$|data: ?\{\s*"error"\s*:)')
"""An error event. A model's own words stand in a string: quotes escaped, in the middle of a line."""
_CODE = re.compile(rb'"code": ?([45]\d\d)\b')
WHOLE, GAVE_UP = 200, 500
"""Status of a stream that ended well, and of an error that names none."""

_BEGINNINGS = (b"data:", b"event:", b"error:")
"""Beginnings of an event."""


@dataclass(frozen=True, slots=True)
class StreamForm:
    """Form of the streams of an operation."""

    piece: bytes = b"data:"
    """Text in each event that has a piece of what was generated."""
    others: int = 0
    """Events before the first piece that look like one."""
    last: re.Pattern[bytes] | None = None
    """Found in the event after which nothing is missing; None: it may be any."""
    is_long: bool = False
    """The last event holds the whole prompt or answer: it may be longer than the bytes that are kept."""

    def status_at(self, end: bytes) -> int | None:
        """Return the status with which a stream with this `end` ended; None: only its connection did.

        `WHOLE` or, where the last event says that the server gave up, the status of that error.
        """
        if self.last is None:
            return WHOLE
        end = end.replace(b"\r\n", b"\n")
        _, before, event = end.rstrip().rpartition(b"\n\n")
        if self.is_long:
            if not end.endswith(b"\n\n"):  # it is cut in the middle
                return None
            if not (before or event.startswith(_BEGINNINGS)):  # its beginning is out of sight
                return WHOLE
        if _ERROR.search(event) is not None:
            code = _CODE.search(event)
            return GAVE_UP if code is None else int(code[1])
        return None if self.last.search(event) is None else WHOLE


_DONE = re.compile(rb"(?m)^data: ?\[DONE\]$")
CHAT = StreamForm(others=1, last=_DONE)
TEXT = StreamForm(last=_DONE)
MESSAGES = StreamForm(piece=b"event: content_block_delta", last=re.compile(rb"(?m)^event: ?message_stop$"))
RESPONSES = StreamForm(
    piece=b".delta\ndata:",
    last=re.compile(rb"(?m)^event: ?response\.(?:completed|incomplete)$"),
    is_long=True,
)
# With `response_fields` the last event has what the client wants to hear; every other one says `false`.
NATIVE = StreamForm(last=re.compile(rb'(?m)^data: ?\{(?!.*"stop":false)'), is_long=True)
OTHER = StreamForm()
