"""Newest runs of servers, read again only of those that have changed. For one `DatabaseThread`.

With 150 servers of 1000 runs PostgreSQL takes 150 ms for all of them, and a gateway asks every second.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.db.models import F

from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.fleet.newest import with_newest_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from django.db.models import QuerySet

COUNT = 8
"""Newest runs read of each server: for how they ended and how long they took to start."""
TRUSTED_SECONDS = 30.0
"""Time after which all are read again. A run is written with a new version of its server's state, but what
people or the retention delete is not.
"""


class RecentRuns:
    """Cache of the newest runs, by server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[int, tuple[int, list[Run]]] = {}
        """Version of the state with which they were read, and the runs, newest first."""
        self._read_at = clock()

    def of(self, servers: Collection[LlamaServer]) -> dict[int, list[Run]]:
        """Return the newest runs of each server, by key of the server. Two queries, or none."""
        if self._clock() - self._read_at >= TRUSTED_SECONDS:
            self._read_at = self._clock()
            self._known = {}
        versions = {server.pk: _version(server) for server in servers}
        changed = [pk for pk, version in versions.items() if self._known.get(pk, (None,))[0] != version]
        if changed:
            found = with_newest_runs(LlamaServer.objects.filter(pk__in=changed).only("pk"), _runs(), COUNT)
            self._known |= {server.pk: (versions[server.pk], runs) for server, runs in found}
        self._known = {pk: known for pk, known in self._known.items() if pk in versions}
        return {pk: self._known[pk][1] if pk in self._known else [] for pk in versions}


def _runs() -> QuerySet[Run]:
    return Run.objects.annotate(served=F("evidence__models")).only(
        "server_id",
        "adopted",
        "pid",
        "started_at",
        "ready_at",
        "loaded",
        "ended_at",
        "signal",
        "failure_kind",
        "failure_title",
    )


def _version(server: LlamaServer) -> int:
    state: ServerState | None = getattr(server, "state", None)
    return state.version if state else -1
