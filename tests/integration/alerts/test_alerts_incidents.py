"""Incidents on a real database: which there are, who hears of them, and who hears of them again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, OperationalError, transaction

from supervisor_app.alerts import deliveries, incidents
from supervisor_app.alerts.models import AlertChannel, Delivery, Incident
from supervisor_app.core.changes import RunClosed
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.sightings import Exit
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.fleet.models import LlamaServer
from tests.integration.alerting import HOUR, make_channel
from tests.integration.building import OUT_OF_MEMORY, STARTED, at, change, make_server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("loud")]

HANG = failure_of(FailureKind.HUNG, "it missed 3 health checks in a row")


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
    assert body["text"] == "default is up again after 2 m 10 s."
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


def test_a_server_that_cannot_be_started_at_all_is_one_message(world):
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


def test_a_person_who_stops_a_server_ends_its_incident_in_silence(world):
    world.see("crashed")
    world.look()
    LlamaServer.objects.update(desired_running=False)
    world.see("initial", wait=1)
    world.look(wait=1000)
    assert world.hook.events == ["crashed"]
    assert world.incident.ending == "stopped"


def test_a_person_who_stops_a_server_that_was_up_again_ends_it_with_the_good_news(world):
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
    with django_assert_num_queries(1):
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


def test_an_open_incident_is_told_again_every_so_many_hours(world):
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


def test_a_reminder_after_a_long_silence_is_said_once_not_for_every_hour_missed(world):
    AlertChannel.objects.update(resend_hours=1)
    world.see("crashed")
    world.look()
    world.look(wait=20 * HOUR)
    world.look()
    assert world.hook.events == ["crashed", "still_down"]


def test_nothing_is_said_again_while_a_server_is_ready_but_not_yet_stable(world):
    AlertChannel.objects.update(resend_hours=1)
    LlamaServer.objects.update(stable_after_ms=10 * 3_600_000)
    world.see("crashed")
    world.look()
    world.see("ready", wait=1)
    world.look(wait=2 * HOUR)
    assert world.hook.events == ["crashed"]


def test_a_channel_that_never_heard_of_an_incident_is_not_reminded_of_it(world):
    world.see("crashed")
    world.look()
    make_channel(world.hook.url, "late", resend_hours=1)
    world.look(wait=5 * HOUR)
    assert world.hook.events == ["crashed"]


def test_a_message_that_was_not_delivered_yet_is_not_said_again(world):
    AlertChannel.objects.update(resend_hours=1)
    world.hook.answers = [500] * 100
    world.see("crashed")
    world.look()
    world.look(wait=3 * HOUR)
    assert Delivery.objects.count() == 1


def test_a_reminder_that_waits_is_dropped_when_the_server_is_up(world):
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


def test_a_server_is_not_called_down_after_it_was_called_up(world):
    """It closed between the look and the lock."""
    channel = AlertChannel.objects.get()
    world.see("crashed")
    Delivery.objects.update(state="sent")
    world.see("ready", wait=1)
    assert deliveries.remind_in(channel, world.incident.pk, timedelta(0), world.clock.now + 9) == 0


def test_two_that_close_the_same_incident_tell_once(world):
    world.see("crashed")
    world.see("ready", wait=1)
    row = world.incident
    assert incidents.close_settled(world.clock.now + 60) == 1
    assert not incidents.end(row, incidents.IncidentEnd.RECOVERED, world.clock.now + 60)
    assert Delivery.objects.filter(event="recovered").count() == 1
