"""Incidents and deliveries on a real database, and who sends them when."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import Max

from supervisor_app.alerts import incidents, sender, transport
from supervisor_app.alerts.models import AlertChannel, Delivery, Incident
from supervisor_app.alerts.sender import AlertSender
from supervisor_app.alerts.transport import ID_HEADER
from supervisor_app.core.diagnosis import failure_of
from supervisor_app.core.ports import Exit, RunClosed
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.models import LlamaServer
from supervisor_app.store import _save
from tests.integration.building import (
    OUT_OF_MEMORY,
    STARTED,
    at,
    change,
    db,
    eventually,
    free_port,
    make_server,
)
from tests.integration.receiving import until, web_server
from tests.integration.test_runtime import running, state_is

pytestmark = pytest.mark.django_db(transaction=True)

HANG = failure_of(FailureKind.HUNG, "it missed 3 health checks in a row")
HOUR = 3600.0


@pytest.fixture(autouse=True)
def loud(caplog):
    caplog.set_level(logging.INFO, "supervisor_app.alerts")


@pytest.fixture
def hook():
    with web_server() as hook:
        yield hook


@pytest.fixture
def clock(monkeypatch):
    """`clock.now` is what the store believes."""

    class Clock:
        now = STARTED

        def __call__(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr("supervisor_app.store.time.time", clock)
    return clock


@pytest.fixture
def world(clock, hook):
    return World(clock, hook)


class World:
    """One server, one channel, one sender, and time that moves when told to."""

    def __init__(self, clock, hook, **fields):
        self.clock, self.hook = clock, hook
        self.server = make_server(**fields)
        self.channel = make_channel(hook.url)
        self.sender = AlertSender(node="local", clock=clock)

    def see(self, status, *, wait=0.0, events=(), failure=None, name="default", **fields):
        """The supervisor saves a state, so many seconds after the last."""
        self.clock.now += wait
        if status in ("crashed", "error"):
            failure = failure or OUT_OF_MEMORY
        fields.setdefault("ready_at", self.clock.now if status == "ready" else None)
        fields.setdefault("started_at", self.clock.now if status == "ready" else None)
        fields.setdefault("detail", f"{status}.")
        _save("local", change(name, *events, status=Status(status), failure=failure, **fields))

    def look(self, wait=0.0):
        """The sender looks, sends what is due and records it."""
        self.clock.now += wait
        self.sender._chores_at = 0
        self.sender.look()
        while self.sender._on_their_way:
            self.sender._wait(10)
        self.sender.look()
        while self.sender._on_their_way:
            self.sender._wait(10)
        self.sender.look()

    @property
    def incident(self):
        return Incident.objects.get()


def make_channel(url="https://example.org/", name="ops", servers=(), **fields):
    channel = AlertChannel.objects.create(name=name, url=url, **fields)
    channel.servers.set(servers)
    return channel


# --- One incident --------------------------------------------------------------------------------------


def test_from_crash_to_recovery_two_messages(world):
    world.see("crashed", detail="Out of memory. Retry 1 of 5 after 1 s.", retries=1)
    world.look()
    assert world.hook.texts == [
        "default is down: Out of memory. Retry 1 of 5 after 1 s.\nTry a smaller context (-c) or model."
    ]
    world.see("starting", wait=1)
    world.see("ready", wait=129)
    world.look(wait=59)
    assert world.hook.events == ["crashed"], "not before it has been ready for a minute"
    world.look(wait=1)
    assert world.hook.events == ["crashed", "recovered"]
    body = world.hook.posts[-1].json
    assert body["text"] == "default is up again after 2 min 10 s."
    assert (body["duration_seconds"], body["incident"]) == (130, world.incident.pk)
    assert body["since"] == "2025-06-15T15:06:40.000Z"
    assert (world.incident.ending, world.incident.closed_at) == ("recovered", at(STARTED + 190))
    world.look(wait=10**6)
    assert len(world.hook.posts) == 2


def test_flapping_is_one_incident_with_two_messages(world):
    for _ in range(20):
        world.see("crashed", wait=1)
        world.look()
        world.see("starting", wait=1)
        world.look()
        world.see("ready", wait=1)
        world.look(wait=40)
    world.look(wait=60)
    assert world.hook.events == ["crashed", "recovered"]
    assert world.incident.ending == "recovered"


def test_after_a_recovery_the_next_crash_is_another_incident(world):
    world.see("crashed")
    world.see("ready", wait=1)
    world.see("crashed", wait=61)  # nobody has looked in between
    assert Incident.objects.count() == 2
    for _ in range(2):
        world.look()
    assert world.hook.events == ["crashed", "recovered", "crashed"]
    assert len({post.json["incident"] for post in world.hook.posts}) == 2


def test_given_up_comes_after_crashed_and_once(world):
    world.see("crashed")
    world.look()
    world.see("error", wait=30, retries=5)
    world.see("error", wait=30, retries=5)
    world.look()
    assert world.hook.events == ["crashed", "given_up"]
    assert world.hook.texts[-1].startswith("default was given up after 5 retries: Out of memory: failed")


def test_what_cannot_be_started_at_all_is_one_message(world):
    world.see("error")
    world.look()
    assert world.hook.events == ["given_up"]


def test_a_hang_is_told_as_one(world):
    world.see("crashed", failure=HANG)
    world.see("crashed", wait=5)
    world.look()
    assert world.hook.events == ["hung"]
    assert world.incident.failure_kind == "out_of_memory", "the latest"


def test_the_end_of_the_supervisor_is_no_end_and_no_second_beginning(world):
    world.see("crashed")
    world.see("stopping", wait=1)
    world.see("initial", wait=1)
    world.see("starting", wait=60)
    world.see("crashed", wait=1)
    world.look()
    assert world.hook.events == ["crashed"]


def test_a_person_who_stops_it_ends_the_incident_in_silence(world):
    world.see("crashed")
    world.look()
    LlamaServer.objects.update(desired_running=False)
    world.see("initial", wait=1)
    world.look(wait=1000)
    assert world.hook.events == ["crashed"]
    assert world.incident.ending == "stopped"


def test_a_person_who_stops_it_when_it_was_up_again_ends_it_with_the_good_news(world):
    world.see("crashed")
    world.see("ready", wait=5)
    LlamaServer.objects.update(desired_running=False)
    world.see("stopping", wait=10)
    world.look()
    world.look()
    assert world.hook.texts[-1] == "default is up again after 5 s."


def test_a_crash_that_only_the_history_has_seen_is_told(world):
    """The database was away for so long that the newest snapshot is ready again."""
    closed = RunClosed(at=STARTED - 8, exit=Exit(signal=9), failure=OUT_OF_MEMORY)
    world.see("ready", events=[closed], ready_at=STARTED - 3)
    world.look()
    assert world.hook.texts[0].startswith("default went down: Out of memory: failed to allocate")
    world.look(wait=57)
    assert world.hook.texts[-1] == "default is up again after 5 s."


def test_a_stop_that_was_asked_for_is_no_incident(world):
    closed = RunClosed(at=STARTED, exit=Exit(code=0), failure=None)
    world.see("starting", events=[closed])
    assert not Incident.objects.exists()


def test_a_death_that_nobody_saw_of_what_nobody_wants_is_no_incident(world):
    LlamaServer.objects.update(desired_running=False)
    closed = RunClosed(at=STARTED, exit=Exit(), failure=OUT_OF_MEMORY)
    world.see("initial", events=[closed])
    assert not Incident.objects.exists()


@pytest.mark.parametrize("source", ["row", "file"])
def test_how_long_ready_must_last_is_the_servers_own_setting(source, world, config_file):
    if source == "file":
        config_file.write_text('{"stable_after_ms": 5000}')
    else:
        LlamaServer.objects.update(stable_after_ms=5000)
    world.see("crashed")
    world.see("ready", wait=1)
    assert world.incident.closes_at == world.incident.recovered_at + timedelta(seconds=5)


def test_the_key_of_the_config_file_does_not_leave_the_house(world, config_file):
    config_file.write_text('{"llama_api_key": "sesame-open"}')
    world.see("crashed", detail="Refused: sesame-open.")
    assert "sesame" not in str(Delivery.objects.get().alert)


def test_a_second_open_incident_of_a_server_is_refused(world):
    world.see("crashed")
    with pytest.raises(IntegrityError), transaction.atomic():
        Incident.objects.create(server=world.server, opened_at=at(STARTED), worst="crashed")


def test_a_message_is_refused_a_second_time(world):
    world.see("crashed")
    first = Delivery.objects.get()
    for event in ("crashed", "hung"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Delivery.objects.create(channel=first.channel, incident=first.incident, event=event, alert={})


def test_a_mistake_in_here_does_not_cost_the_state(world, monkeypatch, caplog):
    monkeypatch.setattr(incidents.core, "follow", lambda *args, **kwargs: 1 / 0)
    world.see("crashed")
    world.server.refresh_from_db()
    assert world.server.state.status == "crashed"
    assert "the incident could not be followed" in caplog.text


def test_a_database_that_fails_in_here_fails_the_save_which_is_tried_again(world, monkeypatch):
    def away(*args, **kwargs):
        raise OperationalError("locked")

    monkeypatch.setattr(incidents.core, "follow", away)
    with pytest.raises(OperationalError):
        world.see("crashed")
    assert not LlamaServer.objects.filter(state__isnull=False).exists()


def test_while_all_is_well_following_costs_one_query(world, django_assert_num_queries):
    world.see("ready")
    with django_assert_num_queries(3):  # and a savepoint, and its end
        incidents.follow(world.server, change(status=Status.READY), now=STARTED)


# --- Whom to tell --------------------------------------------------------------------------------------


def test_a_channel_hears_only_what_it_wants(world):
    AlertChannel.objects.update(on_crashed=False, on_hung=False)
    world.see("crashed")
    world.see("ready", wait=1)
    world.look(wait=60)
    world.look()
    assert world.hook.events == ["recovered"]


def test_a_channel_hears_of_its_servers_only(world):
    other = make_server("other")
    AlertChannel.objects.get().servers.set([other])
    world.see("crashed")
    world.see("crashed", name="other")
    world.look()
    assert [post.json["server"] for post in world.hook.posts] == ["other"]


def test_a_channel_that_is_switched_off_hears_nothing(world):
    AlertChannel.objects.update(enabled=False)
    world.see("crashed")
    world.look()
    assert not Delivery.objects.exists()


def test_many_channels_hear_the_same_at_once(world):
    for number in range(6):
        make_channel(world.hook.url, f"more-{number}", servers=[world.server])
    world.see("crashed")
    for _ in range(3):
        world.look()
    assert world.hook.events == ["crashed"] * 7


# --- Again while it is down ----------------------------------------------------------------------------


def test_what_is_still_down_is_said_again_every_so_many_hours(world):
    AlertChannel.objects.update(resend_hours=2)
    world.see("crashed")
    world.look()
    for _ in range(8):  # 4 hours
        world.look(wait=HOUR / 2)
    assert world.hook.events == ["crashed", "still_down", "still_down"]
    assert world.hook.texts[1].startswith("default is still down, for 2 h now: Out of memory")
    assert world.hook.texts[2].startswith("default is still down, for 4 h now")
    world.see("ready", wait=1)
    world.look(wait=60)
    world.look(wait=10 * HOUR)
    assert world.hook.events[3:] == ["recovered"]


def test_after_a_long_silence_it_is_said_once_not_for_every_hour_missed(world):
    AlertChannel.objects.update(resend_hours=1)
    world.see("crashed")
    world.look()
    world.look(wait=20 * HOUR)
    world.look()
    assert world.hook.events == ["crashed", "still_down"]


def test_while_it_is_ready_and_waiting_nothing_is_said_again(world):
    AlertChannel.objects.update(resend_hours=1)
    LlamaServer.objects.update(stable_after_ms=10 * 3_600_000)
    world.see("crashed")
    world.look()
    world.see("ready", wait=1)
    world.look(wait=2 * HOUR)
    assert world.hook.events == ["crashed"]


def test_who_never_heard_that_it_is_down_is_not_told_that_it_still_is(world):
    world.see("crashed")
    world.look()
    make_channel(world.hook.url, "late", resend_hours=1)
    world.look(wait=5 * HOUR)
    assert world.hook.events == ["crashed"]


def test_what_could_not_be_said_yet_is_not_said_again(world):
    AlertChannel.objects.update(resend_hours=1)
    world.hook.answers = [500] * 100
    world.see("crashed")
    world.look()
    world.look(wait=3 * HOUR)
    assert Delivery.objects.count() == 1


def test_a_reminder_that_waits_is_dropped_when_it_is_up(world):
    AlertChannel.objects.update(resend_hours=1)
    world.see("crashed")
    world.look()
    world.hook.answers = [500] * 2
    world.look(wait=2 * HOUR)
    world.see("ready", wait=1)
    world.look(wait=60)
    world.look()
    assert [
        event for event in Delivery.objects.values_list("event", flat=True) if event == "still_down"
    ] == []
    assert world.hook.events[-1] == "recovered"


def test_it_is_not_called_down_after_it_was_called_up(world):
    """It closed between the look and the lock."""
    channel = AlertChannel.objects.get()
    world.see("crashed")
    Delivery.objects.update(state="sent")
    world.see("ready", wait=1)
    assert incidents._remind(channel, world.incident.pk, timedelta(0), world.clock.now + 9) == 0


def test_two_that_close_the_same_incident_tell_once(world):
    world.see("crashed")
    world.see("ready", wait=1)
    row = world.incident
    assert incidents.close_settled(world.clock.now + 60) == 1
    assert not incidents._end(row, incidents.Ending.RECOVERED, world.clock.now + 60)
    assert Delivery.objects.filter(event="recovered").count() == 1


# --- Trying again --------------------------------------------------------------------------------------


def test_what_failed_is_tried_again_after_a_minute(world, caplog):
    world.hook.answers = [500, 500]
    world.see("crashed")
    world.look()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.claimed_at) == ("pending", 1, None)
    assert delivery.last_error == "It answered 500 Internal Server Error."
    assert "Not sent: crashed of default to ops. It answered 500" in caplog.text
    assert "Next try in 1 min." in caplog.text
    world.look(wait=59)
    assert len(world.hook.posts) == 1
    world.look(wait=1)
    world.look(wait=119)
    assert len(world.hook.posts) == 2
    world.look(wait=1)
    delivery.refresh_from_db()
    assert (delivery.state, delivery.attempts, delivery.last_error) == ("sent", 3, "")
    assert delivery.sent_at == at(world.clock.now)
    assert len({post.headers[ID_HEADER] for post in world.hook.posts}) == 1
    assert "📣 [ALERTS] Sent: crashed of default to ops" in caplog.text


def test_after_a_day_it_is_given_up_and_kept_for_the_admin(world, caplog):
    world.hook.answers = [500] * 1000
    world.see("crashed")
    world.look()
    for _ in range(24 * 4):
        world.look(wait=HOUR / 4)
    delivery = Delivery.objects.get()
    assert delivery.state == "failed"
    assert delivery.last_error.startswith("It answered 500")
    assert 20 < delivery.attempts < 35
    assert "Gave up on 1 that could not be sent for a day" in caplog.text
    tries = len(world.hook.posts)
    world.look(wait=24 * HOUR)
    assert len(world.hook.posts) == tries


def test_nobody_reads_that_it_is_up_before_that_it_was_down(world):
    world.hook.answers = [500]
    world.see("crashed")
    world.look()
    LlamaServer.objects.update(stable_after_ms=1000)
    world.see("ready", wait=1)
    world.look(wait=2)
    assert Delivery.objects.filter(event="recovered").exists()
    world.look(wait=60)
    world.look()
    assert world.hook.events == ["crashed", "crashed", "recovered"]


def test_a_channel_that_fails_does_not_hold_up_another(world):
    make_channel("http://127.0.0.1:9/", "broken")
    world.see("crashed")
    world.look()
    assert world.hook.events == ["crashed"]


# --- Claims --------------------------------------------------------------------------------------------


def test_what_one_has_claimed_another_does_not_get(world):
    world.see("crashed")
    (mine,) = incidents.claim(STARTED, "one", limit=5)
    assert mine.attempts == 1
    assert incidents.claim(STARTED, "two", limit=5) == []
    assert incidents.claim(STARTED + 599, "two", limit=5) == []


def test_the_claim_of_one_who_died_expires(world):
    world.see("crashed")
    incidents.claim(STARTED, "one", limit=5)
    (taken,) = incidents.claim(STARTED + 601, "two", limit=5)
    assert taken.attempts == 2
    incidents.not_sent(taken, "one", "too late to say so", STARTED + 602)
    taken.refresh_from_db()
    assert (taken.claimed_by, taken.last_error) == ("two", "")


def test_what_was_claimed_between_the_look_and_the_claim_is_left(world, monkeypatch):
    world.see("crashed")
    real, looked = incidents._free, []

    def free(now):
        if looked:  # the second time: another one was quicker
            Delivery.objects.update(claimed_at=at(now), claimed_by="other")
        looked.append(now)
        return real(now)

    monkeypatch.setattr(incidents, "_free", free)
    assert incidents.claim(STARTED, "me", limit=5) == []
    assert Delivery.objects.get().attempts == 0


def test_a_claim_takes_no_more_than_asked_and_one_for_each_channel(world):
    make_server("other")
    for number in range(4):
        make_channel(world.hook.url, f"more-{number}")
    world.see("crashed")
    world.see("crashed", name="other")
    assert len(incidents.claim(STARTED, "me", limit=3)) == 3
    rest = incidents.claim(STARTED, "me", limit=10, busy=[world.channel.pk])
    assert len({delivery.channel_id for delivery in rest}) == len(rest)


def test_threads_that_claim_at_once_get_each_message_once(world):
    for number in range(30):
        make_channel(world.hook.url, f"more-{number}")
    world.see("crashed")
    together, claimed = threading.Barrier(4), []

    def work(name):
        together.wait()
        try:
            while mine := incidents.claim(STARTED, name, limit=2):
                claimed.extend(delivery.pk for delivery in mine)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[f"thread-{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted(Delivery.objects.values_list("pk", flat=True))
    assert len(claimed) == 31
    assert Delivery.objects.aggregate(most=Max("attempts"))["most"] == 1


# --- The sender ----------------------------------------------------------------------------------------


async def ended(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(sender, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(sender, "CHORES_SECONDS", 0.0)
    monkeypatch.setattr(sender, "LEAVE_SECONDS", 0.3)


async def test_it_sends_by_itself(quick, clock, hook):
    world = await db(World, clock, hook)
    task = asyncio.create_task(world.sender.run())
    await db(world.see, "crashed")
    await eventually(lambda: hook.posts)
    async with asyncio.timeout(5):
        while not await Delivery.objects.filter(state="sent").aexists():
            await asyncio.sleep(0.02)
    await ended(task)


async def test_an_address_that_hangs_holds_up_nothing(quick, hook, tmp_path):
    """Neither supervision, nor other channels, nor the end."""
    with web_server() as hanging:
        hanging.answers = [0] * 10
        await db(make_channel, hanging.url, "hangs")
        await db(make_channel, hook.url, "works")
        await db(make_server, port=free_port(), retry_backoff_ms=50)
        loop = asyncio.get_running_loop()
        slowest = 0.0

        async def beat():
            nonlocal slowest
            while True:
                before = loop.time()
                await asyncio.sleep(0.01)
                slowest = max(slowest, loop.time() - before - 0.01)

        await db(transport.check, "ntfy://warm.up/apprise")
        async with running(tmp_path) as runtime:
            await state_is("ready")
            beating = asyncio.create_task(beat())
            (watched,) = runtime.supervisor._watched.values()
            watched.supervisor._process.kill()
            await state_is("crashed")
            await state_is("ready")
            await eventually(lambda: hook.posts and hanging.posts)
            assert hook.events == ["crashed"]
            await asyncio.sleep(0.3)
            await ended(beating)
            began = loop.time()
        assert loop.time() - began < 5, "its shutdown waits for nobody"
        assert slowest < 0.5
        assert len(hanging.posts) == 1, "claimed once, still waiting"


async def test_what_is_on_its_way_at_the_end_is_waited_for_a_moment(quick, clock, hook):
    hook.answers = [0]
    world = await db(World, clock, hook)
    task = asyncio.create_task(world.sender.run())
    await db(world.see, "crashed")
    await eventually(lambda: hook.posts)
    asyncio.get_running_loop().call_later(0.1, hook.release.set)
    await ended(task)
    delivery = await Delivery.objects.aget()
    assert delivery.last_error.startswith("No connection")


async def test_what_does_not_arrive_before_the_end_is_left_for_another(quick, clock, hook):
    hook.answers = [0]
    world = await db(World, clock, hook)
    task = asyncio.create_task(world.sender.run())
    await db(world.see, "crashed")
    await eventually(lambda: hook.posts)
    await ended(task)
    delivery = await Delivery.objects.aget()
    assert (delivery.state, delivery.claimed_at) == ("pending", at(STARTED))


def test_a_database_that_is_away_is_told_once_and_nothing_is_sent_twice(world, monkeypatch, caplog):
    world.see("crashed")
    real = incidents.sent
    calls = []

    def away(*args):
        calls.append(args)
        if len(calls) < 3:
            raise OperationalError("locked")
        real(*args)

    monkeypatch.setattr(incidents, "sent", away)
    world.look()
    world.look()
    assert caplog.text.count("The database failed (locked)") == 1
    assert Delivery.objects.get().state == "sent"
    assert len(world.hook.posts) == 1


def test_a_mistake_of_ours_is_told_and_the_rest_goes_on(world, monkeypatch, caplog):
    monkeypatch.setattr(incidents, "remind", lambda now: 1 / 0)
    world.look()
    assert "This is a mistake in llamaproxy. Supervision goes on." in caplog.text


def test_a_mistake_while_sending_is_one_more_failed_try(world, caplog):
    def broken(*args):
        raise KeyError("no such thing")

    world.sender._send = broken
    world.see("crashed")
    world.look()
    assert Delivery.objects.get().last_error == "KeyError"
    assert "The alert is tried again." in caplog.text


def test_no_more_than_a_few_are_sent_at_once(world):
    for number in range(10):
        make_channel(world.hook.url, f"more-{number}")
    world.hook.answers = [0] * 10
    world.see("crashed")
    world.sender.look()
    world.sender.look()
    until(lambda: len(world.hook.posts) == sender.AT_ONCE)
    assert Delivery.objects.exclude(claimed_at=None).count() == sender.AT_ONCE


def test_the_console_and_the_errors_hold_no_secret(world, capsys):
    AlertChannel.objects.update(url="http://user:hunter22@127.0.0.1:9/top-secret")
    world.see("crashed")
    world.look()
    shown = "".join(capsys.readouterr()) + Delivery.objects.get().last_error
    assert "Connection refused" in shown
    assert "hunter22" not in shown
    assert "top-secret" not in shown
