"""A request without a stream, sent as one, so that the server notices when the client leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway.http.answer_heads import ResponseHead
from supervisor_app.gateway.http.heads import status_line
from supervisor_app.gateway.llama.unstream import Assembler, BrokenStreamError
from supervisor_app.gateway.problem import JSON_FIELDS
from supervisor_app.gateway.servers.attempt import Attempt, proxy_error_in

if TYPE_CHECKING:
    from supervisor_app.gateway.servers.errand import Errand


class Assembly(Attempt):
    """Puts the answer together from a stream. An answer that is no stream, such as an error, is passed on."""

    __slots__ = ("_assembler", "_body")

    def __init__(self, errand: Errand, body: bytes, assembler: Assembler) -> None:
        """`body`: sent in place of the client's own."""
        super().__init__(errand)
        self._body: bytes | None = body
        self._assembler = assembler

    def request_body(self) -> bytes | None:
        return self._body

    def on_content(self, content: bytes) -> None:
        if not self.streams:
            super().on_content(content)
            return
        if pieces := content.count(self._kind.piece):
            self._count(pieces)
        if lost := proxy_error_in(content):
            self._cut(lost)
            return
        try:
            self._assembler.feed(content)
        except BrokenStreamError:
            if self._assembler.is_verbose:
                self._backend.turned_out_verbose()
            self._ask_plainly()

    def on_end(self) -> None:
        if not self.streams:
            super().on_end()
            return
        self._connection = None
        error = self._assembler.error
        if error is not None:
            self._give(error.status, error.body)
        elif (content := self._result()) is not None:
            self._give(200, content)
        else:
            self._ask_plainly()

    def _stream_begins(self) -> None:
        """Do nothing: the client gets no stream."""

    def _result(self) -> bytes | None:
        """The answer; None: the stream does not tell it for certain."""
        try:
            return self._assembler.result() if self._assembler.whole and self._assembler.certain else None
        except BrokenStreamError:
            return None

    def _give(self, status: int, content: bytes) -> None:
        head = ResponseHead(
            status=status,
            beginning=status_line(status) + JSON_FIELDS + self._other_fields(),
            is_event_stream=False,
            keep_alive=True,
        )
        self._committed = self._errand.commit(head, len(content))
        self._pass_on(content)
        self._errand.answered()

    def _other_fields(self) -> bytes:
        """Header lines of the server that say nothing of the form of its answer."""
        lines = self._head.beginning.splitlines(keepends=True)[1:] if self._head is not None else []
        ours = (b"content-type:", b"cache-control:", b"x-accel-buffering:")
        return b"".join(line for line in lines if not line.lower().startswith(ours))

    def _ask_plainly(self) -> None:
        """Ask again without a stream, which has not told what the answer would have been."""
        self.cancel()
        self._errand.ask_plainly()
