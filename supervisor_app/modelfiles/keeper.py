"""The part of a supervisor that knows the models on its disks: lists them now and then, deletes on a wish."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from supervisor_app.modelfiles.beside import Beside
from supervisor_app.modelfiles.removal import carry_out_wishes
from supervisor_app.modelfiles.shelving import shelve

if TYPE_CHECKING:
    from collections.abc import Callable

    from supervisor_app.fleet.conf import Overlay

WISH_SECONDS = 2.0
"""Interval between two polls for wishes, which cost a quarter of a millisecond."""
LIST_SECONDS = 60.0
FIRST_LIST_SECONDS = 5.0
"""Delay of the first list: a start has enough to do."""
BREATH_SECONDS = 0.05
"""Pause after a header, which is up to 50 ms of Python."""


class ModelKeeper:
    """The models of a node. Everything happens in a thread of its own: a disk may hang."""

    def __init__(
        self, node: str, overlay: Callable[[], Overlay], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node = node
        self._overlay = overlay
        self._clock = clock
        self._list_at = clock() + FIRST_LIST_SECONDS
        self._beside = Beside("models", self.look, WISH_SECONDS)

    async def run(self) -> None:
        """Look after the models until cancelled."""
        await self._beside.run()

    def look(self) -> None:
        """Look once. Raises what the database raises."""
        deleted = carry_out_wishes(self._node, self._overlay())
        if deleted or self._clock() >= self._list_at:
            self._list_at = self._clock() + LIST_SECONDS
            shelve(self._node, self._overlay(), lambda: self._beside.rest(BREATH_SECONDS))
