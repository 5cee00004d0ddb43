"""`/llamaproxws`: fragments for pages, events for programs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from supervisor_app.fleet.events import (
    LISTINGS,
    Listing,
    Push,
    error_event,
    in_pieces,
    part_of,
    render_config_sign,
    rendered,
)
from supervisor_app.fleet.hub import Marks, Wanted, hub, is_news, mark_of_push
from supervisor_app.pages.build import build
from supervisor_app.pages.door import allows, role_now, stays_allowed
from supervisor_app.pages.overview import load_overview, render_overview
from supervisor_app.pages.part_pushes import part_pushes
from supervisor_app.pages.parts import Address, address_of
from supervisor_app.pages.sample_pushes import sample_pushes
from supervisor_app.web.rights import Right, Role

if TYPE_CHECKING:
    from collections.abc import Collection

    from supervisor_app.fleet.snapshots import Mark

LOGIN_NEEDED = 4003
"""Close code. Accepted first and then closed: a refusal is a 403, after which htmx tries for ever."""
MAX_MESSAGE = 4096
"""Characters of a client's message that are worth parsing."""
MOST_PARTS = 8
"""Parts that are pushed to one page."""

# With the sockets, not with the addresses: the first visitor of a new process may be a page that comes back.
LISTINGS["rows"] = Listing(render_overview, load_overview)


class StatusConsumer(AsyncWebsocketConsumer):
    """A socket that gets a snapshot at once and whenever asked, then every change.

    `?format=json` for the original's events, else HTML: cards, with `?view=rows` parts of the overview,
    with `?view=pills` words alone. `?server=NAME` for one server alone. `?config=NAME` for a page at its
    configuration, which is told that somebody has changed that. The version last sent of each server
    is remembered, so that an older push is never sent after a newer one. A page that says it is hidden is
    told of another status alone, for its title and its notifications; once it is seen again, of the rest. A
    page with charts says up to which moment it has figures (`samples`), and is pushed those that follow. One
    with parts says which (`parts`), and is pushed each when it has changed.
    """

    # The hub listens for all: a channel for each socket would make each fail while Redis is away.
    channel_layer_alias = None
    right = Right.READ

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the socket. However it ends, it must not stay with the hub."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            hub().leave(self)
            sample_pushes().leave(self)
            part_pushes().leave(self)

    async def connect(self) -> None:
        await self.accept()
        if not await allows(self.scope["user"], self.right):
            await self.close(code=LOGIN_NEEDED)
            return
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        only = query["server"][0].replace("\0", "") if "server" in query else None
        view = query.get("view", [""])[0]
        self.wanted = Wanted(
            as_json=query.get("format") == ["json"], only=only, view=view if view in LISTINGS else ""
        )
        self.sent: dict[str, Mark] = {}
        """Marks of the servers, as they were sent last."""
        self.busy = self.again = False
        self.is_page = not self.wanted.as_json
        self.is_hidden = self.has_missed = False
        self.configured = query.get("config", [""])[0]
        """Server at whose configuration the page is."""
        self.charted = only or ""
        self.charted_to: int | None = None
        self.role: Role | None = None
        self.parts: frozenset[Address] = frozenset()
        self.parts_sent: dict[Address, frozenset[str]] = {}
        self.statuses: dict[str, str] = {}
        """Statuses that a push has told, by the names of the servers."""
        hub().join(self)
        await self.snapshot()
        if "build" in query and query["build"][0] != await asyncio.to_thread(build):
            await self.send(text_data=rendered("supervisor/_outdated.html", {}))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not hasattr(self, "sent"):
            return  # closed already, for want of rights
        said = _message(text_data)
        if said.get("type") == "requestLlamaStatus":
            await self.snapshot()
        elif said.get("type") == "visibility":
            self.is_hidden = said.get("hidden") is True
            if self.has_missed and not self.is_hidden:
                await self.snapshot()
            if self.parts and not self.is_hidden:
                part_pushes().join(self)
        elif said.get("type") == "samples" and self.charted:
            self.charted_to = _moment(said.get("since"))
            sample_pushes().join(self)
        elif said.get("type") == "parts" and self.is_page:
            await self._show(said.get("shown"))
        else:
            await self.send(text_data=error_event('Send {"type": "requestLlamaStatus"}.'))

    async def send(self, *args: Any, **kwargs: Any) -> None:
        """A client that leaves while it is written to is no news: the console stays quiet."""
        try:
            await super().send(*args, **kwargs)
        except RuntimeError as error:  # autobahn's Disconnected, whose import takes a fifth of a second
            raise StopConsumer from error

    async def _show(self, paths: object) -> None:
        """Push the parts at these addresses from now on, and no others."""
        named = [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
        self.parts = frozenset(filter(None, map(address_of, named[:MOST_PARTS])))
        self.parts_sent = {part: sent for part, sent in self.parts_sent.items() if part in self.parts}
        self.role = await role_now(self.scope)
        part_pushes().join(self)

    async def snapshot(self) -> None:
        """Send everything as it is now: after a connect, after a reconnect, on request.

        A change that comes while a snapshot is being made follows it, as the newest push of that server.
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
        made = await hub().snapshot(self.wanted)
        for message in made.messages:
            await self.send(text_data=message)
            await asyncio.sleep(0)  # it may be long, and others wait for the event loop
        self.sent, self.has_missed, self.statuses = dict(made.marks), False, {}
        await self._send_pushes(hub().newer_than(self.sent))

    # hub.Subscriber

    async def deliver(self, pushes: Collection[Push]) -> None:
        mine = [push for push in pushes if self.wanted.only in (None, push["server"])]
        if self.is_hidden:
            seen = [push for push in mine if push.get("status") != self.statuses.get(push["server"], "")]
            self.has_missed |= len(seen) < len(mine)
            mine = seen
        knows_all = all(push["server"] in self.sent and _has_views(push) for push in mine)
        if self.busy:
            self.again |= not knows_all
        elif knows_all:
            await self._send_pushes(mine)
        else:
            hub().outdated([self])

    async def list_changed(self) -> None:
        await self.snapshot()

    async def config_changed(self, server: str) -> None:
        if self.is_page and server == self.configured:
            await self.send(text_data=render_config_sign(time.monotonic_ns()))

    def is_behind(self, marks: Marks) -> bool:
        only, sent = self.wanted.only, self.sent
        if self.busy or sent == marks:
            return False
        if self.is_hidden:
            self.has_missed = True  # made good when it is seen
            return False
        known = marks if only is None else {name: marks[name] for name in (only,) if name in marks}
        return known.keys() != sent.keys() or any(is_news(known[name], mark) for name, mark in sent.items())

    async def heartbeat(self, html: str) -> None:
        if not settings.LLAMAPROXY_PUBLIC_STATUS and not await stays_allowed(self.scope, self.right):
            await self.close(code=LOGIN_NEEDED)
        elif not self.wanted.as_json:
            await self.send(text_data=html)
        if self.parts and self.role is not None:
            self.role = await role_now(self.scope)
            if self.role is None:
                await self.send(text_data='{"type": "login-ended"}')

    async def _send_pushes(self, pushes: Collection[Push]) -> None:
        """Send those that are news to this socket."""
        news = [
            push
            for push in pushes
            if _has_views(push) and is_news(mark_of_push(push), self.sent[push["server"]])
        ]
        self.sent |= {push["server"]: mark_of_push(push) for push in news}
        self.statuses |= {push["server"]: push.get("status", "") for push in news}
        # An overview of one server is that server's card.
        view = "" if self.wanted.view == "rows" and len(self.sent) == 1 else self.wanted.view
        as_json = self.wanted.as_json
        texts = (
            [push["json"] for push in news] if as_json else in_pieces(part_of(push, view) for push in news)
        )
        for text in texts:
            await self.send(text_data=text)


def _has_views(push: Push) -> bool:
    """Tell whether it is of this version: a supervisor of before renders cards alone."""
    return "row" in push


def _moment(since: object) -> int | None:
    """Return the Unix seconds that a page names; None: it has nothing yet."""
    return since if isinstance(since, int) and 0 < since < 10**11 else None


def _message(text: str | None) -> dict[str, Any]:
    """Return what a client said; empty: nothing that is worth parsing."""
    if text is None or len(text) > MAX_MESSAGE:
        return {}
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}
