"""The supervisor's ear for nudges."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from channels.consumer import AsyncConsumer

from supervisor_app.common.outage import Outage
from supervisor_app.fleet.log_lines import answer_other_host

if TYPE_CHECKING:
    from collections.abc import Callable


log = logging.getLogger(__name__)
_log_outage = Outage(
    log,
    "⚠️ [LOG] A page of another host gets no lines of a log: {error}",
    "✅ [LOG] Pages of other hosts get lines of logs again",
)


class SupervisorConsumer(AsyncConsumer):
    """The supervisor's end of the channel layer, run by a Channels `Worker`."""

    nudge: Callable[[], None]
    moved: Callable[[list[str]], None]

    waits: Callable[[str, dict[str, int]], None]

    closed: Callable[[str, str, int, int], None]

    def __init__(
        self,
        *,
        nudge: Callable[[], None],
        moved: Callable[[list[str]], None],
        waits: Callable[[str, dict[str, int]], None],
        closed: Callable[[str, str, int, int], None],
    ) -> None:
        self.nudge = nudge
        self.moved = moved
        self.waits = waits
        self.closed = closed

    async def server_nudge(self, message: dict[str, Any]) -> None:
        self.nudge()

    async def server_moved(self, message: dict[str, Any]) -> None:
        self.moved(message["servers"])

    async def server_waiting(self, message: dict[str, Any]) -> None:
        self.waits(message["gateway"], message["counts"])

    async def server_closed(self, message: dict[str, Any]) -> None:
        self.closed(message["gateway"], message["server"], message["version"], message["in_flight"])

    async def log_asked(self, message: dict[str, Any]) -> None:
        await answer_other_host(message, _log_outage)
