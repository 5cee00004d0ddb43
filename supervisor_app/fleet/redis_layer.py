"""Connections of channels-redis for a Redis that goes silently: its host dies, packets are dropped.

channels-redis takes a connection that has timed out for one on which nothing came, asks it again at once and
for ever, and nothing else runs in that process. And where no packet comes back, it waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from typing import Any

import channels_redis.pubsub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
RETRY_SECONDS = 1.0
PING_SECONDS = 5.0
"""Silence after which Redis is asked whether it is there."""
SILENT_SECONDS = 10.0
"""Silence after which Redis counts as gone, and the connection is made anew."""
COMMAND_SECONDS = 2.0
KEEPALIVE = {
    getattr(socket, name): value
    for name, value in {
        "TCP_KEEPIDLE": 5,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 2,
        "TCP_USER_TIMEOUT": 15_000,
    }.items()
    if hasattr(socket, name)  # what a system lacks, the pings do
}


class SilentError(ConnectionError):
    """Redis does not answer, and nobody has said that the connection has ended."""


class SteadyShard(channels_redis.pubsub.RedisSingleShardConnection):
    """A Redis. Nothing here waits for ever or runs without a pause, whatever Redis does."""

    def __init__(self, host: dict[str, Any], channel_layer: Any) -> None:
        super().__init__({**options_for(host), **host}, channel_layer)
        self.heard_at = 0.0
        self._has_pinged = False

    async def flush(self) -> None:
        """Say goodbye, unless Redis does not hear it."""
        with suppress(Exception):
            async with asyncio.timeout(COMMAND_SECONDS):
                await super().flush()

    async def _do_receiving(self) -> None:
        """Receive until cancelled. A lost connection is made, and its subscriptions are sent, anew."""
        while True:
            try:
                await self._receive_one()
            except Exception as error:  # any client library's own kind
                log.debug("redis: %s", error)
                await self._disconnect()
                await asyncio.sleep(RETRY_SECONDS)

    async def _receive_one(self) -> None:
        """Wait for one message, for a moment. Raises SilentError, and all that the connection raises."""
        loop = asyncio.get_running_loop()
        pubsub, began = self._pubsub, loop.time()
        if pubsub is None or not pubsub.subscribed:
            self._listen_anew(began)
            await asyncio.sleep(POLL_SECONDS / 5)
            return
        message = await pubsub.get_message(timeout=POLL_SECONDS)
        now = loop.time()
        if message is not None:
            self._listen_anew(now)
            if message["type"] == "message":
                self._receive_message(message)
        elif now - self.heard_at > SILENT_SECONDS:
            raise SilentError
        elif now - began < POLL_SECONDS / 2:
            raise SilentError  # a reader that has timed out: it would say so again at once, for ever
        elif now - self.heard_at > PING_SECONDS and not self._has_pinged:
            self._has_pinged = True
            await pubsub.ping()

    def _listen_anew(self, now: float) -> None:
        self.heard_at = now
        self._has_pinged = False

    async def _disconnect(self) -> None:
        """Drop the connection: the next look makes another."""
        self._listen_anew(asyncio.get_running_loop().time() + RETRY_SECONDS)
        connection = None if self._pubsub is None else self._pubsub.connection
        if connection is not None:
            with suppress(Exception):
                await connection.disconnect(nowait=True)


def options_for(host: dict[str, Any]) -> dict[str, Any]:
    """Options of connections to it: time limits, and how the kernel notices that nobody is there."""
    limits = {
        "socket_timeout": COMMAND_SECONDS,
        "socket_connect_timeout": COMMAND_SECONDS,
        "retry": Retry(NoBackoff(), 1),  # once: a connection that was kept may have ended unnoticed
    }
    if str(host.get("address", "")).startswith("unix:"):
        return limits
    return {**limits, "socket_keepalive": True, "socket_keepalive_options": KEEPALIVE}


def install() -> None:
    """Let every layer of pub/sub that is used from now on have such connections."""
    channels_redis.pubsub.RedisSingleShardConnection = SteadyShard
