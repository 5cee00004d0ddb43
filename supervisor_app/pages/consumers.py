"""`/llamaproxws`: fragments for pages, events for programs."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from supervisor_app.fleet.events import Push, error_event, render_gone, render_list, render_push, status_event
from supervisor_app.fleet.hub import Marks, hub
from supervisor_app.fleet.snapshots import ServerView, load_views

LOGIN_NEEDED = 4003
"""Close code. Accepted first and then closed: a refusal is a 403, after which htmx tries for ever."""
MAX_MESSAGE = 4096
"""Characters of a client's message that are worth parsing."""


class StatusConsumer(AsyncWebsocketConsumer):
    """A socket that gets a snapshot at once and whenever asked, then every change.

    `?format=json` for the original's events, else HTML; `?server=NAME` for one server alone. The version last
    sent of each server is remembered, so that an older push is never sent after a newer one.
    """

    # The hub listens for all: a channel for each socket would make each fail while Redis is away.
    channel_layer_alias = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the socket. However it ends, it must not stay with the hub."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            hub().leave(self)

    async def connect(self) -> None:
        await self.accept()
        if not settings.LLAMAPROXY_PUBLIC_STATUS and not self.scope["user"].is_staff:
            await self.close(code=LOGIN_NEEDED)
            return
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        self.as_json = query.get("format") == ["json"]
        self.only: str | None = query["server"][0].replace("\0", "") if "server" in query else None
        self.sent: dict[str, tuple[int, bool]] = {}
        """Version last sent of each server, and whether nobody supervised the server then."""
        self.busy = self.again = False
        hub().join(self)
        await self.snapshot()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not hasattr(self, "sent"):
            return  # closed already, for want of rights
        if _wants_status(text_data):
            await self.snapshot()
        else:
            await self.send(text_data=error_event('Send {"type": "requestLlamaStatus"}.'))

    async def send(self, *args: Any, **kwargs: Any) -> None:
        """A client that leaves while it is written to is no news: the console stays quiet."""
        try:
            await super().send(*args, **kwargs)
        except RuntimeError as error:  # autobahn's Disconnected, whose import takes a fifth of a second
            raise StopConsumer from error

    async def snapshot(self) -> None:
        """Everything as it is now: after a connect, after a reconnect, on request.

        A change that comes while a snapshot is being made is shown by making another: sent on its own it
        would be followed by something older.
        """
        self.again = True
        if self.busy:
            return
        self.busy = True
        try:
            while self.again:
                self.again = False
                await self._send_snapshot()
        finally:
            self.busy = False

    async def _send_snapshot(self) -> None:
        views = await database_sync_to_async(load_views)(self.only)
        texts = await database_sync_to_async(self._render)(views)
        self.sent = {view.status.name: (view.status.version, view.stale_since is not None) for view in views}
        for text in texts:
            await self.send(text_data=text)
        for push in hub().newer_than({name: version for name, (version, _) in self.sent.items()}):
            await self._send_push(push)

    def _render(self, views: list[ServerView]) -> list[str]:
        if self.as_json:
            return [status_event(view, time.time()) for view in views]
        if self.only is None:
            return [render_list(views)]
        return [render_push(view)["html"] for view in views] or [render_gone(self.only)]

    # hub.Subscriber

    async def deliver(self, push: Push) -> None:
        name = push["server"]
        if self.only not in (None, name):
            return
        if self.busy or name not in self.sent:
            await self.snapshot()
        elif push["version"] >= self.sent[name][0] and _mark(push) != self.sent[name]:
            # The hub's first comparison finds all servers new: what this socket has shown is not sent again.
            await self._send_push(push)

    async def list_changed(self) -> None:
        await self.snapshot()

    def is_behind(self, marks: Marks) -> bool:
        def shows_other(name: str, mark: tuple[int, bool]) -> bool:
            known = marks.get(name, mark)
            return known[0] == mark[0] and known[1] != mark[1]

        return not self.busy and any(shows_other(name, mark) for name, mark in self.sent.items())

    async def heartbeat(self, html: str) -> None:
        if not self.as_json:
            await self.send(text_data=html)

    async def _send_push(self, push: Push) -> None:
        self.sent[push["server"]] = _mark(push)
        await self.send(text_data=push["json"] if self.as_json else push["html"])


def _mark(push: Push) -> tuple[int, bool]:
    return push["version"], push.get("silent", False)  # a supervisor of before does not say


def _wants_status(text: str | None) -> bool:
    if text is None or len(text) > MAX_MESSAGE:
        return False
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(message, dict) and message.get("type") == "requestLlamaStatus"
