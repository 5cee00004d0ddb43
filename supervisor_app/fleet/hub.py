"""Receive each push once per event loop from the channel layer, and write the push to every socket.

A Channels group with every socket in it costs four times as much per push, and its in-memory form drops
half of a burst. The hub also makes good what the layer has lost: every few seconds, and whenever it begins to
listen, it compares the versions that were shown with the database, so a page is never wrong for longer.

However many servers change and sockets are open, little is sent: of a burst the last change of each server
alone, many in a message; and a list is loaded and rendered once for all who want it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer

from supervisor_app.common.outage import Outage
from supervisor_app.common.single_flight import SingleFlight
from supervisor_app.core.status import DOWN
from supervisor_app.fleet.events import LISTINGS, PUSH_GROUP, Push, render_all, render_heartbeat, render_push
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.pace import Paced
from supervisor_app.fleet.planned import load_marks, planned_views
from supervisor_app.fleet.snapshots import Mark, mark_of

log = logging.getLogger(__name__)

RESYNC_SECONDS = 5.0
HEARTBEAT_SECONDS = 15.0
RETRY_SECONDS = 1.0
PAGE_SECONDS = 0.25
"""A page shows at most one change of each server in so long, and at once that it went down; a program hears
of every one.
"""

Marks = Mapping[str, Mark]
"""Marks of servers, by name."""


class Wanted(NamedTuple):
    """The needs of a socket. Sockets of the same needs are told the same."""

    as_json: bool
    only: str | None
    """Name of the one server; None: all."""
    view: str = ""
    """Way to show servers (`events.LISTINGS`); cards unless it is said."""


@dataclass(frozen=True)
class Snapshot:
    """All that a socket wants, at one moment."""

    marks: Marks
    messages: list[str]


class Subscriber(Protocol):
    """An open socket."""

    is_page: bool
    """People look at what it shows, so that changes need not come faster than they can be seen."""

    async def deliver(self, pushes: Collection[Push]) -> None:
        """Take the newest push of each server that has changed."""

    async def list_changed(self) -> None:
        """A server was added or removed."""

    async def config_changed(self, server: str) -> None:
        """Somebody has changed the configuration of a server."""

    def is_behind(self, marks: Marks) -> bool:
        """Tell whether it shows something else than the database, which knows these."""

    async def heartbeat(self, html: str) -> None: ...


class Hub:
    """Runs while at least one socket is open."""

    def __init__(self) -> None:
        self._subscribers: set[Subscriber] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.compared: dict[str, Mark] = {}
        self._newest: dict[str, Push] = {}
        self._pending: dict[str, Push] = {}
        """Pushes that no program was told yet: of each server the newest."""
        self._for_pages = Paced[Push](PAGE_SECONDS)
        self._delivering = asyncio.Lock()
        self._outdated: set[Subscriber] = set()
        """Subscribers that need all anew, at once."""
        self._missed: set[Subscriber] = set()
        """Subscribers that need all anew at the next comparison."""
        self._has_pending, self._has_outdated = asyncio.Event(), asyncio.Event()
        self._began_to_listen = asyncio.Event()
        self._snapshots = SingleFlight(_make_snapshot)
        self._outages: dict[str, Outage] = {}
        """Keyed by the name of the part that fails."""

    def join(self, subscriber: Subscriber) -> None:
        self._subscribers.add(subscriber)
        if not self._tasks:
            works = (self._listen, self._deliver, self._renew, self._resync, self._beat)
            self._tasks = [
                asyncio.create_task(self._for_ever(work), name=f"hub-{work.__name__}") for work in works
            ]

    def leave(self, subscriber: Subscriber) -> None:
        for group in (self._subscribers, self._outdated, self._missed):
            group.discard(subscriber)
        if not self._subscribers:
            for task in self._tasks:
                task.cancel()
            self._tasks = []
            self._snapshots.close()
            self.compared, self._newest, self._pending = {}, {}, {}
            self._for_pages = Paced(PAGE_SECONDS)

    async def snapshot(self, wanted: Wanted) -> Snapshot:
        """Load and render what the database tells. Raises what the database raises."""
        return await self._snapshots.get(wanted)

    def newer_than(self, marks: Marks) -> list[Push]:
        """Return the pushes that are newer than these, which a locked database may still tell."""
        return [
            push for name, push in self._newest.items() if name in marks and push["version"] > marks[name][0]
        ]

    def outdated(self, subscribers: Iterable[Subscriber]) -> None:
        """Have these told everything anew."""
        self._outdated |= self._subscribers.intersection(subscribers)
        self._has_outdated.set()

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
                    self._take(message)
                elif message["type"] == "config.changed":
                    for subscriber in list(self._subscribers):
                        await self._serve(subscriber, partial(_tell_of_config, message["server"]))
                else:
                    for known in (self.compared, self._newest, self._pending):
                        known.pop(message["server"], None)
                    self._for_pages.forget(message["server"])
                    self.outdated(self._subscribers)
        finally:
            with suppress(Exception):  # a layer that is away must not turn a cancellation into an error
                await layer.group_discard(PUSH_GROUP, channel)

    def _take(self, push: Push) -> None:
        """Have it delivered, unless a newer push of its server is known."""
        name, version = push["server"], push["version"]
        if name in self._newest and self._newest[name]["version"] > version:
            return
        at_once = is_down(push) and not is_down(self._newest.get(name))
        self.compared[name] = mark_of_push(push)
        self._newest[name] = self._pending[name] = push
        self._for_pages.put(name, push, at_once=at_once)
        self._has_pending.set()

    async def _deliver(self) -> None:
        while True:
            await self._has_pending.wait()
            await self._flush()

    async def _flush(self, *, held_too: bool = False) -> None:
        """Deliver what is pending. Pushes that come meanwhile go together next time.

        `held_too`: pages are told also what they were told another version of a moment ago.
        """
        async with self._delivering:
            self._has_pending.clear()
            loop = asyncio.get_running_loop()
            for_programs, self._pending = list(self._pending.values()), {}
            for_pages = self._for_pages.due(loop.time(), held_too=held_too)
            for subscriber in list(self._subscribers):
                pushes = for_pages if subscriber.is_page else for_programs
                if pushes:
                    await self._serve(subscriber, partial(_deliver, pushes))
            wait = self._for_pages.wait(loop.time())
            if wait is not None:
                loop.call_later(wait, self._has_pending.set)

    async def _renew(self) -> None:
        while True:
            await self._has_outdated.wait()
            self._has_outdated.clear()
            outdated, self._outdated = self._outdated, set()
            # Together, and not one after the other: they share what is made.
            await asyncio.gather(*(self._serve(each, lambda each: each.list_changed()) for each in outdated))

    async def _resync(self) -> None:
        while True:
            self._began_to_listen.clear()
            marks = await database_sync_to_async(load_marks)()
            # At the first comparison sockets alone know what they show; later each change is rendered alone.
            changed = [name for name, mark in marks.items() if self.compared and self._is_news(name, mark)]
            if any(marks[name][2] != self.compared[name][2] for name in changed if name in self.compared):
                self.outdated(self._subscribers)  # also what is said of all servers together is another
            elif changed:
                for push in await _render_anew(changed):
                    self._take(push)
            await self._flush(held_too=True)  # else they look as if they had missed it
            for name in self.compared.keys() - marks.keys():
                self._newest.pop(name, None)
            self.compared = marks
            # A socket may have missed something alone, or show a silence that no comparison has seen.
            behind = [each for each in self._subscribers if each in self._missed or each.is_behind(marks)]
            self._missed = set()
            self.outdated(behind)
            self._outage("_resync").over()
            with suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_SECONDS):
                    await self._began_to_listen.wait()  # what was pushed before, nobody here has heard

    def _is_news(self, name: str, mark: Mark) -> bool:
        return name not in self.compared or is_news(mark, self.compared[name])

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            sign = partial(_send_heartbeat, render_heartbeat(time.time()))
            for subscriber in list(self._subscribers):
                await self._serve(subscriber, sign)

    async def _serve(
        self, subscriber: Subscriber, call: Callable[[Subscriber], Coroutine[Any, Any, None]]
    ) -> None:
        """Call a subscriber. A subscriber that fails gets everything anew at the next comparison."""
        try:
            await call(subscriber)
        except StopConsumer:  # the client has left: no failure
            pass
        except Exception as error:
            self._outage("a socket").failed(error)
            self._missed.add(subscriber)
        await asyncio.sleep(0)  # others of this event loop have their turn between two of many sockets


def is_down(push: Push | None) -> bool:
    """Tell whether a server is down, though it is to run."""
    return push is not None and push.get("status") in DOWN


def mark_of_push(push: Push) -> Mark:
    # A supervisor of before does not say.
    return push["version"], push.get("silent", False), push.get("planned", 0)


def is_news(mark: Mark, shown: Mark) -> bool:
    """Tell whether the mark is of a newer state, or of another silence or maintenance at the same one."""
    return mark[0] > shown[0] or (mark[0] == shown[0] and mark[1:] != shown[1:])


async def _deliver(pushes: Collection[Push], subscriber: Subscriber) -> None:
    await subscriber.deliver(pushes)


async def _tell_of_config(server: str, subscriber: Subscriber) -> None:
    await subscriber.config_changed(server)


async def _send_heartbeat(html: str, subscriber: Subscriber) -> None:
    await subscriber.heartbeat(html)


async def _render_anew(names: Collection[str]) -> list[Push]:
    views = await database_sync_to_async(planned_views)(*names)
    return await asyncio.to_thread(lambda: [render_push(view) for view in views])


async def _make_snapshot(wanted: Wanted) -> Snapshot:
    names = () if wanted.only is None else (wanted.only,)
    views = await database_sync_to_async(planned_views)(*names)
    load = None if wanted.as_json or wanted.only is not None else LISTINGS[wanted.view].load
    shown = await database_sync_to_async(load)(views) if load else views
    messages = await asyncio.to_thread(render_all, shown, **wanted._asdict())
    return Snapshot({view.status.name: mark_of(view) for view in views}, messages)


_hubs: WeakKeyDictionary[asyncio.AbstractEventLoop, Hub] = WeakKeyDictionary()


def hub() -> Hub:
    """Return the hub of the running event loop."""
    return _hubs.setdefault(asyncio.get_running_loop(), Hub())
