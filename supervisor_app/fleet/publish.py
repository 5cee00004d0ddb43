"""Publish on a Channels group: render once, send, never raise (`core.ports.Publisher`)."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from supervisor_app.common.outage import Outage
from supervisor_app.fleet.events import PUSH_GROUP, STATUS_GROUP, render_push, status_news
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.planned import KnownPlans
from supervisor_app.fleet.snapshots import ServerView

if TYPE_CHECKING:
    from supervisor_app.core.status import LlamaStatus

log = logging.getLogger(__name__)

SEND_SECONDS = 2.0
"""A channel layer that takes longer is as good as away."""


class ChannelPublisher:
    """Publisher whose lost messages the hubs make good: they compare with the database every few seconds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None = None, *, plans: KnownPlans | None = None
    ) -> None:
        """Take the event loop of the channel layer, where that is not the publisher's own.

        `plans`: maintenance as it is known without a look at the database, which may be locked.
        """
        self._loop = loop
        self._plans = plans or KnownPlans()
        self._outage = Outage(
            log,
            "⚠️ [PUSH] The channel layer is away ({reason}). Supervision goes on.",
            "✅ [PUSH] The channel layer is back",
        )

    async def announce(self, snapshot: LlamaStatus) -> None:
        await self._send(STATUS_GROUP, dict(status_news(snapshot)))

    async def publish(self, snapshot: LlamaStatus) -> None:
        try:
            plan = self._plans.of(snapshot.name, time.time())
            message = await asyncio.to_thread(render_push, ServerView(status=snapshot, plan=plan))
        except Exception:  # a mistake in a template must not end supervision
            log.exception("❌ [PUSH] %s cannot be shown. Supervision goes on.", snapshot.name)
        else:
            await self._send(PUSH_GROUP, dict(message))

    async def removed(self, name: str) -> None:
        await self._send(PUSH_GROUP, {"type": "status.removed", "server": name})

    async def _send(self, group: str, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(SEND_SECONDS):
                sending = channel_layer().group_send(group, message)
                if self._loop is not None:
                    sending = asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sending, self._loop))
                await sending
        except Exception as error:  # any client library's own kind: supervision must not care
            self._outage.failed(error)
        else:
            self._outage.over()
