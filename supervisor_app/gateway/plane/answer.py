"""The answer to one request as its client gets it, in the way that is still open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from supervisor_app.gateway.http.heads import status_line
from supervisor_app.gateway.llama.dialects import Stream
from supervisor_app.gateway.plane.pages import page_fields
from supervisor_app.gateway.problem import cors_fields
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.gateway.servers.hold import EVENT_STREAM, Hold

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from supervisor_app.gateway.access.door import Door
    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.http.reply import Reply
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.llama.hints import Hints
    from supervisor_app.gateway.llama.renaming import Renaming
    from supervisor_app.gateway.plane.notes import Notes
    from supervisor_app.gateway.problem import Problem


class Asked(Protocol):
    """The body of the request, which may name a model."""

    @property
    def hints(self) -> Hints: ...


class Content(Protocol):
    """Content of a server's answer, as far as it has come."""

    @property
    def streams(self) -> bool: ...

    @property
    def is_between_events(self) -> bool: ...

    @property
    def tail(self) -> Iterable[bytes]:
        """Last pieces."""


class Answer:
    """Begun by the server, or by the gateway while it waits for the server; ended by the exchange."""

    __slots__ = ("_door", "_head", "_loop", "hold", "notes", "renaming", "reply")

    def __init__(
        self, head: RequestHead, reply: Reply, notes: Notes, door: Door, loop: asyncio.AbstractEventLoop
    ) -> None:
        """`head`: of the request."""
        self.reply = reply
        self.notes = notes
        self.hold: Hold | None = None
        self.renaming: Renaming | None = None
        """Renaming of the model; None: the server's own name is passed on."""
        self._head = head
        self._door = door
        self._loop = loop

    # Pages that ask

    @property
    def origin(self) -> str:
        """Origin of a page that asks and may read the answer; empty: no page asks, or it may not."""
        origin = self._head.text(b"origin")
        return origin if self._door.shows_refusals(origin) else ""

    @property
    def is_known_origin(self) -> bool:
        return self._door.knows_origin(self._head.text(b"origin"))

    def show_head(self, head: ResponseHead, comments: bytes) -> None:
        """Show the client the head of a stream that another attempt could still replace."""
        self.reply.start(head.status, self.beginning_of(head), None)
        self.reply.flush()
        self.reply.write(comments)

    def beginning_of(self, head: ResponseHead) -> bytes:
        """Status line and header lines of a server's answer, as the client gets them."""
        return head.beginning + page_fields(self._door, self._head)

    # While the server is waited for

    def wait(self) -> Hold:
        if self.hold is None:
            self.hold = Hold(self._loop)
        return self.hold

    @property
    def waits(self) -> bool:
        return self.hold is not None and self.hold.waits

    def stop_waiting(self) -> None:
        if self.hold is not None:
            self.hold.end()
            self.hold.stop_comments()

    def renew_wait(self) -> None:
        """Let the next wait last as long as the first one might."""
        if self.hold is not None:
            self.hold.renew()

    def begin_stream(self) -> None:
        """Begin a stream as a server would, without events, unless the answer has begun."""
        if not self.reply.started:
            self.reply.start(200, status_line(200) + EVENT_STREAM + cors_fields(self.origin), None)

    # The server's

    def begin(self, head: ResponseHead, length: int | None) -> bool:
        """Pass on the head of the answer. False: it is not what the client has been told already."""
        if self.hold is not None:
            self.hold.stop_comments()
        if self.renaming is not None and not self._is_renamed(head):
            self.renaming = None
        if not self.reply.started:
            known_length = length if self.renaming is None else None
            self.reply.start(head.status, self.beginning_of(head), known_length)
        elif head.status != 200 or not head.is_event_stream:
            return False
        self.notes.first_content = self._loop.time()
        return True

    @property
    def passes_chunks(self) -> bool:
        """The client takes chunks as they come, and nobody reads what is in them."""
        return self.reply.is_chunked and not self.notes.captures and self.renaming is None

    def write(self, content: bytes) -> None:
        if self.renaming is not None:
            content = self.renaming.feed(content)
        self.notes.add_content(content)
        self.reply.write(content)

    def pass_whole(self, head: ResponseHead, length: int, content: bytes) -> None:
        """`begin`, `write` and the end in one, when nothing was said before."""
        if self.hold is not None:
            self.hold.stop_comments()
        self.notes.first_content = self._loop.time()
        if self.renaming is not None and self._is_renamed(head):
            content = self.renaming.feed(content) + self.renaming.end()
            length = len(content)
        self.notes.add_content(content)
        self.reply.send(head.status, self.beginning_of(head), length, content)

    def finish(self) -> None:
        """End an answer that is whole."""
        if self.renaming is not None and (rest := self.renaming.end()):
            self.notes.add_content(rest)
            self.reply.write(rest)
        self.reply.finish()

    @property
    def outcome(self) -> Outcome:
        """Outcome of a request whose answer is whole."""
        if self.reply.status >= 400:
            return Outcome.UPSTREAM_ERROR
        if self.notes.replays:
            return Outcome.REPLAYED
        return Outcome.HELD if self.hold is not None and self.hold.has_waited else Outcome.OK

    def break_off(self, problem: Problem, body: Asked, content: Content | None) -> None:
        """Break off what the client has of it; a stream says why. `content`: None if there was none yet."""
        last_words = b""
        if content is None:
            last_words = problem.event(self._head.dialect, self._stream(body))
        elif content.streams:
            # If the stream broke within an event, end that first.
            end = b"" if content.is_between_events else b"\n\n"
            last_words = end + problem.event(self._head.dialect, self._stream(body, content.tail))
        self.reply.break_off(last_words=last_words)

    def _stream(self, body: Asked, tail: Iterable[bytes] = ()) -> Stream:
        notes = self.notes
        model = body.hints.model or notes.server
        return Stream(beginning=notes.beginning, end=b"".join(tail), model=model, asked_at=notes.at)

    @staticmethod
    def _is_renamed(head: ResponseHead) -> bool:
        """Can the model be named in this answer?"""
        lines = head.beginning.lower()
        is_text = head.is_event_stream or b"\r\ncontent-type: application/json" in lines
        return is_text and b"\r\ncontent-encoding:" not in lines
