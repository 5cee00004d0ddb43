"""What a gateway hears from the database and the channel layer: news, configuration, keys."""

from __future__ import annotations

import asyncio
import logging
import time
from signal import SIGSEGV

import pytest
from channels.layers import get_channel_layer

from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.loaded import Loaded
from supervisor_app.core.status import FailureKind, RunSummary, Status
from supervisor_app.fleet.events import GATEWAYS_GROUP, PUSH_GROUP, STATUS_GROUP
from supervisor_app.fleet.models import LlamaServer, ServerState
from supervisor_app.fleet.publish import ChannelPublisher
from supervisor_app.gateway.access.keys import Denied
from supervisor_app.gateway.edge import link
from supervisor_app.gateway.servers.facts import End, Load
from supervisor_app.traffic.models import ApiKey
from tests.integration.building import (
    db,
    eventually,
    long_ago,
    make_key,
    make_ready_server,
    make_server,
    make_state,
)
from tests.integration.gateway.linking import announce, complaints, ears, facts, linked, told

pytestmark = pytest.mark.django_db(transaction=True)


# --- Servers -------------------------------------------------------------------------------------------


async def test_the_state_in_the_database_is_known_from_the_beginning(by_news_only):
    await db(make_ready_server, pid=11)
    await db(make_server, "other", api_key="its own")
    async with linked(api_key="hunter2") as gateway:
        assert (facts(gateway).ready, facts(gateway).pid, facts(gateway).api_key) == (True, 11, "hunter2")
        assert facts(gateway, "other").api_key == "its own"


async def test_news_are_known_at_once_and_not_taken_back_by_a_database_that_is_behind(by_news_only, looks):
    url = "http://localhost:8134"
    state = await db(make_state, await db(make_server), "starting", version=1, url=url)
    async with linked() as gateway:
        looks.clear()
        loaded = Loaded(room_ms=250, load_ms=1500)
        run = RunSummary(retry=0, adopted=False, started_at=18.0, ready_at=20.0, loaded=loaded)
        await announce(Status.READY, 2, pid=11, url=url, detail="Serving.", ready_at=20.0, runs=(run,))
        await eventually(lambda: facts(gateway).version == 2)
        await get_channel_layer().group_send(GATEWAYS_GROUP, {"type": "gateway.nudge"})
        await eventually(lambda: looks)
        await asyncio.sleep(0)
        known = facts(gateway)
        assert (known.status, known.version, known.pid, known.detail) == (Status.READY, 2, 11, "Serving.")
        assert known.load == Load(ready_at=20.0, room_seconds=0.25, load_seconds=1.5)
        state.version, state.detail = 3, "Serving 1 model."
        await db(state.save)
        await announce(Status.READY, 2)
        await eventually(lambda: facts(gateway).version == 3)
        assert (facts(gateway).status, facts(gateway).detail) == (Status.STARTING, "Serving 1 model.")


async def test_news_that_say_all_and_the_word_that_they_are_saved_need_no_look(by_news_only, looks):
    server = await db(make_ready_server, pid=11)
    async with linked() as gateway:
        looks.clear()
        await announce(Status.READY, 2, pid=11, draining=True)
        push = {"type": "status.push", "server": "default", "version": 2}
        await get_channel_layer().group_send(PUSH_GROUP, push)
        await told("server.closed", server.node)
        await announce(Status.STOPPING, 3, pid=11)
        await announce(Status.INITIAL, 4, unloaded=True)
        await eventually(lambda: facts(gateway).version == 4)
        await announce(Status.ERROR, 5)
        await eventually(lambda: looks)
        assert (facts(gateway).status, len(looks)) == (Status.ERROR, 1)


async def test_the_link_looks_again_and_again_for_a_moment_after_a_loss(by_news_only, looks):
    state = await db(make_state, await db(make_server), "ready", version=1, pid=11)
    async with linked() as gateway:
        looks.clear()
        gateway.server_lost()
        await eventually(lambda: len(looks) >= 3)
        state.version, state.status, state.pid = 2, Status.CRASHED, None
        await db(state.save)
        await eventually(lambda: facts(gateway).status is Status.CRASHED)


async def test_old_news_are_none(by_news_only, looks):
    await db(make_ready_server)
    async with linked() as gateway:
        looks.clear()
        heard = []
        gateway.hear = heard.append
        await announce(Status.CRASHED, version=1)
        await eventually(lambda: looks)
        assert not heard


@pytest.mark.parametrize(("pid", "is_known"), [(11, True), (12, False), (None, False)])
async def test_a_run_lasts_as_long_as_its_process(by_news_only, pid, is_known):
    server = await db(make_ready_server, pid=11)
    run = await db(server.runs.create, started_at=long_ago())
    async with linked() as gateway:
        assert facts(gateway).run == run.pk
        seen = []
        gateway.learn = lambda servers: seen.append(servers["default"].run)
        await announce(Status.READY, pid=pid)
        await eventually(lambda: seen)
        assert seen[0] == (run.pk if is_known else None)


async def test_a_server_that_made_room_or_does_not_fit_is_known_by_the_news(by_news_only):
    await db(make_ready_server, pid=11)
    async with linked() as gateway:
        await announce(Status.INITIAL, 2, unloaded=True)
        await eventually(lambda: facts(gateway).unloaded)
        await announce(Status.ERROR, 3, failure=failure_of(FailureKind.DOES_NOT_FIT))
        await eventually(lambda: facts(gateway).does_not_fit)
        assert not facts(gateway).unloaded


async def test_how_a_process_ended_is_known_with_the_news_of_it(by_news_only):
    await db(make_ready_server, pid=11)
    crash = RunSummary(
        retry=0,
        adopted=False,
        started_at=1.0,
        ended_at=2.0,
        signal=SIGSEGV,
        failure=failure_of(FailureKind.KILLED_BY_SIGNAL),
    )
    async with linked() as gateway:
        await announce(Status.CRASHED, pid=None, runs=(crash,))
        await eventually(lambda: facts(gateway).status is Status.CRASHED)
        assert facts(gateway).ends == {11: End(blameless=False, sentence="Ended by a signal")}


async def test_a_change_of_which_no_news_came_is_known_with_the_next_look(often):
    state = await db(make_state, await db(make_server), "starting")
    async with linked() as gateway:
        await db(
            ServerState.objects.filter(pk=state.pk).update, status="error", detail="Given up.", version=9
        )
        await eventually(lambda: facts(gateway).status is Status.ERROR)
        assert facts(gateway).detail == "Given up."


async def test_a_changed_configuration_is_known_with_the_next_look(often):
    server = await db(make_ready_server)
    async with linked() as gateway:
        await db(LlamaServer.objects.filter(pk=server.pk).update, hold_seconds=7, max_queue=3)
        await eventually(lambda: facts(gateway).hold_seconds == 7)
        assert gateway.backends["default"].gate.max_waiting == 3


async def test_news_of_a_new_server_make_it_known(by_news_only):
    async with linked() as gateway:
        await db(make_ready_server, "new")
        await announce(Status.READY, name="new")
        await eventually(lambda: "new" in gateway.backends)


async def test_a_server_that_was_removed_is_gone_at_once(by_news_only):
    server = await db(make_ready_server)
    async with linked() as gateway:
        await db(server.delete)
        await ChannelPublisher().removed("default")
        await eventually(lambda: not gateway.backends)


async def test_the_link_hears_again_after_a_message_that_makes_no_sense(by_news_only, monkeypatch):
    monkeypatch.setattr(link, "RETRY_SECONDS", 0.01)
    await db(make_ready_server)
    async with linked() as gateway:
        before = ears()
        await get_channel_layer().group_send(STATUS_GROUP, {"type": "status.news", "server": "default"})
        await eventually(lambda: ears() - before)
        await announce(Status.CRASHED)
        await eventually(lambda: facts(gateway).status is Status.CRASHED)


async def test_deafness_to_messages_is_told_once_and_so_is_its_end(monkeypatch, caplog):
    caplog.set_level("INFO", logger=link.__package__)
    monkeypatch.setattr(link, "RETRY_SECONDS", 0.01)
    await db(make_ready_server)
    layer = get_channel_layer()
    join, tries = layer.group_add, []

    async def refuses_three_times(group, channel):
        tries.append(group)
        if len(tries) <= 3:
            raise ConnectionRefusedError("refused")
        await join(group, channel)

    monkeypatch.setattr(layer, "group_add", refuses_three_times)
    async with linked() as gateway:
        await announce(Status.CRASHED)
        await eventually(lambda: facts(gateway).status is Status.CRASHED)
    assert complaints(caplog) == [
        "⚠️ [GATEWAY] News of servers comes up to 1 s late: refused",
        "✅ [GATEWAY] News of servers comes at once again",
    ]


# --- A database that is away ---------------------------------------------------------------------------


async def test_the_link_goes_on_without_a_database_and_says_so_once(often, outage, caplog):
    caplog.set_level("INFO", logger=link.__package__)
    server = await db(make_ready_server)
    async with linked() as gateway:
        outage.lasts = True
        await outage.has_been_noticed()
        await db(server.delete)
        await outage.has_been_noticed()
        assert facts(gateway).ready
        said = "⚠️ [GATEWAY] The database failed: gone. It goes on with what it knew."
        assert complaints(caplog) == [said]
        outage.lasts = False
        await eventually(lambda: not gateway.backends)
        outage.lasts = True
        await outage.has_been_noticed()
        assert complaints(caplog) == [said, "✅ [GATEWAY] The database answers again", said]


async def test_the_link_still_hears_without_a_database(often, outage):
    await db(make_ready_server)
    async with linked() as gateway:
        outage.lasts = True
        await outage.has_been_noticed()
        await announce(Status.CRASHED, detail="Retry 1 of 5 after 1 s.")
        await eventually(lambda: facts(gateway).detail == "Retry 1 of 5 after 1 s.")


# --- Keys ----------------------------------------------------------------------------------------------


async def test_keys_count_as_soon_as_they_are_made_changed_or_deleted(often):
    async with linked() as gateway:
        assert gateway.door.keys.is_open
        key = await db(make_key, secret="lp-secret")
        await eventually(lambda: not gateway.door.keys.is_open)
        assert gateway.door.keys.find("lp-secret", time.time()).name == "chat"
        await db(ApiKey.objects.filter(pk=key.pk).update, enabled=False)
        await eventually(lambda: is_denied(gateway, "lp-secret"))
        await db(key.delete)
        await eventually(lambda: gateway.door.keys.is_open)


async def test_whether_a_key_is_asked_for_is_said_when_it_changes(often, caplog):
    caplog.set_level(logging.INFO, link.__package__)
    first = await db(make_key, secret="lp-first")
    async with linked() as gateway:
        second = await db(make_key, "second", secret="lp-second")
        await eventually(lambda: len(gateway.door.keys.ids) == 2)
        await db(first.delete)
        await eventually(lambda: len(gateway.door.keys.ids) == 1)
        assert complaints(caplog) == []
        await db(second.delete)
        opened = "🔓 [GATEWAY] No API key exists: open to the programs of this machine"
        await eventually(lambda: complaints(caplog) == [opened])
        await db(make_key, secret="lp-third")
        closed = "🔒 [GATEWAY] An API key exists: nobody is let in without one"
        await eventually(lambda: complaints(caplog) == [opened, closed])
    async with linked():
        pass
    assert complaints(caplog) == [opened, closed]


def is_denied(gateway, secret):
    try:
        gateway.door.keys.find(secret, time.time())
    except Denied:
        return True
    return False
