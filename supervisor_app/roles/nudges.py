"""The supervisor's ear for nudges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from channels.consumer import AsyncConsumer

if TYPE_CHECKING:
    from collections.abc import Callable


class SupervisorConsumer(AsyncConsumer):
    """The supervisor's end of the channel layer, run by a Channels `Worker`."""

    nudge: Callable[[], None]
    moved: Callable[[list[str]], None]

    waits: Callable[[str, dict[str, int]], None]

    def __init__(
        self,
        *,
        nudge: Callable[[], None],
        moved: Callable[[list[str]], None],
        waits: Callable[[str, dict[str, int]], None],
    ) -> None:
        self.nudge = nudge
        self.moved = moved
        self.waits = waits

    async def server_nudge(self, message: dict[str, Any]) -> None:
        self.nudge()

    async def server_moved(self, message: dict[str, Any]) -> None:
        self.moved(message["servers"])

    async def server_waiting(self, message: dict[str, Any]) -> None:
        self.waits(message["gateway"], message["counts"])
