"""The part of a supervisor that looks after the models on its disks: lists, deletes and downloads them."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

from supervisor_app.common.beside import LOW, Beside
from supervisor_app.common.database import Rows, Unchanged
from supervisor_app.common.guard import Guard
from supervisor_app.modelfiles.downloads import Downloads
from supervisor_app.modelfiles.places import places_of
from supervisor_app.modelfiles.removal import carry_out, wished_of
from supervisor_app.modelfiles.shelving import shelve

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.fleet.conf import Overlay

log = logging.getLogger(__name__)

WISH_SECONDS = 2.0
"""Interval between two polls for wishes."""
DOWNLOAD_SECONDS = 1.0
LIST_SECONDS = 60.0
FIRST_LIST_SECONDS = 5.0
"""Delay of the first list: a start has enough to do."""
BREATH_SECONDS = 0.05
"""Pause after a header, which is up to 50 ms of Python."""


class ModelKeeper:
    """The models of a node, in two threads: a disk that hangs while it is listed stops no download."""

    def __init__(
        self, node: str, overlay: Callable[[], Overlay], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node = node
        self._overlay = overlay
        self._clock = clock
        self._wished = Unchanged(lambda: list(wished_of(node)), rows=Rows(lambda: wished_of(node)))
        self._list_at = clock() + FIRST_LIST_SECONDS
        lists, downloads = Guard(log, "MODELS"), Guard(log, "DOWNLOADS")
        self._beside = Beside("models", partial(lists.call, self.look), WISH_SECONDS, nice=LOW)
        self._downloads = Downloads(node, overlay, finished=self.list_soon)
        self._following = Beside(
            "downloads",
            partial(downloads.call, self._downloads.look),
            DOWNLOAD_SECONDS,
            leave=partial(downloads.call, self._downloads.leave),
            nice=LOW,
        )

    async def run(self) -> None:
        """Look after the models until cancelled."""
        await asyncio.gather(self._beside.run(), self._following.run())

    def list_soon(self) -> None:
        """List with the next look: there is a new model."""
        self._list_at = float("-inf")

    def look(self) -> None:
        """Look once. Raises what the database raises."""
        wished = self._wished()
        if wished:
            carry_out(wished, places_of(self._node, self._overlay()))
        if wished or self._clock() >= self._list_at:
            self._list_at = self._clock() + LIST_SECONDS
            self._downloads.prune()
            shelve(self._node, self._overlay(), lambda: self._beside.rest(BREATH_SECONDS))
