"""Asks each process of a server once how many slots it has."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from supervisor_app.gateway.servers.fetch import UNUSABLE, FetchError, RefusedError, fetch

if TYPE_CHECKING:
    from supervisor_app.core.tasks import Tasks
    from supervisor_app.gateway.servers.backend import Backend

log = logging.getLogger(__name__)

NONE_YET = 0
"""A pid that no process has."""


class SlotCounts:
    """The number of slots of servers, which each backend keeps for itself."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._asked: WeakKeyDictionary[Backend, int | None] = WeakKeyDictionary()
        """Pid of each server that was asked; `NONE_YET`: none."""

    def look(self, backend: Backend) -> None:
        """Ask a server's process for its slots, if it is a new one. Called often."""
        if backend not in self._asked:
            self._asked[backend] = NONE_YET
            backend.await_slots()
        facts = backend.facts
        if facts.ready and self._asked[backend] != facts.pid:
            self._asked[backend] = facts.pid
            self._tasks.start(self._ask(backend), f"slots-{facts.name}")

    async def _ask(self, backend: Backend) -> None:
        try:
            props = json.loads(await fetch(backend, "/props"))
            slots = int(props["total_slots"])
        except (RefusedError, *UNUSABLE) as error:
            log.debug("%s does not say how many slots it has: %s", backend.facts.name, error)
            backend.learn_slots(backend.slots or 0)  # an earlier process may have said it
        except FetchError:
            self._asked[backend] = NONE_YET  # the next look asks again
        else:
            backend.learn_slots(slots)
