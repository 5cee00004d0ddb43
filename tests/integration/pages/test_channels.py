"""The pages of alert channels: an address goes in and never comes out, and a test says what came back."""

from __future__ import annotations

import re

import pytest

from supervisor_app.alerts.models import AlertChannel
from supervisor_app.fleet.models import AuditEntry, CrashMark
from tests.integration.building import make_server

pytestmark = pytest.mark.django_db

SECRET = "https://example.org/hook/secret-token"
SAID = {"name": "ops", "url": SECRET, "enabled": "on", "on_crashed": "on", "resend_hours": "0"}


def text_of(answer):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


@pytest.fixture
def channel():
    return AlertChannel.objects.create(name="ops", url=SECRET)


def test_without_channels_the_page_says_what_one_is(staff_client):
    assert "Nobody is told when a server goes down." in text_of(staff_client.get("/alerts/channels/"))


def test_a_channel_is_added_and_its_address_shown_nowhere(staff_client):
    page = staff_client.post("/alerts/channels/add/create", SAID, follow=True)
    assert "ops is saved. Send a test" in text_of(page)
    assert AlertChannel.objects.get().url == SECRET
    shown = [page, staff_client.get("/alerts/channels/"), staff_client.get("/alerts/")]
    assert not any("secret-token" in each.content.decode() for each in shown)
    assert "https://example.org/…" in text_of(shown[1])
    assert "secret-token" not in str(list(AuditEntry.objects.values()))


def test_an_address_that_is_left_empty_stays(staff_client, channel):
    assert "leave empty to keep it" not in text_of(staff_client.get("/alerts/channels/add/"))
    assert "leave empty to keep it" in text_of(staff_client.get(f"/alerts/channels/{channel.pk}/"))
    staff_client.post(f"/alerts/channels/{channel.pk}/change", {**SAID, "url": "", "name": "night"})
    channel.refresh_from_db()
    assert (channel.name, channel.url, channel.on_hung) == ("night", SECRET, False)


def test_a_mistake_saves_nothing_and_repeats_no_secret(staff_client):
    answer = staff_client.post("/alerts/channels/add/create", {**SAID, "url": "ftp://secret-token"})
    assert answer.status_code == 400
    assert "secret-token" not in answer.content.decode()
    assert not AlertChannel.objects.exists()


def test_a_test_says_what_came_back(staff_client, hook):
    row = AlertChannel.objects.create(name="ops", url=hook.url)
    page = staff_client.post(f"/alerts/channels/{row.pk}/test", follow=True)
    assert "The test to ops was sent." in text_of(page)
    AlertChannel.objects.update(url="http://127.0.0.1:1/hook")
    page = staff_client.post(f"/alerts/channels/{row.pk}/test", follow=True)
    assert "The test to ops was not delivered. No connection" in text_of(page)


def test_a_channel_is_switched_off_and_deleted(staff_client, channel):
    staff_client.post(f"/alerts/channels/{channel.pk}/switch")
    assert not AlertChannel.objects.get().enabled
    staff_client.post(f"/alerts/channels/{channel.pk}/switch", {"on": "1"})
    assert AlertChannel.objects.get().enabled
    staff_client.post(f"/alerts/channels/{channel.pk}/delete")
    assert not AlertChannel.objects.exists()


def test_muted_crashes_are_listed_and_told_again(client, staff_client):
    mark = CrashMark.objects.create(server=make_server("chat"), key="k", title="Out of memory", mute_above=3)
    assert "Muted crashes" in text_of(staff_client.get("/alerts/"))
    assert "Muted crashes" not in text_of(client.get("/alerts/"))
    staff_client.post(f"/alerts/mutes/{mark.pk}/unmute")
    mark.refresh_from_db()
    assert mark.mute_above is None
