"""One per process and event loop: takes each push once from the channel layer, writes it to every socket.

A Channels group with every socket in it costs four times as much per push, and its in-memory form drops
half of a burst. The hub also makes good what the layer has lost: every few seconds it compares the versions
that it has shown with the database, so a page is never wrong for longer than that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.db import DatabaseError, InterfaceError

from supervisor_app.events import PUSH_GROUP, Push, render_heartbeat, render_push
from supervisor_app.snapshots import load_marks, load_views

log = logging.getLogger(__name__)

RESYNC_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0
RETRY_SECONDS = 1.0


class Subscriber(Protocol):
    """An open socket."""

    async def deliver(self, push: Push) -> None: ...

    async def list_changed(self) -> None:
        """A server was added or removed."""

    async def heartbeat(self, html: str) -> None: ...


class Hub:
    """Runs while at least one socket is open."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._shown: dict[str, tuple[int, bool]] = {}

    def join(self, subscriber: Subscriber) -> None:
        self._subscribers.add(subscriber)
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._for_ever(work), name=f"hub-{work.__name__}")
                for work in (self._listen, self._resync, self._beat)
            ]

    def leave(self, subscriber: Subscriber) -> None:
        self._subscribers.discard(subscriber)
        if not self._subscribers:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._shown = {}

    async def _for_ever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """A channel layer or a database that is away must not end what runs on top of it."""
        while True:
            try:
                await work()
            except (DatabaseError, InterfaceError, OSError) as error:
                log.debug("hub: %s", error)
            except Exception as error:
                log.warning("⚠️ [HUB] %s: %s", type(error).__name__, error)
            await asyncio.sleep(RETRY_SECONDS)

    async def _listen(self) -> None:
        layer = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(PUSH_GROUP, channel)
        try:
            while True:
                message = await layer.receive(channel)
                if message["type"] == "status.push":
                    self._shown[message["server"]] = (message["version"], False)
                    await self._deliver(message)
                else:
                    self._shown.pop(message["server"], None)
                    await self._each(lambda subscriber: subscriber.list_changed())
        finally:
            await layer.group_discard(PUSH_GROUP, channel)

    async def _resync(self) -> None:
        while True:
            marks = await database_sync_to_async(load_marks)()
            for name in [name for name, mark in marks.items() if self._behind(name, mark)]:
                for view in await database_sync_to_async(load_views)(name):
                    await self._deliver(await asyncio.to_thread(render_push, view))
            if self._shown.keys() - marks.keys():
                await self._each(lambda subscriber: subscriber.list_changed())
            self._shown = marks
            await asyncio.sleep(RESYNC_SECONDS)

    def _behind(self, name: str, mark: tuple[int, bool]) -> bool:
        """The database knows something newer, or its supervisor fell silent or spoke again."""
        version, silent = self._shown.get(name, (-1, False))
        return mark[0] > version or (mark[0] == version and mark[1] != silent)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self._each(partial(_send_heartbeat, render_heartbeat(time.time())))

    async def _deliver(self, push: Push) -> None:
        await self._each(lambda subscriber: subscriber.deliver(push))

    async def _each(self, call: Callable[[Subscriber], Coroutine[Any, Any, None]]) -> None:
        for subscriber in list(self._subscribers):
            try:
                await call(subscriber)
            except Exception as error:
                log.debug("hub: a socket failed: %s", error)
                self._subscribers.discard(subscriber)


async def _send_heartbeat(html: str, subscriber: Subscriber) -> None:
    await subscriber.heartbeat(html)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """This event loop's."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
