"""Push parts of pages to those who look at them.

Each part is read and rendered once for all pages of a role that show it, and goes to those that have another
version of it. Nothing is read for hidden pages, and nothing at all while nobody looks.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer

from supervisor_app.common.outage import Outage
from supervisor_app.fleet.events import in_pieces
from supervisor_app.pages.parts import fragments_of
from supervisor_app.web.rights import role_may

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from supervisor_app.pages.parts import Address
    from supervisor_app.web.rights import Role

log = logging.getLogger(__name__)

TICK_SECONDS = 0.5
"""Pause between two rounds. Each part has a pause of its own, of which a round takes those that are over."""


Look = tuple["Address", "Role | None"]
"""A part as all of a role see it."""


class Viewer(Protocol):
    """A page with parts."""

    is_hidden: bool
    role: Role | None
    """Role of its reader; None: a stranger."""
    parts: Collection[Address]
    """Parts that it shows."""
    parts_sent: dict[Address, frozenset[str]]
    """Fragments of each part, as they were sent last."""

    async def send(self, *, text_data: str) -> None: ...


class PartPushes:
    """Runs in one event loop while a page shows parts."""

    def __init__(self) -> None:
        self._viewers: set[Viewer] = set()
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._known: dict[Look, tuple[float, tuple[str, ...]]] = {}
        """Fragments that somebody looks at, and the moment at which they were read."""
        self._outage = Outage(
            log, "⚠️ [WEB] Parts of pages are not live: {reason}", "✅ [WEB] Parts of pages are live again"
        )

    def join(self, viewer: Viewer) -> None:
        """Push to a page at once, and then what is new."""
        self._viewers.add(viewer)
        self._wanted.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="parts of pages")

    def leave(self, viewer: Viewer) -> None:
        self._viewers.discard(viewer)
        if not self._viewers and self._task is not None:
            self._task.cancel()
            self._task, self._known = None, {}

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            looks = looks_of(self._viewers)
            self._known = {look: known for look, known in self._known.items() if look in looks}
            failures = [error for look, its in looks.items() if (error := await self._push(look, its))]
            if not failures:
                self._outage.over()
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._wanted.wait()

    async def _push(self, look: Look, viewers: Iterable[Viewer]) -> Exception | None:
        """Push a part to those who look at it. One that fails keeps no other waiting."""
        try:
            fragments = await self._fragments(look)
            for viewer in viewers:
                await _send(viewer, look[0], fragments)
        except Exception as error:
            self._outage.failed(error)
            return error
        return None

    async def _fragments(self, look: Look) -> tuple[str, ...]:
        """Return what was read a moment ago, or read anew."""
        now, (at, fragments) = asyncio.get_running_loop().time(), self._known.get(look, (-math.inf, ()))
        if now - at >= look[0].part.pause:
            fragments = await database_sync_to_async(fragments_of)(*look)
            self._known[look] = now, fragments
        return fragments


def looks_of(viewers: Iterable[Viewer]) -> dict[Look, list[Viewer]]:
    """Group those who look by what they see, which is what their roles may. Pure."""
    found: dict[Look, list[Viewer]] = defaultdict(list)
    for viewer in viewers:
        for address in () if viewer.is_hidden else viewer.parts:
            if role_may(viewer.role, address.part.right):
                found[address, viewer.role].append(viewer)
    return dict(found)


async def _send(viewer: Viewer, address: Address, fragments: tuple[str, ...]) -> None:
    """Send a page the fragments that it does not show yet."""
    sent = viewer.parts_sent.get(address, frozenset())
    news = [fragment for fragment in fragments if fragment not in sent]
    if not news or address not in viewer.parts:
        return
    viewer.parts_sent[address] = frozenset(fragments)
    with suppress(StopConsumer):  # the page has left
        for text in in_pieces(news):
            await viewer.send(text_data=text)
    await asyncio.sleep(0)  # others of this event loop have their turn between two of many pages


_pushes: WeakKeyDictionary[asyncio.AbstractEventLoop, PartPushes] = WeakKeyDictionary()


def part_pushes() -> PartPushes:
    """Return the pushes of the running event loop."""
    return _pushes.setdefault(asyncio.get_running_loop(), PartPushes())
