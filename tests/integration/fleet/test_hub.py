"""The hub behind `/llamaproxws`: one for all sockets of an event loop; what was lost, it shows all the same."""

from __future__ import annotations

import asyncio

import pytest
from autobahn.exception import Disconnected
from channels.exceptions import StopConsumer
from channels.layers import InMemoryChannelLayer, get_channel_layer
from django.db import DatabaseError
from django.utils import timezone

from llamaproxy.asgi import application
from supervisor_app.fleet import hub as hub_module
from supervisor_app.fleet.events import PUSH_GROUP
from supervisor_app.fleet.hub import hub
from supervisor_app.fleet.models import LlamaServer, ServerState
from supervisor_app.fleet.publish import ChannelPublisher
from tests.integration.building import (
    JSON,
    PatientSocket,
    database_away,
    db,
    eventually,
    everything,
    long_ago,
    make_ready_server,
    make_server,
    push,
    socket_to,
    until,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("unpaced")]


class Deaf:
    """A subscriber that fails at everything, and counts it."""

    is_page = True

    def __init__(self):
        self.asked = []

    async def deliver(self, push):
        self.asked.append("deliver")
        raise ConnectionError

    async def list_changed(self):
        self.asked.append("list")
        raise ConnectionError

    async def config_changed(self, server):
        self.asked.append("config")

    def is_behind(self, marks):
        return False

    async def heartbeat(self, html):
        self.asked.append("heartbeat")
        raise ConnectionError


def hub_tasks():
    return [task for task in asyncio.all_tasks() if task.get_name().startswith("hub-")]


async def test_many_sockets_are_one_member_of_the_group():
    async with socket_to(), socket_to(), socket_to(JSON):
        await eventually(lambda: PUSH_GROUP in get_channel_layer().groups)
        assert len(get_channel_layer().groups[PUSH_GROUP]) == 1
        assert len(hub_tasks()) == 5


async def test_the_hub_stops_with_the_last_socket():
    async with socket_to() as first:
        async with socket_to():
            await first.receive_from()
        assert len(hub_tasks()) == 5
    await eventually(lambda: not hub_tasks())
    assert get_channel_layer().groups.get(PUSH_GROUP, {}) == {}


async def test_the_hub_starts_again_with_the_next_socket():
    await db(make_ready_server)
    async with socket_to():
        pass
    async with socket_to() as client:
        await everything(client)
        await push(detail="Still here.")
        await until(client, "Still here.")


async def test_a_broken_socket_does_not_keep_a_push_from_the_others():
    await db(make_ready_server)
    broken = Deaf()
    hub().join(broken)
    async with socket_to() as client:
        await everything(client)
        await push(detail="Something new.")
        await until(client, "Something new.")
        await eventually(lambda: "deliver" in broken.asked)
        hub().leave(broken)


async def test_a_socket_that_missed_something_gets_everything_anew(fast_resync):
    await db(make_ready_server)
    broken = Deaf()
    hub().join(broken)
    await eventually(lambda: hub().compared)
    await ServerState.objects.aupdate(version=2)
    await eventually(lambda: "list" in broken.asked)
    hub().leave(broken)
    await eventually(lambda: not hub_tasks())


async def test_a_socket_that_leaves_while_it_is_written_to_is_no_news(fast_resync, caplog):
    class Leaving(Deaf):
        async def list_changed(self):
            self.asked.append("list")
            raise StopConsumer

        deliver = heartbeat = lambda self, _: self.list_changed()

    await db(make_ready_server)
    leaving = Leaving()
    hub().join(leaving)
    hub().outdated([leaving])
    await eventually(lambda: "list" in leaving.asked)
    hub().leave(leaving)
    await eventually(lambda: not hub_tasks())
    assert caplog.records == []


async def test_a_socket_whose_application_failed_leaves_the_hub():
    async with database_away():
        client = PatientSocket(application, "/llamaproxws")
        await client.connect()
        with pytest.raises(DatabaseError):
            await client.wait()
    await eventually(lambda: not hub_tasks())


async def test_a_socket_that_left_while_it_was_written_to_ends_without_a_word():
    opened = iter([{"type": "websocket.connect"}])

    async def receive():
        return next(opened)

    async def send(message):
        if message["type"] == "websocket.send":
            raise Disconnected

    scope = {"type": "websocket", "path": "/llamaproxws", "query_string": b"", "headers": []}
    await application(scope, receive, send)
    await eventually(lambda: not hub_tasks())


async def test_a_change_whose_push_was_lost_is_shown_all_the_same(fast_resync):
    await db(make_ready_server)
    async with socket_to() as client:
        await everything(client)
        await ServerState.objects.aupdate(version=2, detail="Nobody pushed this.")
        await until(client, "Nobody pushed this.")


async def test_a_status_pushed_before_the_hub_listened_is_shown_as_soon_as_it_does(monkeypatch):
    monkeypatch.setattr(hub_module, "RESYNC_SECONDS", 3600.0)
    may_listen = asyncio.Event()

    async def slow(layer, group, channel, original=InMemoryChannelLayer.group_add):
        await may_listen.wait()
        await original(layer, group, channel)

    monkeypatch.setattr(InMemoryChannelLayer, "group_add", slow)
    await db(make_ready_server)
    async with socket_to() as client:
        await eventually(lambda: hub().compared)  # the first comparison is done
        await ServerState.objects.aupdate(version=2, detail="Nobody heard this.")
        await push(detail="Nobody heard this.")
        may_listen.set()
        await until(client, "Nobody heard this.")


async def test_a_status_that_is_shown_is_not_sent_again(fast_resync):
    await db(make_ready_server)
    async with socket_to() as client:
        await until(client, 'id="server-default"')
        await everything(client)
        assert await client.receive_nothing(0.3)


async def test_a_server_that_nobody_pushed_appears_and_disappears(fast_resync):
    async with socket_to() as client:
        await everything(client)
        await db(make_server, "quiet")
        await until(client, 'id="server-quiet"')
        await LlamaServer.objects.all().adelete()
        await until(client, "No server yet")


async def test_a_supervisor_that_fell_silent_is_shown_and_its_return_too(fast_resync):
    await db(make_ready_server)
    async with socket_to() as client:
        await everything(client)
        await ServerState.objects.aupdate(seen_at=long_ago())
        assert " data-stale" in await until(client, "No supervisor is reporting")
        await ServerState.objects.aupdate(seen_at=timezone.now())
        assert " data-stale" not in await until(client, "<article")


async def test_a_silence_that_only_one_page_has_seen_is_over_there_too(monkeypatch):
    """The page was loaded between two comparisons, and the supervisor spoke again before the next."""
    monkeypatch.setattr(hub_module, "RESYNC_SECONDS", 1.0)
    await db(make_ready_server)
    async with socket_to() as client:
        await until(client, "<article")
        await everything(client)
        await ServerState.objects.aupdate(seen_at=long_ago())
        await client.send_to(text_data='{"type": "requestLlamaStatus"}')
        assert " data-stale" in await until(client, "No supervisor is reporting")
        await ServerState.objects.aupdate(seen_at=timezone.now())
        assert " data-stale" not in await until(client, "<article")


async def test_the_hub_outlives_a_database_that_is_away(fast_resync, monkeypatch):
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.02)
    await db(make_ready_server)
    async with socket_to() as client:
        await until(client, "<article")  # its list was read
        await everything(client)
        async with database_away() as asked:
            await eventually(lambda: len(asked) > 2)
            await push(detail="A push needs no database.", version=2)
            await until(client, "A push needs no database.")
        await ServerState.objects.aupdate(version=3, detail="It is back.")
        await until(client, "It is back.")


async def test_a_page_whose_list_could_not_be_read_hears_of_the_next_change():
    await db(make_ready_server)
    async with socket_to() as client:
        await until(client, "<article")  # its list was read
        await everything(client)
        async with database_away() as asked:
            await ChannelPublisher().removed("other")  # brings a list, which cannot be read
            await eventually(lambda: asked)
        await push(detail="Still listening.")
        await until(client, "Still listening.")


async def test_a_page_gets_a_sign_of_life_and_a_program_does_not(monkeypatch):
    monkeypatch.setattr(hub_module, "HEARTBEAT_SECONDS", 0.02)
    async with socket_to() as page, socket_to(f"{JSON}&server=x") as program:
        assert 'hx-swap-oob="true"' in await until(page, '<i id="heartbeat"')
        await program.receive_nothing(0.1)
        assert not any("heartbeat" in said for said in await everything(program, 0.05))


async def test_a_mistake_in_the_hub_is_told_once_and_not_the_end_of_it(monkeypatch, caplog):
    monkeypatch.setattr(hub_module, "RETRY_SECONDS", 0.01)
    failing, failures = True, []
    original = InMemoryChannelLayer.group_add

    async def broken(layer, group, channel):
        if failing:
            failures.append(group)
            raise RuntimeError("no group today")
        await original(layer, group, channel)

    monkeypatch.setattr(InMemoryChannelLayer, "group_add", broken)
    await db(make_ready_server)
    async with socket_to() as client:
        await eventually(lambda: len(failures) > 3)
        failing = False
        await eventually(lambda: get_channel_layer().groups.get(PUSH_GROUP))
        await push(detail="It works again.")
        await until(client, "It works again.")
    (told,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert told.message == "⚠️ [HUB] Pages may be late (listen): RuntimeError: no group today"
    assert told.exc_info


async def test_each_event_loop_has_one_hub():
    assert hub() is hub()
    elsewhere = await asyncio.to_thread(lambda: asyncio.run(_hub()))
    assert elsewhere is not hub()


async def _hub():
    return hub()
