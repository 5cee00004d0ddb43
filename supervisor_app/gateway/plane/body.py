"""The body of one request: kept, so that it can be sent again, and what it tells."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from supervisor_app.gateway.http.reply import CHUNKED_END, chunk
from supervisor_app.gateway.llama.faults import fault_of
from supervisor_app.gateway.llama.forms import is_form
from supervisor_app.gateway.llama.hints import (
    AMBIGUOUS,
    NOT_IN_BODY,
    Hints,
    hints_of,
    hints_of_beginning,
    hints_of_query,
)
from supervisor_app.gateway.llama.nesting import Nesting
from supervisor_app.gateway.llama.unstream import Assembler, restream
from supervisor_app.gateway.servers.suspects import hash_of

if TYPE_CHECKING:
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.llama.operations import Operation

OF_ANY_MODEL = "a conversation may be with any of its models"
LONG_TOKENS = 256
"""An answer of at most so many is over before it matters that nobody waits for it."""
KNOWN_BY = 512 * 1024
"""Bytes of a body that is not kept. To hash all 8 MB would hold everybody else up for 11 ms, this for 0.7."""
BYTES_OF_A_TOKEN = 4
"""Bytes of a token of English, or so. Tokens of code and other languages have fewer, to make up for JSON."""
LONGEST_WORD = 1000
"""Bytes without a space, beyond which a text is base64, unless its script has no spaces."""
LONG_TEXT = re.compile(rb'"([^"]{%d,})' % (LONGEST_WORD + 1))
"""Long strings. Splitting at each quote would, for a body of nothing but quotes, hold everybody up."""


class RequestBody:
    """Comes in pieces. A body longer than `Limits.replay_bytes` *overflows*: it flows through, sent once."""

    __slots__ = (
        "_hash",
        "_head",
        "_hints",
        "_nesting",
        "_outline",
        "_pieces",
        "is_whole",
        "key",
        "length",
        "overflows",
        "size",
    )

    def __init__(self, head: RequestHead, length: int | None) -> None:
        self.length = length
        """Length as the head said; None: chunked."""
        self.size = 0
        """Bytes that have come."""
        self.is_whole = False
        self.overflows = False
        self.key: int | None = None
        """Id of the API key that the request comes with."""
        self._nesting: Nesting | None = None
        self._head = head
        self._hints: Hints | None = None
        self._pieces: list[bytes] = []
        self._hash = ""
        self._outline: bytes | None = None
        """Outline of a body that was read on: it lies elsewhere, whole."""

    @property
    def content_type(self) -> bytes:
        return self._head.noted.get(b"content-type", b"")

    @property
    def is_form(self) -> bool:
        return is_form(self.content_type)

    def is_too_deep(self, data: bytes) -> bool:
        """Is the body, with this next part of it, nested deeper than llama-server may be given it?"""
        if self._nesting is None:
            self._nesting = Nesting(is_json=not self.is_form)
        return self._nesting.is_too_deep(data)

    def keep(self, data: bytes) -> None:
        self._pieces.append(data)

    def take_whole(self, data: bytes) -> None:
        self._pieces = [data]
        self.size = len(data)
        self.is_whole = True

    def change(self, data: bytes) -> None:
        """Take this in place of a body that is whole."""
        self.take_whole(data)
        self.length = len(data)
        self._hints, self._hash = None, ""

    def kept(self) -> bytes:
        """Return the body, as far as it is here."""
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    def shorten(self, limit: int) -> None:
        """Drop the bytes: the body is not sent any more, and its hints have been read."""
        self._hints = self.hints
        self._pieces = [self.kept()[:limit]]

    def forget(self) -> None:
        """Let it go: it is not sent any more, and nobody asks for hints that have not been read."""
        self._pieces = []

    def read_outline(self, outline: bytes) -> None:
        """Read the outline of the whole body, which lies elsewhere: its hints are certain."""
        self._outline = outline
        self._hints = None

    @property
    def was_read_on(self) -> bool:
        return self._outline is not None

    @property
    def can_be_sent(self) -> bool:
        """All of it is here, or none of it has gone yet."""
        return not self.overflows or bool(self._pieces) or self.was_read_on

    def for_server(self, instead: bytes | None = None) -> tuple[bytes, int | None]:
        """Return what to send first, and the length to announce. A body that overflows is dropped then.

        `instead`: another body that is sent in place of this one.
        """
        if self.was_read_on:
            return b"", self.length
        body = self.kept() if instead is None else instead
        if not self.overflows:
            return body, len(body)
        self._pieces = []
        if self.length is None:
            body = chunk(body) + (CHUNKED_END if self.is_whole else b"")
        return body, self.length

    def framed(self, data: bytes) -> bytes:
        """Frame more of the body, as the server was told that it comes."""
        return data if self.length is not None else chunk(data)

    # Its hints

    @property
    def hints(self) -> Hints:
        """Read when somebody asks."""
        if self._hints is None:
            self._hints = self._read()
        return self._hints

    def _read(self) -> Hints:
        hints = self._read_as_servers_do()
        return replace(hints, doubt=OF_ANY_MODEL) if self._head.asks_for_streams else hints

    def _read_as_servers_do(self) -> Hints:
        """A POST names its model in the body, any other method in the query."""
        head = self._head
        if head.method != "POST":
            return self._of_query()
        content_type = head.noted.get(b"content-type", b"")
        if self._outline is not None or self.is_whole or self.size == self.length:
            hints = hints_of(self.kept() if self._outline is None else self._outline, content_type)
        else:
            hints = hints_of_beginning(self.kept(), content_type)
        if hints.model is None and head.query:
            # A server of one model does not need its name: it tells us where to go.
            model = hints_of_query(head.query).model
            hints = replace(hints, model=model, doubt=hints.doubt or NOT_IN_BODY)
        return hints

    def fault(self) -> str:
        """Why no server could read which model it names; empty: it names none, or more of it follows."""
        if self.overflows and self._outline is None:
            return ""
        body = self.kept() if self._outline is None else self._outline
        return fault_of(body, self._head.noted.get(b"content-type", b""))

    def _of_query(self) -> Hints:
        hints = hints_of_query(self._head.query)
        # A body of a form's kind is read by servers like a query.
        return replace(hints, doubt=AMBIGUOUS) if self.size else hints

    def as_stream(self) -> tuple[bytes, Assembler] | None:
        """A body that asks for the same as a stream, and who takes that; None: it should go as it is."""
        kind = self._head.operation.assembled
        if b"x-conversation-id" in self._head.noted:
            return (
                None  # a stream of that name goes on without its client, and anybody may end it by the name
            )
        if kind is None or self.overflows or not may_take_long(self._head.operation, self.hints):
            return None
        body = restream(kind, self.kept())
        return None if body is None else (body, Assembler(kind))

    def guessed_tokens(self) -> int:
        """Guess the tokens of the prompt, as long as it is kept. Pictures and recordings are no text."""
        if self.is_form:
            return 0
        pictures = sum(len(text) for text in LONG_TEXT.findall(self.kept()) if _is_picture(text))
        return (self.size - pictures) // BYTES_OF_A_TOKEN

    def overflow(self) -> None:
        """Keep no more of a body that is too long: only its beginning and its length are known then."""
        self._hash = hash_of(f"{self._head.path} {self.length}", memoryview(self.kept())[:KNOWN_BY], self.key)
        self.overflows = True

    def hash(self) -> str:
        """Hash by which the same body is known again."""
        if not self._hash:  # of 8 MB it takes 11 ms
            self._hash = hash_of(self._head.path, self.kept(), self.key)
        return self._hash


def may_take_long(operation: Operation, hints: Hints) -> bool:
    """Tell whether the answer could go on for a while, and be asked for as a stream."""
    wanted = hints.max_tokens
    return operation.assembled is not None and (wanted is None or not 0 <= wanted <= LONG_TOKENS)


def _is_picture(text: bytes) -> bool:
    return text.isascii() and b" " not in text and b"\\u" not in text
