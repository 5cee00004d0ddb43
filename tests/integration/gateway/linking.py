"""A gateway without clients, linked to the database and the channel layer of the test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from channels.layers import get_channel_layer

from supervisor_app.core.status import LlamaStatus
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.events import STATUS_GROUP, supervisor_channel
from supervisor_app.fleet.publish import ChannelPublisher
from supervisor_app.gateway.access.door import Door
from supervisor_app.gateway.edge import link, supervisors
from supervisor_app.gateway.edge.link import Link
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.plane.gateway import Gateway
from tests.integration.building import eventually

NAMES = (link.__name__, supervisors.__name__)


@asynccontextmanager
async def linked(*, counts=None, listens=None, **overlay):
    """A gateway that hears, without clients. `listens`: waits until it does, on another layer."""
    outside = Link(lambda: Overlay(values=overlay), counts)
    gateway = Gateway(limits=Limits(), door=Door(["localhost"]), outside=outside)
    outside.attach(gateway)
    await outside.load()
    before = ears()
    task = asyncio.create_task(outside.run())
    await (listens() if listens else eventually(lambda: ears() - before))
    try:
        yield gateway
    finally:
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        gateway.close()
        assert isinstance(ended, asyncio.CancelledError), ended


def ears():
    """All that hear news."""
    return set(get_channel_layer().groups.get(STATUS_GROUP, ()))


def facts(gateway, name="default"):
    return gateway.backends[name].facts


async def told(kind, node="local"):
    """The next message of a kind that the supervisor of a node gets; others are passed over."""
    while True:
        message = await get_channel_layer().receive(supervisor_channel(node))
        if message["type"] == kind:
            return message


async def announce(status, version=2, **fields):
    """Announce a status as the supervisor does it, before it is saved."""
    fields.setdefault("name", "default")
    await ChannelPublisher().announce(LlamaStatus(status=status, version=version, **fields))


def complaints(caplog):
    return [record.getMessage() for record in caplog.records if record.name in NAMES]
