"""The body of one request: kept, so that it can be sent again, and what it tells."""

from __future__ import annotations

from supervisor_app.gateway.heads import RequestHead
from supervisor_app.gateway.hints import Hints, hints_of, model_in_prefix
from supervisor_app.gateway.reply import CHUNKED_END, chunk
from supervisor_app.gateway.suspects import hash_of
from supervisor_app.gateway.unstream import RESTREAMED, restream

LONG_TOKENS = 256
"""An answer of at most so many is over before it matters that nobody waits for it."""


class RequestBody:
    """Comes in pieces. One of more than `keep_bytes` *overflows*: it flows through and can be sent once."""

    __slots__ = ("_head", "_hints", "_pieces", "is_whole", "length", "overflows", "size")

    def __init__(self, head: RequestHead, length: int | None) -> None:
        self.length = length
        """As its head said; None: chunked."""
        self.size = 0
        """So far."""
        self.is_whole = False
        self.overflows = False
        self._head = head
        self._hints: Hints | None = None
        self._pieces: list[bytes] = []

    def keep(self, data: bytes) -> None:
        self._pieces.append(data)

    def kept(self) -> bytes:
        """As far as it is here."""
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def shorten(self, limit: int) -> None:
        """It will not be sent any more."""
        self._pieces = [self.kept()[:limit]]

    @property
    def can_be_sent(self) -> bool:
        """All of it is here, or none of it has gone yet."""
        return not self.overflows or bool(self._pieces)

    def for_server(self, instead: bytes | None = None) -> tuple[bytes, int | None]:
        """What to send first, and the length to announce. What overflows is not kept afterwards.

        `instead`: another body that is sent in place of this one.
        """
        body = self.kept() if instead is None else instead
        if not self.overflows:
            return body, len(body)
        self._pieces = []
        if self.length is None:
            body = chunk(body) + (CHUNKED_END if self.is_whole else b"")
        return body, self.length

    def framed(self, data: bytes) -> bytes:
        """More of it, as the server was told that it comes."""
        return data if self.length is not None else chunk(data)

    # What it tells

    @property
    def hints(self) -> Hints:
        """Read when somebody asks."""
        if self._hints is None:
            query = self._head.query.encode("latin-1") if self._head.query else b""
            if self.overflows:
                self._hints = Hints(model=model_in_prefix(self.kept()) or hints_of(b"", b"", query).model)
            else:
                self._hints = hints_of(self.kept(), self._head.noted.get(b"content-type", b""), query)
        return self._hints

    def as_stream(self) -> bytes | None:
        """The body that asks for the same as a stream; None: it should go as it is."""
        if self.overflows or self._head.path not in RESTREAMED:
            return None
        wanted = self.hints.max_tokens
        if wanted is not None and 0 <= wanted <= LONG_TOKENS:
            return None
        return restream(self._head.path, self.kept())

    def hash(self) -> str:
        return hash_of(self._head.path, self.kept())
