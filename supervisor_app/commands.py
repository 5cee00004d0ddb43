"""Wishes: write the desired state, nudge the supervisor. Pages, API, admin and CLI all come through here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from supervisor_app.events import supervisor_channel
from supervisor_app.models import LlamaServer, LlamaServerQuerySet

log = logging.getLogger(__name__)

NUDGE_SECONDS = 1.0
"""The supervisor looks every second anyway: a slow channel layer is not worth more waiting."""


class Command(StrEnum):
    START = "start"
    STOP = "stop"
    RESTART = "restart"


_UPDATES: dict[Command, Callable[[LlamaServerQuerySet], int]] = {
    Command.START: LlamaServerQuerySet.ask_to_start,
    Command.STOP: LlamaServerQuerySet.ask_to_stop,
    Command.RESTART: LlamaServerQuerySet.ask_to_restart,
}


def ask(command: Command, servers: LlamaServerQuerySet) -> int:
    """How many servers were asked. The wish is on disk when this returns; acting on it takes a moment."""
    nodes = set(servers.values_list("node", flat=True))
    count = _UPDATES[command](servers)
    for node in nodes:
        nudge(node)
    return count


def nudge(node: str) -> None:
    """Tell a node's supervisor to look now. Lost is no harm."""
    try:
        async_to_sync(_nudge)(node)
    except Exception as error:  # any client library's own kind: a nudge may be lost
        log.debug("nudge lost: %s", error)


async def _nudge(node: str) -> None:
    async with asyncio.timeout(NUDGE_SECONDS):
        await get_channel_layer().send(supervisor_channel(node), {"type": "server.nudge"})


def server_named(name: str) -> LlamaServerQuerySet:
    return LlamaServer.objects.filter(name=name)
