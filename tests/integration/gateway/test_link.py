"""What a gateway hears from the database and the channel layer, and what it tells them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager
from functools import partial
from signal import SIGSEGV

import pytest
from channels.layers import get_channel_layer
from django.db import OperationalError

from supervisor_app.conf import Overlay
from supervisor_app.core.diagnosis import failure_of
from supervisor_app.core.status import FailureKind, LlamaStatus, RunSummary, Status
from supervisor_app.events import STATUS_GROUP, supervisor_channel
from supervisor_app.gateway import fetch, ledger, link, scrape, survey
from supervisor_app.gateway.door import Door
from supervisor_app.gateway.facts import End
from supervisor_app.gateway.gateway import Gateway
from supervisor_app.gateway.keys import Denied
from supervisor_app.gateway.limits import Limits
from supervisor_app.gateway.link import Link
from supervisor_app.gateway.models import ApiKey, QuarantinedRequest, RequestRecord
from supervisor_app.gateway.records import QuarantineEntry
from supervisor_app.models import LlamaServer, ServerState
from supervisor_app.publish import ChannelPublisher
from tests.integration.building import (
    MODEL,
    db,
    eventually,
    long_ago,
    make_key,
    make_ready_server,
    make_record,
    make_server,
    make_state,
)
from tests.integration.gateway.scripts import Scripted, answers, dies, hangs, waits_for
from tests.unit.gateway.test_gate import Visitor, enter, visitors

pytestmark = pytest.mark.django_db(transaction=True)

SLOTS = json.dumps({"total_slots": 2}).encode()
NOW = time.time()
ENTRY = QuarantineEntry(
    server="default", body_hash="ab" * 32, incident="3", reason="It died.", at=NOW, until=NOW + 3600
)


@asynccontextmanager
async def linked(*, counts=None, **overlay):
    """A gateway that hears, without clients."""
    outside = Link(lambda: Overlay(values=overlay), counts)
    gateway = Gateway(limits=Limits(), door=Door(["localhost"]), outside=outside)
    outside.attach(gateway)
    await outside.load()
    before = ears()
    task = asyncio.create_task(outside.run())
    await eventually(lambda: ears() - before)
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


async def announce(status, version=2, **fields):
    """As the supervisor does it, before it is saved."""
    fields.setdefault("name", "default")
    await ChannelPublisher().announce(LlamaStatus(status=status, version=version, **fields))


@pytest.fixture
def by_news_only(monkeypatch):
    """It does not look of its own accord."""
    monkeypatch.setattr(link, "REFRESH_SECONDS", 600.0)


@pytest.fixture
def often(monkeypatch):
    """It looks all the time."""
    monkeypatch.setattr(link, "REFRESH_SECONDS", 0.02)


@pytest.fixture
def looks(monkeypatch):
    """One entry for each look at the database."""
    seen = []
    load = survey.load_facts

    def load_and_count(overlay):
        found = load(overlay)
        seen.append(found)
        return found

    monkeypatch.setattr(survey, "load_facts", load_and_count)
    return seen


class Outage:
    """A database that fails while `lasts`."""

    def __init__(self):
        self.lasts = False
        self.failed = 0

    def may_fail(self, call, *arguments):
        if self.lasts:
            self.failed += 1
            raise OperationalError("gone")
        return call(*arguments)

    async def has_been_noticed(self):
        seen = self.failed
        await eventually(lambda: self.failed > seen + 1)


@pytest.fixture
def outage(monkeypatch):
    outage = Outage()
    for module, name in [
        (survey, "load_facts"),
        (ledger, "quarantine"),
        (ledger, "wake"),
        (ledger, "idle_servers"),
    ]:
        monkeypatch.setattr(module, name, partial(outage.may_fail, getattr(module, name)))
    monkeypatch.setattr(link, "render_metrics", partial(outage.may_fail, link.render_metrics))
    return outage


# --- Servers -------------------------------------------------------------------------------------------


async def test_what_the_database_knows_is_known_from_the_beginning(by_news_only):
    await db(make_ready_server, pid=11)
    await db(make_server, "other", api_key="its own")
    async with linked(api_key="hunter2") as gateway:
        assert (facts(gateway).ready, facts(gateway).pid, facts(gateway).api_key) == (True, 11, "hunter2")
        assert facts(gateway, "other").api_key == "its own"


async def test_news_are_known_at_once_and_not_taken_back_by_a_database_that_is_behind(by_news_only, looks):
    state = await db(make_state, await db(make_server), "starting", version=1)
    async with linked() as gateway:
        looks.clear()
        await announce(Status.READY, 2, pid=11, url="http://localhost:8134", detail="Serving.")
        await eventually(lambda: looks)
        await asyncio.sleep(0)
        known = facts(gateway)
        assert (known.status, known.version, known.pid, known.detail) == (Status.READY, 2, 11, "Serving.")
        state.version, state.detail = 3, "Serving 1 model."
        await db(state.save)
        await announce(Status.READY, 2)
        await eventually(lambda: facts(gateway).version == 3)
        assert (facts(gateway).status, facts(gateway).detail) == (Status.STARTING, "Serving 1 model.")


async def test_old_news_are_none(by_news_only, looks):
    await db(make_ready_server)
    async with linked() as gateway:
        looks.clear()
        heard = []
        gateway.hear = heard.append
        await announce(Status.CRASHED, version=1)
        await eventually(lambda: looks)
        assert not heard


@pytest.mark.parametrize(("pid", "life"), [(11, True), (12, False), (None, False)])
async def test_a_life_lasts_as_long_as_its_process(by_news_only, pid, life):
    server = await db(make_ready_server, pid=11)
    run = await db(server.runs.create, started_at=long_ago())
    async with linked() as gateway:
        assert facts(gateway).life == run.pk
        seen = []
        gateway.learn = lambda servers: seen.append(servers["default"].life)
        await announce(Status.READY, pid=pid)
        await eventually(lambda: seen)
        assert seen[0] == (run.pk if life else None)


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


async def test_what_people_configure_is_known_with_the_next_look(often):
    server = await db(make_ready_server)
    async with linked() as gateway:
        await db(LlamaServer.objects.filter(pk=server.pk).update, hold_seconds=7, max_queue=3)
        await eventually(lambda: facts(gateway).hold_seconds == 7)
        assert gateway.backends["default"].gate.max_waiting == 3


async def test_news_of_a_server_that_is_new_make_it_known(by_news_only):
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


async def test_after_a_message_that_makes_no_sense_it_hears_again(by_news_only, monkeypatch):
    monkeypatch.setattr(link, "RETRY_SECONDS", 0.01)
    await db(make_ready_server)
    async with linked() as gateway:
        before = ears()
        await get_channel_layer().group_send(STATUS_GROUP, {"type": "nonsense"})
        await eventually(lambda: ears() - before)
        await announce(Status.CRASHED)
        await eventually(lambda: facts(gateway).status is Status.CRASHED)


# --- A database that is away ---------------------------------------------------------------------------


def complaints(caplog):
    return [record.getMessage() for record in caplog.records if record.name == link.__name__]


async def test_without_a_database_it_goes_on_with_what_it_knew_and_says_so_once(often, outage, caplog):
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
        assert complaints(caplog) == [said, said]


async def test_without_a_database_it_still_hears(often, outage):
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


def is_denied(gateway, secret):
    try:
        gateway.door.keys.find(secret, time.time())
    except Denied:
        return True
    return False


# --- Quarantine ----------------------------------------------------------------------------------------


async def test_what_one_gateway_does_not_send_again_the_others_do_not_either(often, caplog):
    async with linked() as one, linked() as other:
        one.quarantined.add(ENTRY)
        one.outside.quarantined(ENTRY)
        await eventually(lambda: other.quarantined.find(ENTRY.body_hash, NOW))
        assert "🚫 [GATEWAY] A request that default died of is not sent again for an hour" in caplog.messages
        await db(QuarantinedRequest.objects.all().delete)
        await eventually(lambda: not len(one.quarantined) and not len(other.quarantined))


async def test_what_cannot_be_written_down_is_not_forgotten(often, outage, looks):
    async with linked() as gateway:
        gateway.quarantined.add(ENTRY)
        outage.lasts = True
        gateway.outside.quarantined(ENTRY)
        await outage.has_been_noticed()
        assert gateway.quarantined.find(ENTRY.body_hash, NOW)
        outage.lasts = False
        looks.clear()
        await eventually(lambda: looks)
        async with asyncio.timeout(10):
            while not await QuarantinedRequest.objects.aexists():
                assert gateway.quarantined.find(ENTRY.body_hash, NOW)
                await asyncio.sleep(0.01)
        assert gateway.quarantined.find(ENTRY.body_hash, NOW)


# --- Waking and idleness -------------------------------------------------------------------------------


ASLEEP = {"desired_running": False, "stopped_for_idleness": True}


async def nudges():
    """Of the node `local`, as many as have come."""
    await asyncio.sleep(0)
    queue = get_channel_layer().channels.get(supervisor_channel("local"))
    return queue.qsize() if queue else 0


async def is_wanted(name="default"):
    server = await LlamaServer.objects.aget(name=name)
    return server.desired_running


async def test_who_asks_for_a_sleeping_server_wakes_it_at_once(by_news_only, caplog):
    caplog.set_level(logging.INFO, link.__name__)
    await db(make_server, **ASLEEP)
    async with linked() as gateway:
        gateway.outside.wake("default")
        async with asyncio.timeout(10):
            await get_channel_layer().receive(supervisor_channel("local"))
        assert await is_wanted()
        assert complaints(caplog) == ["☀️ [GATEWAY] default is asked for: starting it"]


async def test_one_that_somebody_stopped_is_not_woken(by_news_only):
    await db(make_server, desired_running=False)
    async with linked() as gateway:
        gateway.outside.wake("default")
        await gateway.outside.metrics()  # which the same thread looks up afterwards
        assert not await is_wanted()
        assert await nudges() == 0


async def test_who_waits_already_when_it_falls_asleep_wakes_it_too(often):
    server = await db(make_server)
    async with linked() as gateway:
        gateway.backends["default"].gate.enter(Visitor())
        await db(LlamaServer.objects.filter(pk=server.pk).ask_to_idle)
        async with asyncio.timeout(10):
            while not await is_wanted():
                await asyncio.sleep(0.01)
        await eventually(lambda: not facts(gateway).asleep)


async def test_waking_without_a_database_is_told(by_news_only, outage, caplog):
    await db(make_server, **ASLEEP)
    async with linked() as gateway:
        outage.lasts = True
        gateway.outside.wake("default")
        await eventually(lambda: complaints(caplog) == ["⚠️ [GATEWAY] The database failed: gone"])


@pytest.fixture
def idle_soon(monkeypatch):
    monkeypatch.setattr(link, "IDLE_SECONDS", 0.02)


async def test_a_server_that_nobody_asks_is_stopped_until_somebody_does(by_news_only, idle_soon, caplog):
    caplog.set_level(logging.INFO, link.__name__)
    await db(make_ready_server, ready_at=long_ago())
    async with linked(idle_stop_seconds=60) as gateway:
        async with asyncio.timeout(10):
            await get_channel_layer().receive(supervisor_channel("local"))
        assert not await is_wanted()
        assert complaints(caplog) == [
            "💤 [GATEWAY] Nobody asks for default: it is stopped until somebody does"
        ]
        assert await LlamaServer.objects.filter(stopped_for_idleness=True).aexists()
        assert facts(gateway).wanted  # as long as no news have come


async def test_one_that_works_on_something_is_not_stopped(by_news_only, idle_soon):
    for name in ("busy", "idle"):
        server = await db(make_ready_server, name, ready_at=long_ago())
        await db(LlamaServer.objects.filter(pk=server.pk).update, idle_stop_seconds=60)
    async with linked() as gateway:
        gateway.backends["busy"].gate.enter(Visitor())
        async with asyncio.timeout(10):
            while await is_wanted("idle"):
                await asyncio.sleep(0.01)
        assert await is_wanted("busy")


async def test_one_that_is_not_known_here_yet_is_stopped_all_the_same(by_news_only, idle_soon):
    async with linked(idle_stop_seconds=60) as gateway:
        await db(make_ready_server, ready_at=long_ago())
        async with asyncio.timeout(10):
            while await is_wanted():
                await asyncio.sleep(0.01)
        assert not gateway.backends
        assert await nudges() == 0  # its supervisor looks every second anyway


async def test_idleness_can_wait_until_the_database_is_back(by_news_only, idle_soon, outage):
    async with linked(idle_stop_seconds=60):
        outage.lasts = True
        await db(make_ready_server, ready_at=long_ago())
        await outage.has_been_noticed()
        assert await is_wanted()
        outage.lasts = False
        async with asyncio.timeout(10):
            while await is_wanted():
                await asyncio.sleep(0.01)


# --- Movement ------------------------------------------------------------------------------------------


async def test_supervisors_are_told_which_of_their_servers_answer(by_news_only, monkeypatch):
    monkeypatch.setattr(link, "MOVED_SECONDS", 0.02)
    for name, node in [("a", "one"), ("b", "one"), ("c", "other"), ("silent", "other")]:
        await db(make_server, name, node=node)
    async with linked() as gateway:
        for name in ("a", "b", "c"):
            gateway.backends[name].moved = True
        async with asyncio.timeout(10):
            told = [await get_channel_layer().receive(supervisor_channel(node)) for node in ("one", "other")]
        assert [sorted(message["servers"]) for message in told] == [["a", "b"], ["c"]]
        assert not any(backend.moved for backend in gateway.backends.values())


# --- What it asks servers ------------------------------------------------------------------------------


def by_path(**scripts):
    """`props` answers `/props`, and so on; all else is not there."""

    async def script(call):
        path = call.first_line.split()[1].removeprefix("/")
        return await scripts.get(path, answers(b"{}", 404))(call)

    return script


@asynccontextmanager
async def scripted(*scripts):
    server = Scripted(*scripts)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


async def make_scripted(server, name="default", **fields):
    return await db(make_ready_server, name, url=f"http://127.0.0.1:{server.port}", pid=11, **fields)


async def test_how_many_slots_a_server_has_it_says_itself(by_news_only):
    async with scripted(by_path(props=answers(SLOTS))) as server:
        await make_scripted(server)
        async with linked(api_key="hunter2") as gateway:
            await eventually(lambda: gateway.backends["default"].gate.capacity == 2)
        (call,) = server.calls
        assert call.fields["authorization"] == "Bearer hunter2"


async def test_a_server_is_asked_for_its_slots_once_in_each_life(by_news_only, looks):
    four = json.dumps({"total_slots": 4}).encode()
    async with scripted(answers(SLOTS), answers(four)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            gate = gateway.backends["default"].gate
            await eventually(lambda: gate.capacity == 2)
            url = facts(gateway).url
            await announce(Status.READY, 2, pid=11, url=url)
            await announce(Status.CRASHED, 3, url=url)
            await announce(Status.READY, 4, pid=12, url=url)
            await eventually(lambda: gate.capacity == 4)
        assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("props", "status"),
    [
        (b"{}", 200),
        (b"[]", 200),
        (b"\xff", 200),
        (b'{"total_slots": "many"}', 200),
        (b'{"total_slots": null}', 200),
        (b'{"total_slots": 1e999}', 200),
        (b"{}", 401),
    ],
)
async def test_one_that_does_not_say_it_has_no_limit_and_is_not_asked_again(often, looks, props, status):
    async with scripted(answers(props, status)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            await eventually(lambda: gateway.backends["default"].gate.capacity == 0)
            looks.clear()
            await eventually(lambda: len(looks) > 3)
        assert len(server.calls) == 1


async def test_one_that_did_not_answer_is_asked_again(often):
    async with scripted(dies(), dies(), answers(SLOTS)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            gate = gateway.backends["default"].gate
            assert gate.capacity == 1
            await eventually(lambda: gate.capacity == 2)


async def test_who_waited_for_its_first_start_is_let_in_by_its_slots(by_news_only):
    says, guests = asyncio.Event(), visitors(12)
    async with scripted(waits_for(says, answers(SLOTS))) as server:
        await db(make_state, await db(make_server), "starting", version=1)
        async with linked() as gateway:
            gate = gateway.backends["default"].gate
            enter(gate, *guests)
            await announce(Status.READY, 2, pid=11, url=f"http://127.0.0.1:{server.port}")
            await server.until_called()
            assert len(gate.inside) == 1
            says.set()
            await eventually(lambda: len(gate.inside) == 2)
            assert gate.capacity == 2


async def test_a_new_process_that_does_not_say_it_is_taken_to_have_as_many_as_the_last(by_news_only):
    async with scripted(answers(SLOTS), answers(b"{}", 401)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            gate = gateway.backends["default"].gate
            await eventually(lambda: gate.capacity == 2)
            url = facts(gateway).url
            await announce(Status.CRASHED, 2, url=url)
            await announce(Status.READY, 3, pid=12, url=url)
            await server.until_called(2)
            await eventually(lambda: all(call.left for call in server.calls))
            assert gate.capacity == 2


# --- Metrics -------------------------------------------------------------------------------------------


THEIRS = b"# HELP llamacpp:n_decode_total Decodes.\n# TYPE llamacpp:n_decode_total counter\nllamacpp:n_decode_total 7\n"


async def metrics(gateway):
    return (await gateway.outside.metrics()).decode()


async def test_the_metrics_of_all_are_in_one_exposition(by_news_only):
    async with (
        scripted(by_path(metrics=answers(THEIRS))) as one,
        scripted(by_path(metrics=answers(THEIRS))) as two,
    ):
        await make_scripted(one, "one", served=[MODEL.as_json()])
        await make_scripted(two, "two")
        await db(make_server, "down")
        async with linked() as gateway:
            gateway.outside.record(make_record(server="one", model=MODEL.id))
            gateway.outside.record(make_record(server="", model="made up"))
            lines = (await metrics(gateway)).splitlines()
    assert 'llamacpp:n_decode_total{server="one",model="m.gguf"} 7' in lines
    assert 'llamacpp:n_decode_total{server="two",model="model.gguf"} 7' in lines
    assert lines.count("# TYPE llamacpp:n_decode_total counter") == 1
    assert 'llamaproxy_requests_total{model="m.gguf",outcome="ok",server="one"} 1.0' in lines
    assert 'llamaproxy_requests_total{model="other",outcome="ok",server=""} 1.0' in lines
    assert 'llamaproxy_requests_in_flight{model="model.gguf",server="down"} 0.0' in lines
    assert 'llamaproxy_server_up{server="one"} 1.0' in lines
    assert 'llamaproxy_server_up{server="down"} 0.0' in lines


async def test_a_server_without_metrics_and_a_database_that_is_away_leave_those_of_the_others(
    by_news_only, outage
):
    async with scripted(by_path(metrics=answers(THEIRS))) as one, scripted(by_path()) as two:
        await make_scripted(one, "one")
        await make_scripted(two, "two")
        async with linked() as gateway:
            outage.lasts = True
            told = await metrics(gateway)
    assert 'llamacpp:n_decode_total{server="one"' in told
    assert 'llamacpp:n_decode_total{server="two"' not in told
    assert "llamaproxy_requests_in_flight" in told
    assert "llamaproxy_server_up" not in told


async def test_what_is_in_flight_and_held_is_told_by_the_model_that_was_asked_for(by_news_only):
    url = "http://127.0.0.1:8134"
    busy = await db(make_server, "busy", max_concurrent=1)
    await db(make_state, busy, "ready", url=url, served=[MODEL.as_json()])
    await db(make_server, "router", model_path="", models_dir="models")
    async with linked() as gateway:
        for model in (MODEL.id, MODEL.id, "busy", "made up", ""):
            gateway.backends["busy"].gate.enter(Visitor(model=model))
        lines = (await metrics(gateway)).splitlines()
    told = sorted(
        line for line in lines if line.startswith(("llamaproxy_requests_in_", "llamaproxy_requests_h"))
    )
    assert told == [
        'llamaproxy_requests_held{model="",server="busy"} 1.0',
        'llamaproxy_requests_held{model="",server="router"} 0.0',
        'llamaproxy_requests_held{model="busy",server="busy"} 1.0',
        'llamaproxy_requests_held{model="m.gguf",server="busy"} 1.0',
        'llamaproxy_requests_held{model="other",server="busy"} 1.0',
        'llamaproxy_requests_in_flight{model="",server="busy"} 0.0',
        'llamaproxy_requests_in_flight{model="",server="router"} 0.0',
        'llamaproxy_requests_in_flight{model="busy",server="busy"} 0.0',
        'llamaproxy_requests_in_flight{model="m.gguf",server="busy"} 1.0',
        'llamaproxy_requests_in_flight{model="other",server="busy"} 0.0',
    ]


REQUESTS = 'llamaproxy_requests_total{model="",outcome="ok",server=""}'


async def test_workers_tell_what_the_others_have_counted_while_they_run_and_after(
    by_news_only, tmp_path, monkeypatch
):
    monkeypatch.setattr(link, "SAVE_SECONDS", 0.02)
    other = tmp_path / "2.json"
    async with linked(counts=tmp_path / "1.json") as gateway:
        async with linked(counts=other) as second:
            second.outside.record(make_record(server="", model=""))
            await eventually(lambda: '"ok"' in other.read_text())  # nobody has asked it
            assert f"{REQUESTS} 1.0" in await metrics(gateway)
            second.outside.record(make_record(server="", model=""))
        assert f"{REQUESTS} 2.0" in await metrics(gateway)


def as_router(models, loaded):
    """`models`: what it says there is; `loaded`: the names of those that have metrics."""
    asked = {f"metrics?model={model}&autoload=false": answers(THEIRS) for model in loaded}
    no_model = b'{"error": {"message": "model name is missing from the request"}}'
    listing = answers(json.dumps(models).encode())
    return by_path(metrics=answers(no_model, 400), models=listing, **asked)


def listed(**status):
    return {"data": [{"id": model, "status": {"value": value}} for model, value in status.items()]}


async def models_told(gateway):
    lines = (await metrics(gateway)).splitlines()
    return [line for line in lines if line.startswith("llamacpp:")]


async def test_a_router_is_asked_for_each_model_that_is_loaded(by_news_only):
    models = listed(
        **{"a": "loaded", "org/b c": "sleeping", "d": "unloaded", "e": "loading", "gone": "loaded"}
    )
    async with scripted(as_router(models, ["a", "org%2Fb%20c", "d", "e"])) as server:
        await make_scripted(server)
        async with linked(api_key="hunter2") as gateway:
            assert await models_told(gateway) == [
                'llamacpp:n_decode_total{server="default",model="a"} 7',
                'llamacpp:n_decode_total{server="default",model="org/b c"} 7',
            ]
        assert {call.fields["authorization"] for call in server.calls} == {"Bearer hunter2"}


async def test_a_router_of_many_models_is_asked_for_some(by_news_only, monkeypatch):
    monkeypatch.setattr(scrape, "MOST_MODELS", 2)
    async with scripted(as_router(listed(a="loaded", b="loaded", c="loaded"), "abc")) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert len(await models_told(gateway)) == 2


async def test_one_model_that_hangs_leaves_the_others(by_news_only, monkeypatch):
    monkeypatch.setattr(scrape, "SECONDS", 1.0)
    models = listed(hangs="loaded", a="loaded")
    script = as_router(models, "a")
    hanging = hangs()

    async def one_hangs(call):
        return await (hanging if "model=hangs" in call.first_line else script)(call)

    async with scripted(one_hangs) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert len(await models_told(gateway)) == 1


@pytest.mark.parametrize(
    "models", [b"", b"[]", b'{"data": [{"id": "a"}]}', b'{"data": [{"status": {"value": "loaded"}}]}', None]
)
async def test_one_that_does_not_say_its_models_has_no_metrics(by_news_only, models):
    script = by_path(metrics=answers(b"{}", 400), models=answers(models or b"", 200 if models else 500))
    async with scripted(script) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert await models_told(gateway) == []


async def test_one_that_keeps_no_metrics_is_not_asked_for_models(by_news_only):
    async with scripted(by_path(metrics=answers(b"{}", 501))) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert await models_told(gateway) == []
        assert not [call for call in server.calls if "/models" in call.first_line]


# --- fetch ---------------------------------------------------------------------------------------------


async def test_a_server_that_does_not_answer_in_time_is_left_alone(by_news_only, monkeypatch):
    monkeypatch.setattr(fetch, "FETCH_SECONDS", 0.05)
    async with scripted(hangs()) as server:
        await make_scripted(server)
        async with linked() as gateway:
            with pytest.raises(fetch.FetchError, match="no answer"):
                await fetch.fetch(gateway.backends["default"], "/metrics")
            await eventually(lambda: all(call.left for call in server.calls))


async def test_more_than_anybody_can_mean_is_cut_off(by_news_only, monkeypatch):
    monkeypatch.setattr(fetch, "MAX_BYTES", 10)
    async with scripted(answers(b"x" * 100)) as server:
        await make_scripted(server)
        async with linked() as gateway:
            assert await fetch.fetch(gateway.backends["default"], "/metrics") == b"x" * 10


async def test_an_answer_that_comes_too_late_is_nobodys():
    """In the same moment in which the time is over."""
    answer = asyncio.get_running_loop().create_future()
    listener = fetch._Fetch(answer)
    answer.cancel()
    listener.on_end()
    listener.on_lost("reset")
    assert answer.cancelled()


# --- The end -------------------------------------------------------------------------------------------


async def test_at_the_end_the_last_records_are_written(by_news_only):
    await db(make_ready_server)
    async with linked() as gateway:
        gateway.outside.record(make_record())
    assert await RequestRecord.objects.acount() == 1


async def test_at_the_end_it_waits_for_no_server(by_news_only):
    async with scripted(hangs()) as server:
        await make_scripted(server)
        async with linked():
            call = await server.until_called()
        await call.until_left()


async def test_servers_with_requests_are_in_use(by_news_only, monkeypatch):
    used = []
    monkeypatch.setattr(ledger, "touch_use", lambda names, now: used.append(set(names)))
    for name in ("busy", "idle"):
        await db(make_ready_server, name)
    async with linked() as gateway:
        gateway.backends["busy"].gate.enter(Visitor())
    assert used == [{"busy"}]
