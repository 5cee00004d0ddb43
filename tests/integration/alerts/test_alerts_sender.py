"""Messages are claimed, sent and tried again, each once, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest
from django.db import OperationalError, connection
from django.db.models import Max

from supervisor_app.alerts import deliveries, sender, transport
from supervisor_app.alerts.models import AlertChannel, Delivery
from supervisor_app.alerts.transport import ID_HEADER
from supervisor_app.fleet.models import LlamaServer, ServerState
from tests.deadline import DEADLINE
from tests.integration.alerting import HOUR, World, make_channel
from tests.integration.building import STARTED, at, db, eventually, make_server
from tests.integration.receiving import until, web_server
from tests.integration.roles.test_runtime import running, state_is
from tests.ports import free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("loud")]


# --- Trying again --------------------------------------------------------------------------------------


def test_a_message_that_failed_is_tried_again_after_a_minute(world, caplog):
    world.hook.answers = [500, 500]
    world.see("crashed")
    world.look()
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts, delivery.claimed_at) == ("pending", 1, None)
    assert delivery.last_error == "It answered 500 Internal Server Error."
    assert "Not sent: crashed of default to ops. It answered 500" in caplog.text
    assert "Next try in 1 m." in caplog.text
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


def test_a_message_is_given_up_after_a_day_and_kept_for_the_admin(world, caplog):
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


def test_a_channel_hears_that_a_server_was_down_before_that_the_server_is_up(world):
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


def test_a_message_that_one_sender_has_claimed_is_not_anothers(world):
    world.see("crashed")
    (mine,) = deliveries.claim(STARTED, "one", limit=5)
    assert mine.attempts == 1
    assert deliveries.claim(STARTED, "two", limit=5) == []
    assert deliveries.claim(STARTED + 599, "two", limit=5) == []


def test_the_claim_of_one_who_died_expires(world):
    world.see("crashed")
    deliveries.claim(STARTED, "one", limit=5)
    (taken,) = deliveries.claim(STARTED + 601, "two", limit=5)
    assert taken.attempts == 2
    deliveries.not_sent(taken, "one", "too late to say so", STARTED + 602)
    taken.refresh_from_db()
    assert (taken.claimed_by, taken.last_error) == ("two", "")


def test_a_message_claimed_between_the_look_and_the_claim_is_left(world, monkeypatch):
    world.see("crashed")
    real, looked = deliveries.free, []

    def free(now):
        if looked:  # the second time: another one was quicker
            Delivery.objects.update(claimed_at=at(now), claimed_by="other")
        looked.append(now)
        return real(now)

    monkeypatch.setattr(deliveries, "free", free)
    assert deliveries.claim(STARTED, "me", limit=5) == []
    assert Delivery.objects.get().attempts == 0


def test_a_claim_takes_no_more_than_asked_and_one_for_each_channel(world):
    make_server("other")
    for number in range(4):
        make_channel(world.hook.url, f"more-{number}")
    world.see("crashed")
    world.see("crashed", name="other")
    assert len(deliveries.claim(STARTED, "me", limit=3)) == 3
    rest = deliveries.claim(STARTED, "me", limit=10, busy=[world.channel.pk])
    assert len({delivery.channel_id for delivery in rest}) == len(rest)


def test_threads_that_claim_at_once_get_each_message_once(world):
    for number in range(30):
        make_channel(world.hook.url, f"more-{number}")
    world.see("crashed")
    together, claimed = threading.Barrier(4), []

    def work(name):
        together.wait()
        try:
            while mine := deliveries.claim(STARTED, name, limit=2):
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


async def test_the_sender_sends_by_itself(quick, clock, hook):
    world = await db(World, clock, hook)
    task = asyncio.create_task(world.sender.run())
    await db(world.see, "crashed")
    await eventually(lambda: hook.posts)
    async with asyncio.timeout(DEADLINE):
        while not await Delivery.objects.filter(state="sent").aexists():
            await asyncio.sleep(0.02)
    await ended(task)


async def test_an_address_that_hangs_holds_up_nothing(quick, hook, tmp_path):
    """Neither supervision, nor other channels, nor the end."""
    with web_server() as hanging:
        hanging.answers = [0] * 10
        await db(make_channel, hanging.url, "hangs")
        await db(make_channel, hook.url, "works")
        await db(make_server, port=free_port(), retry_backoff_ms=1000)  # long enough to be seen
        loop, late = asyncio.get_running_loop(), [0.0]

        async def beat():
            while True:
                before = loop.time()
                await asyncio.sleep(0.01)
                late.append(loop.time() - before - 0.01)

        await db(transport.check, "ntfy://warm.up/apprise")
        async with running(tmp_path):
            await state_is("ready")
            beating = asyncio.create_task(beat())
            os.kill((await ServerState.objects.aget()).pid, signal.SIGKILL)
            await state_is("crashed")
            await state_is("ready")
            await eventually(lambda: hook.posts and hanging.posts)
            assert hook.events == ["crashed"]
            await asyncio.sleep(0.3)
            await ended(beating)
            began = loop.time()
        assert loop.time() - began < 5, "its shutdown waits for nobody"
        assert max(late) < transport.ANSWER_SECONDS / 2, "else it waited for the answer that does not come"
        assert len(hanging.posts) == 1, "claimed once, still waiting"


async def test_a_message_on_its_way_at_the_end_is_waited_for_a_moment(quick, clock, hook):
    hook.answers = [0]
    world = await db(World, clock, hook)
    task = asyncio.create_task(world.sender.run())
    await db(world.see, "crashed")
    await eventually(lambda: hook.posts)
    asyncio.get_running_loop().call_later(0.1, hook.release.set)
    await ended(task)
    delivery = await Delivery.objects.aget()
    assert delivery.last_error.startswith("No connection")


async def test_a_message_that_does_not_arrive_before_the_end_is_left_for_another(quick, clock, hook):
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
    real = deliveries.sent
    calls = []

    def away(*args):
        calls.append(args)
        if len(calls) < 3:
            raise OperationalError("locked")
        real(*args)

    monkeypatch.setattr(deliveries, "sent", away)
    world.look()
    world.look()
    assert caplog.text.count("The database failed (locked)") == 1
    assert Delivery.objects.get().state == "sent"
    assert len(world.hook.posts) == 1


def test_a_mistake_of_ours_is_told_and_the_rest_goes_on(world, monkeypatch, caplog):
    monkeypatch.setattr(deliveries, "remind", lambda now: 1 / 0)
    world.see("crashed")
    world.look()
    assert "This is a mistake in llamaproxy. Supervision goes on." in caplog.text


def test_a_mistake_while_sending_is_one_more_failed_try(world, caplog):
    def broken(*args):
        raise KeyError("no such thing")

    world.sender = sender.AlertSender(node="local", send=broken, clock=world.clock)
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


def test_nothing_is_looked_for_while_nothing_is_open_to_be_sent_or_lost(world, monkeypatch):
    looks = []
    monkeypatch.setattr(deliveries, "remind", looks.append)
    world.look()
    assert looks == []
    world.see("crashed")
    world.look()
    assert len(looks) == 1
