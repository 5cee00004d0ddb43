"""Requests whose clients left while a server worked on them: the server may still die of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supervisor_app.gateway.servers.suspects import Suspicion

ALIVE_SECONDS = 5.0
"""A server that has answered so long after a client left has not died of its request."""
SILENT_SECONDS = 8.0
"""The same for a server that was asked nothing since. A suspect waits longer (`visit.ALONE_SECONDS`)."""
BLOCKING_SECONDS = 3.0
"""Time for which a suspect keeps others out after its client left: else to leave would be a way around."""


@dataclass(slots=True, kw_only=True, eq=False)
class DepartedRequest:
    """`visitors.Ghost`. Times are the event loop's, in seconds."""

    body_hash: str
    key: int | None
    """Id of the API key that the request was sent with."""
    suspicion: Suspicion
    pid: int | None
    """Process that the request was sent to."""
    left_at: float
    blocks: bool

    def is_over(self, now: float, answered_at: float) -> bool:
        """Has its server outlived the request? `answered_at`: loop time of the server's last answer."""
        return answered_at - self.left_at >= ALIVE_SECONDS or now - self.left_at >= SILENT_SECONDS

    def may_stop_blocking(self, now: float) -> bool:
        return self.blocks and now - self.left_at >= BLOCKING_SECONDS
