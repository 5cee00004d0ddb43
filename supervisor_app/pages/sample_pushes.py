"""Push new figures of servers to the pages that show charts of them.

The database is asked once for each server that somebody looks at, however many tabs do; nothing is asked for
hidden ones. Each page says how far it has come, so what it missed while it was away or hidden comes with the
next push.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer

from supervisor_app.common.outage import Outage
from supervisor_app.fleet.sample_record import seconds_since
from supervisor_app.fleet.sample_rules import KEPT, SECOND, pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.fleet.sample_rules import Figures

log = logging.getLogger(__name__)

PUSH_SECONDS = 2.0
"""Pause between two pushes; figures are written as often while a server works."""
PIECE = 300
"""Seconds of a message at most: some 30 kB, where a socket takes no more than 64."""


class Viewer(Protocol):
    """A page with charts of one server."""

    is_hidden: bool
    charted: str
    """Name of the server."""
    charted_to: int | None
    """Unix seconds of the newest figures that the page has; None: nothing was sent to it yet."""

    async def send(self, *, text_data: str) -> None: ...


class SamplePushes:
    """Runs in one event loop while a page shows charts."""

    def __init__(self) -> None:
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._outage = Outage(log, "⚠️ [WEB] Charts are not live: {reason}", "✅ [WEB] Charts are live again")

    def join(self, viewer: Viewer) -> None:
        """Push to a page at once, and then what is new."""
        self._viewers.add(viewer)
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="samples for pages")

    def leave(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            try:
                await self._push()
                self._outage.over()
            except Exception as error:
                self._outage.failed(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(PUSH_SECONDS):
                    await self._wanted.wait()

    async def _push(self) -> None:
        seen = [viewer for viewer in self._viewers if not viewer.is_hidden]
        for name in {viewer.charted for viewer in seen}:
            its = [viewer for viewer in seen if viewer.charted == name]
            now = time.time()
            since = max(min(viewer.charted_to or 0 for viewer in its), int(now) - KEPT[SECOND])
            found = await database_sync_to_async(seconds_since)(name, since)
            for viewer in its:
                await _send(viewer, now, found)


async def _send(viewer: Viewer, now: float, found: Sequence[tuple[int, Figures]]) -> None:
    """Send a page what it does not have yet; the first time also that there is nothing."""
    known = viewer.charted_to
    news = [sample for sample in found if sample[0] > (known or 0)]
    if known is not None and not news:
        return
    viewer.charted_to = news[-1][0] if news else 0
    with suppress(StopConsumer):  # the page has left
        for part in [news[first : first + PIECE] for first in range(0, len(news), PIECE)] or [[]]:
            told = {"type": "samples", "now": now, "at": part[0][0] if part else None}
            figures = pack(part) if part else {}
            await viewer.send(text_data=json.dumps(told | {"figures": figures}, separators=(",", ":")))


_pushes: WeakKeyDictionary[asyncio.AbstractEventLoop, SamplePushes] = WeakKeyDictionary()


def sample_pushes() -> SamplePushes:
    """Return the pushes of the running event loop."""
    return _pushes.setdefault(asyncio.get_running_loop(), SamplePushes())
