"""`/llamaproxws/log?server=NAME`: what a server writes, to the pages that show it.

Apart from the sockets of the status, with threads of its own: a flood in a log keeps nobody else waiting. A
push is bounded, and the next one waits until the page has taken the last. A page that is hidden closes its
socket, and says when it comes back how far it has read (`after`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from supervisor_app.fleet.hub import Marks, hub
from supervisor_app.fleet.logfiles import FoundLog, find_log, lives_of
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.logs.following import Follower
from supervisor_app.logs.hidden import Hider
from supervisor_app.logs.query import BadQueryError, query_of
from supervisor_app.logs.search import BadFilterError, Matcher
from supervisor_app.logs.shown import ended
from supervisor_app.pages.door import allows, stays_allowed
from supervisor_app.web.limits import WebLimits
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from supervisor_app.fleet.events import Push
    from supervisor_app.logs.lives import Life

log = logging.getLogger(__name__)

LOGIN_NEEDED = 4003
BAD_QUERY = 4000
TOO_MANY = 4008
FAILED = 1011
PUSH_SECONDS = 0.25
LOG_SOCKETS = 64
"""Pages that follow a log at a time, in one process."""
MESSAGE_BYTES = WebLimits().message_bytes
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="log")
pages_open: set[LogConsumer] = set()


class LogConsumer(AsyncWebsocketConsumer):
    """A page that follows a log."""

    right = Right.LOOK
    channel_layer_alias = None
    is_page = False  # the end of a life goes with its lines, at once

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the socket. However it ends, nothing of it stays."""
        self.work: asyncio.Task[None] | None = None
        try:
            await super().__call__(scope, receive, send)
        finally:
            hub().leave(self)
            pages_open.discard(self)
            if self.work is not None:
                self.work.cancel()

    async def connect(self) -> None:
        await self.accept()
        given = dict(parse_qsl(self.scope["query_string"].decode("latin-1")))
        self.name = given.get("server", "").replace("\0", "")
        if not await allows(self.scope["user"], self.right):
            await self.close(code=LOGIN_NEEDED)
            return
        if len(pages_open) >= LOG_SOCKETS:
            await self.close(code=TOO_MANY)
            return
        follower = await self._look() and self._follower(given)
        if not follower:
            await self.close(code=BAD_QUERY)
            return
        self.follower = follower
        self.tail: dict[str, Any] | None = {}
        """The end of a life that the page was told last; nothing yet."""
        await self._tell_end()
        self.taken, self.is_stale = asyncio.Event(), False
        self.taken.set()
        pages_open.add(self)
        hub().join(self)
        self.work = asyncio.create_task(self._follow(), name=f"log of {self.name}")

    def _follower(self, given: Mapping[str, str]) -> Follower | None:
        try:
            query = query_of(given)
            matcher = None if query.wanted.is_empty else Matcher(query.wanted, self.hider)
        except (BadFilterError, BadQueryError):
            return None
        return Follower(place=query.after, matcher=matcher)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Take whatever is said for: the last push is taken, send the next one."""
        if hasattr(self, "taken"):
            self.taken.set()

    async def send(self, *args: Any, **kwargs: Any) -> None:
        """A client that leaves while it is written to is no news."""
        try:
            await super().send(*args, **kwargs)
        except RuntimeError as error:
            raise StopConsumer from error

    async def _follow(self) -> None:
        """Push for as long as the page is there. A failure is reported, and the page comes back by itself."""
        try:
            while True:
                await self.taken.wait()
                if self.is_stale or self.follower.waits_for_run:
                    await self._look()
                news = await asyncio.get_running_loop().run_in_executor(_threads, self._news)
                if news is not None:
                    self.taken.clear()
                    for message in messages(news):
                        await self.send(text_data=message)
                await asyncio.sleep(PUSH_SECONDS)
        except StopConsumer:
            pass
        except Exception:
            # A mistake of ours. Nobody awaits this task: the page would stay silent, and say it is live.
            log.exception("⚠️ [WEB] The log of %s cannot be followed", self.name)
            await self.close(code=FAILED)

    def _news(self) -> dict[str, Any] | None:
        try:
            with self.found.history() as history:
                return self.follower.news(history, self.lives, self.hider, time.monotonic())
        except FileNotFoundError:
            self.follower.finds_no_log()
        except OSError:  # a descriptor, or its disk, may be there at the next look
            pass
        return None

    async def _look(self) -> bool:
        """Find the log and its lives anew. False: there is no such server."""
        self.is_stale = False
        looked: tuple[FoundLog, list[Life]] | None = await database_sync_to_async(_look_at)(self.name)
        if looked is None:
            return False
        self.found, self.lives = looked
        self.hider: Hider = Hider(self.found.log.secrets)
        return True

    # hub.Subscriber

    async def deliver(self, pushes: Collection[Push]) -> None:
        """Tell the page when a life has ended; it has no line of its own before the next one begins."""
        if any(push["server"] == self.name for push in pushes) and await self._look():
            await self._tell_end()

    async def _tell_end(self) -> None:
        tail = ended(max(self.lives, key=lambda life: life.number, default=None))
        if tail != self.tail:
            self.tail = tail
            await self.send(text_data=json.dumps({"tail": tail}))

    async def list_changed(self) -> None:
        self.is_stale = True

    def is_behind(self, marks: Marks) -> bool:
        return False

    async def heartbeat(self, html: str) -> None:
        if await stays_allowed(self.scope, self.right):
            await self.send(text_data='{"beat":true}')
        else:
            await self.close(code=LOGIN_NEEDED)


def messages(news: dict[str, Any]) -> Iterator[str]:
    """Yield news as messages that a socket takes: Autobahn drops a longer one without a word."""
    text, items = json.dumps(news, separators=(",", ":")), news["items"]
    if len(text) <= MESSAGE_BYTES or len(items) < 2:
        yield text
    else:
        half = len(items) // 2
        yield from messages({**news, "items": items[:half], "end": items[half]["c"]})
        yield from messages({**news, "items": items[half:], "skipped": 0, "skippedBytes": 0})


def _look_at(name: str) -> tuple[FoundLog, list[Life]] | None:
    server = LlamaServer.objects.filter(name=name).first()
    return None if server is None else (find_log(server), lives_of(server))
