"""An attempt at one server: send the request, pass the answer on, report the outcome."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from supervisor_app.gateway.llama.sse import EVENT_END, OTHER, WHOLE, ContentScanner

if TYPE_CHECKING:
    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.servers.errand import Errand
    from supervisor_app.gateway.servers.pool import Waiting
    from supervisor_app.gateway.servers.upstream import Connection

OK = 200
LOADING_STATUS, LOADING = 503, b"Loading model"
# A router says so in place of an answer, or in the middle of one that then ends as if it were whole.
PROXY_ERROR_STATUS, PROXY_ERROR = 500, b"proxy error: "
NOT_ITS_OWN = frozenset({LOADING_STATUS})
NOT_ITS_OWN_BEHIND_A_ROUTER = NOT_ITS_OWN | {PROXY_ERROR_STATUS}
"""Statuses of what may not be the model's answer."""
MAX_KEPT = 64 * 1024
"""Bytes held back: comments, the body of a 500 or 503, an error for a client that was told 200."""
TAIL_PIECES, TAIL_PIECE, SHORT = 6, 4096, 64
"""The last pieces of an answer, which say what it cost. Short pieces do not drive out long ones."""
MAX_REASON = 200
BEGINNING = 1024
"""Bytes of an answer that are noted, for what the prompt cost."""


class Attempt:
    """`upstream.Receiver` for one errand.

    Nothing reaches the client before there is content: until then the request can be sent again unnoticed.
    """

    __slots__ = (
        "_backend",
        "_committed",
        "_connecting",
        "_connection",
        "_errand",
        "_head",
        "_kept",
        "_kind",
        "_length",
        "_not_its_own",
        "_outlet",
        "_pieces",
        "_scanner",
        "_stale",
        "tail",
    )

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._outlet = errand.outlet
        self._committed = False
        """Content of this attempt's answer has gone to the client: the request is committed to it."""
        self._backend = errand.backend
        relays = errand.head.operation.relays
        behind_a_router = NOT_ITS_OWN_BEHIND_A_ROUTER if self._backend.facts.is_router else NOT_ITS_OWN
        self._not_its_own: frozenset[int] = frozenset() if relays else behind_a_router
        self._connecting: Waiting | None = None
        self._connection: Connection | None = None
        self._head: ResponseHead | None = None
        self._length: int | None = None
        self._scanner: ContentScanner | None = None
        self._stale = ""
        """Why a kept connection was lost, until it is known whether the server lives."""
        self._kept = b""
        self.tail: deque[bytes] = deque(maxlen=TAIL_PIECES)
        self._kind = OTHER
        self._pieces = 0
        """Pieces of generated text, in the events of a stream that have come."""

    @property
    def is_sent(self) -> bool:
        return self._connection is not None

    @property
    def streams(self) -> bool:
        return self._head is not None and self._head.is_event_stream

    @property
    def is_between_events(self) -> bool:
        """Is the stream between two events, its head having come?"""
        if self.tail:
            return self.streams and self.tail[-1].endswith(EVENT_END)
        return self._scanner is not None and not self._scanner.in_comment

    @property
    def tokens(self) -> int | None:
        """Tokens that have come, about one each event; None: the answer is no stream."""
        return max(0, self._pieces - self._kind.others) if self.streams else None

    def start(self, *, fresh: bool) -> None:
        """Send the request. `fresh`: on a new connection, because the request can be sent only once."""
        kept = None if fresh else self._backend.pool.take()
        if kept is not None:
            self._send(kept)
        else:
            self._connecting = self._backend.connect(self._send, self._refused)

    def go_on(self, connection: Connection) -> None:
        """Take over a connection on which the request was sent; nothing has come back yet."""
        self._connection = connection
        connection.hand_over(self)

    def request_body(self) -> bytes | None:
        """The body to send in place of the client's own; None: send the client's."""
        return None

    def write(self, data: bytes) -> None:
        """Send more of the request's body."""
        if self._connection is not None:
            self._connection.write(data)

    def pause_reading(self, paused: bool) -> None:
        if self._connection is not None:
            self._connection.pause_reading(paused)

    def cancel(self) -> None:
        """Drop the connection, so that the server sees at once that nobody waits for its answer."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def server_ended(self, reason: str) -> None:
        """Leave a server that its supervisor ends: it gives no answer, but waits until its clients leave."""
        was_sent = self.is_sent
        self.cancel()
        if was_sent:
            self._fail(reason)
        else:
            self._refused(reason)

    def flush(self) -> None:
        """Show the client the head and the comments that came so far.

        Only a head that another try would have, too: an error or a length would be a promise.
        """
        head = self._head
        is_usual = head is not None and head.is_event_stream and head.status == OK and self._length is None
        if head is not None and is_usual and not self._outlet.reply.started:
            self._outlet.show_head(head, self._kept)
            self._kept = b""

    # upstream.Receiver

    def on_head(self, head: ResponseHead, length: int | None) -> None:
        self._head = head
        self._length = length
        if head.status not in self._not_its_own:
            self._backend.trust()
        if head.is_event_stream:
            self._scanner = ContentScanner()
            self._kind = self._errand.head.operation.events or OTHER
            self._stream_begins()

    def on_content(self, content: bytes) -> None:
        if self._committed:
            self._pass_on(content)
        elif self._scanner is not None and not self._scanner.feed(content):
            self._pass_comment(content)
        elif self._scanner is not None and self._lost_in(content) == content:
            self._cut(content)
        elif (self._may_not_be_its_own or self._is_foreign) and len(self._kept) < MAX_KEPT:
            self._kept += content
        else:
            self._commit(content)

    def on_chunk(self, content: bytes, raw: bytes) -> None:
        """Pass on a chunk, mostly an event, of an answer that has begun."""
        if not content.endswith(EVENT_END) or len(content) < SHORT:
            self._pass_on(content)
            return
        if pieces := content.count(self._kind.piece):
            self._pieces += pieces
            self._backend.moved = True
        self.tail.append(content)
        self._outlet.reply.pass_on(raw)

    def on_whole(self, head: ResponseHead, length: int, content: bytes) -> None:
        if head.status in self._not_its_own or head.is_event_stream or self._outlet.reply.started:
            self.on_head(head, length)
            if content:
                self.on_content(content)
            if self._connection is not None:  # no outcome yet
                self.on_end()
            return
        self._connection = None
        self._backend.trust()
        self._errand.answered_at_once(head, length, content)

    def on_end(self) -> None:
        self._connection = None
        if self._may_not_be_its_own and self._kept.startswith(PROXY_ERROR):
            self._cut(self._kept)
            return
        if self._may_not_be_its_own and LOADING in self._kept:
            self._errand.not_ready()
            return
        status = self._kind.status_at(b"".join(self.tail)) if self.streams else WHOLE
        if status is None:
            if self._may_have_been_stopped:
                self._stop()
            else:
                self._fail("its stream ended before its end")
            return
        if not self._committed:
            self._commit(b"")
        if self._committed and status == WHOLE:
            self._errand.answered()
        elif self._committed:
            self._errand.gave_up(status)

    def on_lost(self, reason: str) -> None:
        connection, self._connection = self._connection, None
        if self._head is None and connection is not None and connection.used:
            # A server may close a kept connection at any time: only the next one tells whether it died.
            self._stale = reason
            self.start(fresh=True)
        else:
            self._fail(reason)

    def on_mistake(self) -> None:
        self._connection = None
        self._errand.mistaken()

    def on_writable(self, writable: bool) -> None:
        self._errand.server_writable(writable)

    # Within

    @property
    def _may_not_be_its_own(self) -> bool:
        """The answer may not be the model's: then the request goes on as if there had been none."""
        head = self._head
        return head is not None and head.status in self._not_its_own and not self._committed

    @property
    def _is_foreign(self) -> bool:
        """The answer is not the stream that the client was told of while it waited."""
        return self._outlet.reply.started and not self.streams

    @property
    def _may_have_been_stopped(self) -> bool:
        """The stream ended in order, and has an id of a conversation by which another request can end it."""
        # On a connection that is kept, the body itself says where it ends, which no crash does.
        is_in_order = self._head is not None and self._head.keep_alive
        return is_in_order and b"x-conversation-id" in self._errand.head.noted and self._errand.server_lives

    def _stop(self) -> None:
        """End the client's stream as the server has ended its own."""
        head = self._head
        if self._committed or (head is not None and self._errand.commit(head, self._length)):
            self._write(self._kept)
            self._kept = b""
            self._errand.stopped()

    def _stream_begins(self) -> None:
        """The head of the answer says that it streams, whatever was asked for."""
        self._errand.stream_begins()

    def _send(self, connection: Connection) -> None:
        self._connecting = None
        self._connection = connection
        head, body, is_whole = self._errand.request_for(connection.authority, self.request_body())
        connection.ask(self, head, body, to_head=self._errand.head.method == "HEAD", whole=is_whole)

    def _fail(self, reason: str) -> None:
        if self._committed:
            self._errand.broken(reason)
        else:
            self._errand.lost(reason)

    def _count(self, pieces: int) -> None:
        """Count progress: a comment is none, since a server that hangs sends comments, too."""
        self._pieces += pieces
        self._backend.moved = True

    def _cut(self, content: bytes) -> None:
        """End an answer in which a router says that it has lost the process of the model."""
        self.cancel()
        self._fail(content[:MAX_REASON].decode("utf-8", "replace").strip())

    def _lost_in(self, content: bytes) -> bytes:
        """The error that this server sends in place of the rest of its stream; empty: none."""
        return b"" if self._errand.head.operation.relays else proxy_error_in(content)

    def _refused(self, reason: str) -> None:
        self._connecting = None
        if self._stale:
            self._errand.lost(self._stale)
        else:
            self._errand.refused(reason)

    def _pass_comment(self, comment: bytes) -> None:
        if self._outlet.reply.started:
            self._outlet.reply.write(comment)
        else:
            self._kept = (self._kept + comment)[-MAX_KEPT:]

    def _commit(self, content: bytes) -> None:
        """Begin the client's answer, which from now on can be ended but not replaced."""
        content, self._kept = self._kept + content, b""
        head = self._head
        if head is not None and self._errand.commit(head, self._length, content[:BEGINNING]):
            self._committed = True
            self._pass_on(content)
            if self._connection is not None and self._outlet.passes_chunks:
                self._connection.pass_chunks(self.on_chunk)
        else:
            self._errand.foreign_answer(head.status if head else 502, content)

    def _pass_on(self, content: bytes) -> None:
        if self._scanner is not None:
            if pieces := content.count(self._kind.piece):
                self._count(pieces)
            if not content.endswith(EVENT_END) and (lost := self._lost_in(content)):
                self._write(content.removesuffix(lost))
                self._cut(lost)
                return
        self._write(content)

    def _write(self, content: bytes) -> None:
        if not content:
            return
        if len(content) < SHORT and self.tail and len(self.tail[-1]) < TAIL_PIECE:
            self.tail[-1] += content
        else:
            self.tail.append(content)
        self._outlet.write(content)


def proxy_error_in(content: bytes) -> bytes:
    """The error that a router sends in place of the rest of a stream; empty: none."""
    at = content.find(PROXY_ERROR)
    begins = at == 0 or (at > 0 and content.endswith(EVENT_END, 0, at))
    return content[at:] if begins else b""
