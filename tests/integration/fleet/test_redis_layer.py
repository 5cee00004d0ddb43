"""Pushes and nudges over a real Redis that comes and goes."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from channels.layers import get_channel_layer
from redis.asyncio import Redis as Client
from redis.exceptions import AuthenticationError, NoPermissionError

from supervisor_app.common.console import ConsoleFormatter
from supervisor_app.core.status import LlamaStatus, Status
from supervisor_app.fleet import commands, publish
from supervisor_app.fleet import hub as hub_module
from supervisor_app.fleet.commands import nudge
from supervisor_app.fleet.events import PUSH_GROUP, STATUS_GROUP
from supervisor_app.fleet.models import ServerState
from supervisor_app.fleet.publish import ChannelPublisher
from supervisor_app.gateway.edge import link
from supervisor_app.gateway.servers import facts
from tests.deadline import DEADLINE
from tests.integration.building import db, eventually, make_ready_server, socket_to, until
from tests.integration.gateway.linking import linked
from tests.ports import free_port

pytestmark = [pytest.mark.redis, pytest.mark.django_db(transaction=True)]


ROOT = Path(__file__).parents[3]


class Redis:
    """A redis-server that keeps nothing on disk."""

    def __init__(self, directory):
        self.port = free_port()
        self.directory = directory
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--dir",
                self.directory,
            ],
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as client:
                    client.sendall(b"PING\r\n")
                    assert client.recv(16) == b"+PONG\r\n"
                    return
            except OSError:
                time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def redis(tmp_path, settings):
    """Redis, in use as settings.py puts it to use when there is a REDIS_URL."""
    if not shutil.which("redis-server"):
        pytest.skip("install redis-server")
    server = Redis(tmp_path)
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [f"redis://127.0.0.1:{server.port}"], "prefix": "llamaproxy"},
        }
    }
    yield server
    server.stop()


def status(version, detail):
    return LlamaStatus(name="default", version=version, detail=detail)


async def listening(client):
    """Wait until the hub is a member of the group."""
    await client.receive_from(timeout=DEADLINE)
    layer = get_channel_layer()
    await eventually(lambda: f"llamaproxy__group__{PUSH_GROUP}" in layer.groups)


async def pushed_until_heard(publisher, client):
    """Redis does not keep a push for somebody who is not back yet."""

    async def push():
        for version in range(100, 200):
            await publisher.publish(status(version, "Back again."))
            await asyncio.sleep(0.1)

    pushing = asyncio.create_task(push())
    await until(client, "Back again.")
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)


async def test_a_forged_word_on_redis_changes_nothing_for_good(redis, monkeypatch):
    """Anybody who reaches Redis can say anything: where requests go is for the database to say."""
    monkeypatch.setattr(facts, "NEWS_SECONDS", 0.2)
    monkeypatch.setattr(link, "REFRESH_SECONDS", 0.05)
    await db(make_ready_server, pid=11, url="http://localhost:8134")
    async with linked(api_key="hunter2", listens=joined) as gateway:
        known = gateway.backends["default"]
        before, ahead = known.facts, 10**15
        forged = LlamaStatus(name="default", version=ahead, status=Status.READY, url="http://10.0.0.66:8134")
        await ChannelPublisher().announce(forged)
        down = LlamaStatus(name="default", version=ahead, status=Status.CRASHED, url=before.url)
        await ChannelPublisher().announce(down)
        await eventually(lambda: known.facts.status is Status.CRASHED)
        assert known.facts.url == before.url
        await eventually(lambda: known.facts == before)
        true = replace(down, version=2, detail="Retry 1 of 5 after 1 s.")
        await ChannelPublisher().announce(true)
        await eventually(lambda: known.facts.detail == true.detail)


async def joined():
    """Wait until the gateway is a member of the group."""
    layer = get_channel_layer()
    await eventually(lambda: f"llamaproxy__group__{STATUS_GROUP}" in layer.groups)


async def test_a_push_reaches_a_page_in_another_event_loop_of_redis(redis):
    await db(make_ready_server)
    async with socket_to() as client:
        await listening(client)
        # Another event loop has another connection: as good as another process.
        await asyncio.to_thread(lambda: asyncio.run(ChannelPublisher().publish(status(2, "From afar."))))
        await until(client, "From afar.")


async def test_a_removal_reaches_a_page(redis):
    server = await db(make_ready_server)
    async with socket_to() as client:
        await listening(client)
        await server.adelete()
        await ChannelPublisher().removed("default")
        await until(client, "No server yet")


async def test_pushes_go_on_after_a_restart_of_redis_and_the_outage_is_told_once(redis, caplog):
    caplog.set_level(logging.INFO, "supervisor_app.fleet.publish")
    await db(make_ready_server)
    publisher = ChannelPublisher()
    async with socket_to() as client:
        await listening(client)
        redis.stop()
        for version in (2, 3, 4):
            await publisher.publish(status(version, "Nobody hears this."))
        await asyncio.sleep(1.5)  # the layer tries every second
        redis.start()
        await pushed_until_heard(publisher, client)
    assert len(caplog.records) == 2
    assert "The channel layer is away" in caplog.records[0].message
    assert caplog.records[1].message == "✅ [PUSH] The channel layer is back"


async def test_a_page_that_opens_without_redis_shows_all_and_follows_the_database(redis, monkeypatch):
    monkeypatch.setattr(hub_module, "RESYNC_SECONDS", 0.05)
    await db(make_ready_server)
    redis.stop()
    async with socket_to() as client:
        await until(client, "server-default")
        await ServerState.objects.aupdate(version=2, detail="Nobody pushed this.")
        await until(client, "Nobody pushed this.")


async def test_a_page_that_opened_while_redis_was_away_gets_pushes_once_it_is_back(redis, monkeypatch):
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.05)
    await db(make_ready_server)
    redis.stop()
    async with socket_to() as client:
        await until(client, "server-default")
        redis.start()
        await pushed_until_heard(ChannelPublisher(), client)


async def test_the_hub_stops_with_the_last_socket_also_while_redis_is_away(redis):
    async with socket_to() as client:
        await listening(client)
        redis.stop()
    await eventually(
        lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("hub-")], seconds=3
    )


async def test_a_redis_that_does_not_answer_holds_a_push_up_for_a_moment_only(redis, monkeypatch, caplog):
    monkeypatch.setattr(publish, "SEND_SECONDS", 0.2)
    publisher = ChannelPublisher()
    await publisher.publish(status(1, "ok"))
    redis.freeze()
    async with asyncio.timeout(5):
        await publisher.publish(status(2, "lost"))
    redis.thaw()
    assert "The channel layer is away (TimeoutError)" in caplog.text


async def test_a_nudge_that_is_lost_while_redis_is_away_is_told_once(redis, caplog):
    await asyncio.to_thread(nudge, "local")  # whatever was lost before this test is over
    caplog.clear()
    redis.stop()
    for _ in range(3):
        await asyncio.to_thread(nudge, "local")
    (told,) = caplog.records
    assert "A supervisor was not told to look" in told.message
    assert "Traceback" not in ConsoleFormatter().format(told)


async def test_a_redis_that_does_not_answer_holds_a_wish_up_for_a_moment_only(redis, monkeypatch):
    monkeypatch.setattr(commands, "NUDGE_SECONDS", 0.2)
    redis.freeze()
    async with asyncio.timeout(5):
        await asyncio.to_thread(nudge, "local")
    redis.thaw()


async def test_the_redis_user_of_the_documents_can_pass_messages_on_and_nothing_else(redis, settings):
    document = (ROOT / "docs" / "operate.md").read_text()
    users = [line.split()[1:] for line in re.findall(r"^ *(user .+)$", document, re.MULTILINE)]
    async with Client(port=redis.port) as client:
        for name, *rules in reversed(users):
            await client.execute_command("ACL", "SETUSER", name, *rules)
    url = f"redis://llamaproxy:password@127.0.0.1:{redis.port}"
    settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"] = [url]
    await db(make_ready_server)
    async with socket_to() as client:
        await listening(client)
        await pushed_until_heard(ChannelPublisher(), client)
    async with Client.from_url(url) as client:
        for forbidden in ("SET x 1", "KEYS *", "CONFIG GET *", "PUBLISH other x", "FLUSHALL"):
            with pytest.raises(NoPermissionError):
                await client.execute_command(*forbidden.split())
    async with Client(port=redis.port) as client:
        with pytest.raises(AuthenticationError):
            await client.ping()
