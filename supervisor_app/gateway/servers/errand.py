"""The errand of an attempt: Protocols of the request that it is made for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from supervisor_app.gateway.http.answer_heads import ResponseHead
    from supervisor_app.gateway.http.reply import Reply
    from supervisor_app.gateway.http.request_heads import RequestHead
    from supervisor_app.gateway.servers.backend import Backend


class Outlet(Protocol):
    """The goal of an answer."""

    reply: Reply

    def show_head(self, head: ResponseHead, comments: bytes) -> None:
        """Show the client the head of a stream that another attempt could still replace."""

    def write(self, content: bytes) -> None:
        """Pass content on, once the errand has committed to the answer."""

    @property
    def passes_chunks(self) -> bool:
        """The client takes chunks as they come, and nobody reads what is in them."""


class Errand(Protocol):
    """The request that an attempt sends, and the judge of each outcome."""

    backend: Backend
    head: RequestHead
    """Head of the request."""
    outlet: Outlet

    # The request

    def request_for(self, authority: bytes, instead: bytes | None) -> tuple[bytes, bytes, bool]:
        """Head, body as far as it has come, and whether that is all of it.

        `instead`: a body to send in place of the client's own.
        """

    def server_writable(self, writable: bool) -> None:
        """Pass on whether the server takes more of the body."""

    # The answer

    def stream_begins(self) -> None:
        """Decide when the client sees the head of a stream: see `Attempt.flush`."""

    def commit(self, head: ResponseHead, length: int | None, beginning: bytes = b"") -> bool:
        """Begin the client's answer. False: the client has been told of another one already."""

    # The outcome: exactly one, and the last that an attempt says

    def answered_at_once(self, head: ResponseHead, length: int, content: bytes) -> None:
        """The whole answer came in one piece, and nothing was said before."""

    def answered(self) -> None:
        """The answer is whole."""

    def gave_up(self, status: int) -> None:
        """The stream is whole, but ends with an error of its server. `status`: of that error."""

    def stopped(self) -> None:
        """Tell that another request of the client has ended its stream."""

    def foreign_answer(self, status: int, content: bytes) -> None:
        """The answer is not the stream that the client has been told of."""

    def not_ready(self) -> None:
        """The server says that it loads its model."""

    def refused(self, reason: str) -> None:
        """Tell that no connection could be made."""

    def lost(self, reason: str) -> None:
        """The server was lost before there was content."""

    def broken(self, reason: str) -> None:
        """The server was lost in the middle of its answer."""

    def ask_plainly(self) -> None:
        """The answer cannot be put together from a stream: send the request as the client wrote it."""

    def mistaken(self) -> None:
        """A mistake in llamaproxy."""

    @property
    def server_lives(self) -> bool:
        """The process that was asked serves on, for all that is known."""
