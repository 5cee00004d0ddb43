"""A Redis that says nothing any more, and of which nobody says that it is gone: bounded, and back by itself."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import closing

import pytest
from channels.layers import get_channel_layer

from supervisor_app.fleet import hub as hub_module
from supervisor_app.fleet import publish, redis_layer
from supervisor_app.fleet.layers import channel_layer
from supervisor_app.fleet.publish import ChannelPublisher
from tests.integration.building import db, eventually, make_ready_server, socket_to
from tests.integration.fleet.test_redis_layer import listening, pushed_until_heard, redis, status
from tests.swallowing import SwallowingProxy

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]
__all__ = ["redis"]


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(redis_layer, "PING_SECONDS", 0.2)
    monkeypatch.setattr(redis_layer, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(redis_layer, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(redis_layer, "RETRY_SECONDS", 0.1)
    monkeypatch.setattr(redis_layer, "COMMAND_SECONDS", 0.5)
    monkeypatch.setattr(publish, "SEND_SECONDS", 0.5)
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.1)


@pytest.fixture
def link(redis, impatient, settings):
    """A link between us and Redis that can fall silent."""
    with closing(SwallowingProxy(redis.port)) as proxy:
        config = settings.CHANNEL_LAYERS["default"]["CONFIG"]
        config["hosts"] = [f"redis://127.0.0.1:{proxy.port}"]
        yield proxy


def shard():
    (found,) = get_channel_layer()._shards
    return found


def connection_of_pushes():
    return shard()._pubsub.connection


@pytest.fixture
def watchdog():
    """A loop that spins never comes back to its test: then the process says where it is, and ends."""
    import faulthandler

    faulthandler.dump_traceback_later(60, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


async def test_a_connection_that_timed_out_does_not_stop_the_event_loop_and_is_made_anew(link, watchdog):
    """As TCP keepalive tells it (ETIMEDOUT)."""
    await db(make_ready_server)
    async with socket_to() as client:
        await listening(client)
        connection_of_pushes()._reader.set_exception(TimeoutError(110, "Connection timed out"))
        for _ in range(20):
            await asyncio.sleep(0.01)
        await pushed_until_heard(ChannelPublisher(), client)


async def test_a_redis_whose_packets_are_lost_is_noticed_and_pushes_come_back(link, caplog):
    caplog.set_level(logging.INFO, "supervisor_app.fleet.publish")
    await db(make_ready_server)
    publisher = ChannelPublisher()
    async with socket_to() as client:
        await listening(client)
        before = connection_of_pushes()._writer
        link.swallow()
        async with asyncio.timeout(10):
            await publisher.publish(status(2, "Nobody hears this."))
        await eventually(lambda: connection_of_pushes()._writer is not before, 20)
        link.pass_again()
        await pushed_until_heard(publisher, client)
    assert "The channel layer is away" in caplog.records[0].message
    assert caplog.records[-1].message == "✅ [PUSH] The channel layer is back"


async def test_a_quiet_redis_is_asked_and_keeps_its_connection(link):
    await db(make_ready_server)
    async with socket_to() as client:
        await listening(client)
        before = connection_of_pushes()._writer
        heard = shard().heard_at
        await eventually(lambda: shard().heard_at > heard + 2 * redis_layer.SILENT_SECONDS, 20)
        assert connection_of_pushes()._writer is before


async def test_the_hub_stops_with_the_last_socket_while_redis_is_silent(link):
    async with socket_to() as client:
        await listening(client)
        link.swallow()
    await eventually(
        lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("hub-")], seconds=20
    )


def test_an_event_loop_ends_while_redis_is_silent(link):
    async def listen():
        layer = channel_layer()
        channel = await layer.new_channel()
        await layer.group_add("g", channel)
        link.swallow()
        receiving = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0.3)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(listen()))
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("address", "keeps_alive"), [("redis://a", True), ("rediss://a", True), ("unix:///run/redis.sock", False)]
)
def test_a_redis_of_this_machine_needs_no_keepalive(address, keeps_alive):
    assert ("socket_keepalive" in redis_layer.options_for({"address": address})) is keeps_alive
