"""Hosts that vanish with their supervisor: another one opens the incidents of their servers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor_app.alerts import incidents
from supervisor_app.fleet.lease import expired_leases

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIRM_SECONDS = 15.0
"""Time for which a lease is watched after it has run out. When the database was away for all, every lease has
run out, and those who live renew theirs within a heartbeat (5 s).
"""


class LostHosts:
    """Nodes whose supervisor ended without a word, and since when they are seen to have none."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, float] = {}

    def forget(self) -> None:
        """Note that every supervisor renews its lease."""
        self._seen = {}

    def look(self, now: float) -> None:
        """Open incidents of lost hosts, go on with those of hosts that are back. `now`: Unix seconds."""
        at = self._clock()
        nodes = expired_leases().values_list("node", flat=True)
        self._seen = {node: self._seen.get(node, at) for node in nodes}
        for node, since in self._seen.items():
            if at - since >= CONFIRM_SECONDS:
                incidents.lose_host(node, now)
        incidents.find_hosts(now)
