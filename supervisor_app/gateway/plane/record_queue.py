"""Records of requests that are over: made a moment later, a few at a time, between other requests."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from supervisor_app.common.words import MISTAKE

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from supervisor_app.gateway.plane.live import LiveRequest

log = logging.getLogger(__name__)

DELAY_SECONDS = 0.01
AT_ONCE = 16
"""Records made at once: 100 take half a millisecond, for which a request would wait."""


class RecordQueue:
    """Requests whose records have yet to be made, in the order of their ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[LiveRequest], None]) -> None:
        """`make`: makes the record of one request."""
        self._loop = loop
        self._make = make
        self._ended: deque[LiveRequest] = deque()

    def add(self, ended: LiveRequest) -> None:
        """Queue a request whose record is made in a moment."""
        if not self._ended:
            self._loop.call_later(DELAY_SECONDS, self._make_some)
        self._ended.append(ended)

    def make_all(self) -> None:
        """Make all records now."""
        while self._ended:
            self._make_some()

    def _make_some(self) -> None:
        for _ in range(min(len(self._ended), AT_ONCE)):
            ended = self._ended.popleft()
            is_large = ended.is_large
            try:
                self._make(ended)
            except Exception:  # any mistake: the requests that wait behind it are recorded all the same
                log.exception("❌ [GATEWAY] A request is not recorded. %s.", MISTAKE)
            if is_large:
                break
        if self._ended:
            self._loop.call_soon(self._make_some)
