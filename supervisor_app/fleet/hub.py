"""Receive each push once per event loop from the channel layer, and write the push to every socket.

A Channels group with every socket in it costs four times as much per push, and its in-memory form drops
half of a burst. The hub also makes good what the layer has lost: every few seconds, and whenever it begins to
listen, it compares the versions that were shown with the database, so a page is never wrong for longer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer

from supervisor_app.common.outage import Outage
from supervisor_app.fleet.events import PUSH_GROUP, Push, render_heartbeat, render_push
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.snapshots import load_marks, load_views

log = logging.getLogger(__name__)

RESYNC_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0
RETRY_SECONDS = 1.0


Marks = Mapping[str, tuple[int, bool]]
"""Version of each server, by name, and whether nobody supervises it."""


class Subscriber(Protocol):
    """An open socket."""

    async def deliver(self, push: Push) -> None: ...

    async def list_changed(self) -> None:
        """A server was added or removed."""

    def is_behind(self, marks: Marks) -> bool:
        """Tell whether it shows something else than the database, which knows these."""

    async def heartbeat(self, html: str) -> None: ...


class Hub:
    """Runs while at least one socket is open."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.compared: dict[str, tuple[int, bool]] = {}
        self._newest: dict[str, Push] = {}
        self._missed: set[Subscriber] = set()
        self._began_to_listen = asyncio.Event()
        self._outages: dict[str, Outage] = {}
        """Keyed by the name of the part that fails."""

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
            self.compared, self._newest, self._missed = {}, {}, set()

    def newer_than(self, versions: Mapping[str, int]) -> list[Push]:
        """Return the pushes that are newer than these versions, which a locked database may still tell."""
        return [
            push
            for name, push in self._newest.items()
            if push["version"] > versions.get(name, push["version"])
        ]

    async def _for_ever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Repeat the work: a channel layer or a database that is away must not end a page."""
        while True:
            try:
                await work()
            except Exception as error:  # any client library's own kind
                self._outage(work.__name__).failed(error)
            await asyncio.sleep(RETRY_SECONDS)

    def _outage(self, what: str) -> Outage:
        part = what.strip("_")
        return self._outages.setdefault(
            what,
            Outage(
                log,
                f"⚠️ [HUB] Pages may be late ({part}): {{error}}",
                f"✅ [HUB] Pages are up to date again ({part})",
            ),
        )

    async def _listen(self) -> None:
        layer = channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(PUSH_GROUP, channel)
        self._began_to_listen.set()
        self._outage("_listen").over()
        try:
            while True:
                message = await layer.receive(channel)
                if message["type"] == "status.push":
                    self.compared[message["server"]] = (message["version"], False)
                    self._newest[message["server"]] = message
                    await self._deliver(message)
                else:
                    self.compared.pop(message["server"], None)
                    self._newest.pop(message["server"], None)
                    await self._list_changed(self._subscribers)
        finally:
            with suppress(Exception):  # a layer that is away must not turn a cancellation into an error
                await layer.group_discard(PUSH_GROUP, channel)

    async def _resync(self) -> None:
        while True:
            self._began_to_listen.clear()
            marks = await database_sync_to_async(load_marks)()
            for name in [name for name, mark in marks.items() if self._behind(name, mark)]:
                for view in await database_sync_to_async(load_views)(name):
                    await self._deliver(await asyncio.to_thread(render_push, view))
            # A page that was loaded between two comparisons may show a silence that no comparison has seen.
            behind = {each for each in self._subscribers if each.is_behind(marks)}
            missed, self._missed = behind | (self._missed & self._subscribers), set()
            gone = self.compared.keys() - marks.keys()
            await self._list_changed(self._subscribers if gone else missed)
            self.compared = marks
            for name in gone:
                self._newest.pop(name, None)
            self._outage("_resync").over()
            with suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_SECONDS):
                    await self._began_to_listen.wait()  # what was pushed before, nobody here has heard

    def _behind(self, name: str, mark: tuple[int, bool]) -> bool:
        """Tell whether the database knows a newer state, or the supervisor fell silent or spoke again."""
        version, silent = self.compared.get(name, (-1, False))
        return mark[0] > version or (mark[0] == version and mark[1] != silent)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            await self._each(self._subscribers, partial(_send_heartbeat, render_heartbeat(time.time())))

    async def _deliver(self, push: Push) -> None:
        await self._each(self._subscribers, lambda subscriber: subscriber.deliver(push))

    async def _list_changed(self, subscribers: Iterable[Subscriber]) -> None:
        await self._each(subscribers, lambda subscriber: subscriber.list_changed())

    async def _each(
        self,
        subscribers: Iterable[Subscriber],
        call: Callable[[Subscriber], Coroutine[Any, Any, None]],
    ) -> None:
        """Serve every subscriber. A subscriber that fails gets everything anew at the next comparison."""
        for subscriber in list(subscribers):
            try:
                await call(subscriber)
            except StopConsumer:  # the client has left: no failure
                continue
            except Exception as error:
                self._outage("a socket").failed(error)
                self._missed.add(subscriber)


async def _send_heartbeat(html: str, subscriber: Subscriber) -> None:
    await subscriber.heartbeat(html)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """Return the hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
