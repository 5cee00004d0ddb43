"""A request that waits for its server: for how long, and what its client sees meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.gateway.http.answer_heads import UNBUFFERED

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from supervisor_app.gateway.servers.facts import Load

EVENT_STREAM = b"Content-Type: text/event-stream\r\nCache-Control: no-cache\r\n" + UNBUFFERED


class Hold:
    """Adds up the time waited, calls `comment` while a stream waits, and `too_late` at the end.

    Tries that reach nobody do not make the time longer: only one that did begins it anew (`renew`).
    """

    __slots__ = (
        "_deadline",
        "_loop",
        "_next_comment",
        "_since",
        "_until",
        "has_waited",
        "load",
        "room",
        "total",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._since: float | None = None
        self._until = 0.0
        self._deadline: asyncio.TimerHandle | None = None
        self._next_comment: asyncio.TimerHandle | None = None
        self.has_waited = False
        self.total = 0.0
        """Seconds waited, in all holds; 0 for a wait within one millisecond of uvloop's clock."""
        self.room = 0.0
        """Part of these seconds in which its server waited for room in memory, as `load` for its start."""
        self.load = 0.0

    @property
    def waits(self) -> bool:
        return self._since is not None

    def begin(self, seconds: float, too_late: Callable[[], None]) -> None:
        if self._since is None:
            self.has_waited = True
            self._since = self._loop.time()
            self._until = self._until or self._since + seconds
            self._deadline = self._loop.call_at(self._until, too_late)

    def end(self) -> None:
        if self._since is not None:
            self.total += self._loop.time() - self._since
            self._since = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def waited_for(self, load: Load, now: float) -> None:
        """Note how much of this wait was for the load of the server. `now`: Unix seconds."""
        if self._since is not None:
            room, loading = load.within(now - (self._loop.time() - self._since), now)
            self.room += room
            self.load += loading

    def renew(self) -> None:
        """The next wait is a new one."""
        self._until = 0.0

    def start_over(self) -> None:
        """End the wait: the next one is a new one."""
        self.end()
        self.renew()

    def comment_every(self, seconds: float, first_in: float, comment: Callable[[], None]) -> None:
        """Send comments from now until `stop_comments`, also between two waits."""
        if self._next_comment is None:
            self._next_comment = self._loop.call_later(first_in, self._say, seconds, comment)

    def stop_comments(self) -> None:
        if self._next_comment is not None:
            self._next_comment.cancel()
            self._next_comment = None

    def _say(self, seconds: float, comment: Callable[[], None]) -> None:
        self._next_comment = self._loop.call_later(seconds, self._say, seconds, comment)
        comment()
