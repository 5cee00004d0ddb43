"""Alert channels in the admin: added, tried out, never shown again; incidents and deliveries to read."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client

from supervisor_app.alerts import incidents
from supervisor_app.alerts.models import AlertChannel, Delivery, Incident
from supervisor_app.core.status import Status
from supervisor_app.fleet.store import _save
from supervisor_app.roles.store_hooks import STORE_HOOKS
from tests.integration.admin_pages import page
from tests.integration.building import OUT_OF_MEMORY, change, make_server

pytestmark = pytest.mark.django_db

LIST = "/admin/alerts/alertchannel/"
ADD = f"{LIST}add/"
INCIDENTS = "/admin/alerts/incident/"
DELIVERIES = "/admin/alerts/delivery/"
SECRET = "hunter22-do-not-tell"
URL = f"https://user:{SECRET}@example.org/hook/{SECRET}"
FILLED = {
    "name": "ops",
    "url": URL,
    "enabled": "on",
    "on_crashed": "on",
    "on_recovered": "on",
    "resend_hours": "6",
}


@pytest.fixture
def channel():
    return AlertChannel.objects.create(name="ops", url=URL)


@pytest.fixture
def went_down(channel):
    """A server with an open incident and its message."""
    server = make_server()
    _save("local", change(status=Status.CRASHED, failure=OUT_OF_MEMORY, detail="D."), STORE_HOOKS.follow)
    return server


def change_url(channel):
    return f"{LIST}{channel.pk}/change/"


def allowed(*codenames):
    user = User.objects.create_user("clerk", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


# --- Channels ------------------------------------------------------------------------------------------


def test_the_form_has_an_example_for_every_kind(staff_client):
    shown = page(staff_client.get(ADD))
    for example in (
        "https://example.org/hook",
        "hooks.slack.com",
        "discord.com/api",
        "ntfy.sh",
        "mailtos://",
    ):
        assert example in shown
    assert "none yet" in shown
    assert "Send a test message" not in shown, "there is nothing saved yet"


def test_a_channel_is_added(staff_client):
    assert staff_client.post(ADD, FILLED).status_code == 302
    channel = AlertChannel.objects.get()
    assert (channel.url, channel.on_hung, channel.resend_hours) == (URL, False, 6)
    assert {event.value for event in channel.wants} == {"crashed", "recovered"}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "Where should it send?"),
        (f"nosuch://{SECRET}", "Apprise cannot read this nosuch:// address"),
        (f"example.org/{SECRET}", "An address begins with https://"),
    ],
)
def test_a_bad_address_is_refused_without_showing_it(url, said, staff_client):
    shown = page(staff_client.post(ADD, FILLED | {"url": url}))
    assert said in shown
    assert SECRET not in shown
    assert not AlertChannel.objects.exists()


def test_too_many_hours_are_refused(staff_client):
    shown = page(staff_client.post(ADD, FILLED | {"resend_hours": "999999"}))
    assert "At most 8784 hours." in shown


def test_the_address_is_never_shown_again(staff_client, channel, went_down):
    staff_client.post(change_url(channel), FILLED | {"url": "", "name": "new"})
    staff_client.post(change_url(channel), FILLED | {"url": URL})
    delivery, incident = Delivery.objects.get(), Incident.objects.get()
    for url in (
        LIST,
        change_url(channel),
        f"{LIST}{channel.pk}/history/",
        f"{LIST}{channel.pk}/delete/",
        DELIVERIES,
        f"{DELIVERIES}{delivery.pk}/change/",
        f"{INCIDENTS}{incident.pk}/change/",
        "/admin/",
    ):
        assert SECRET not in page(staff_client.get(url)), url
    assert "https://example.org/…" in page(staff_client.get(change_url(channel)))
    assert SECRET not in str(list(LogEntry.objects.values_list("change_message", "object_repr")))


def test_a_form_that_comes_back_does_not_show_the_address(staff_client, channel):
    shown = page(staff_client.post(change_url(channel), FILLED | {"name": ""}))
    assert SECRET not in shown


def test_an_empty_address_keeps_the_stored_one(staff_client, channel):
    staff_client.post(change_url(channel), FILLED | {"url": "", "name": "renamed"})
    channel.refresh_from_db()
    assert (channel.name, channel.url) == ("renamed", URL)


def test_a_new_address_replaces_the_old_one(staff_client, channel):
    staff_client.post(change_url(channel), FILLED | {"url": "https://other.example.org/"})
    channel.refresh_from_db()
    assert channel.url == "https://other.example.org/"


def test_the_list_tells_what_each_hears(staff_client, channel):
    other = AlertChannel.objects.create(
        name="quiet",
        url="ntfy://topic",
        on_crashed=False,
        on_hung=False,
        on_given_up=False,
        on_recovered=False,
        on_line=False,
    )
    other.servers.add(make_server("only-this"))
    shown = page(staff_client.get(LIST))
    for words in ("crashed, given up, hung, line, recovered", "nothing", "only-this", "all", "ntfy://…"):
        assert f">{words}<" in shown


def test_a_person_who_may_only_look_sees_no_address_and_no_button(channel):
    client = allowed("view_alertchannel")
    shown = page(client.get(change_url(channel)))
    assert SECRET not in shown
    assert "Send a test message" not in shown
    assert client.post(f"{LIST}{channel.pk}/test/").status_code == 403


def test_a_channel_is_deleted_with_what_was_sent_to_it(staff_client, channel, went_down):
    assert staff_client.post(f"{LIST}{channel.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not Delivery.objects.exists()
    assert Incident.objects.exists()


def test_a_server_is_deleted_with_its_incidents(staff_client, went_down):
    url = f"/admin/supervisor_app/llamaserver/{went_down.pk}/delete/"
    assert staff_client.post(url, {"post": "yes"}).status_code == 302
    assert not Incident.objects.exists()


# --- The test button -----------------------------------------------------------------------------------


def test_the_button_is_a_post_with_a_csrf_token(staff_client, channel):
    shown = page(staff_client.get(change_url(channel)))
    button = shown.split(f'action="{LIST}{channel.pk}/test/"')[1].split("</form>")[0]
    assert "csrfmiddlewaretoken" in button
    assert "<script" not in button
    assert "Send a test message" in button


def test_the_button_sends_and_says_so(staff_client, hook):
    channel = AlertChannel.objects.create(name="ops", url=hook.url)
    shown = page(staff_client.post(f"{LIST}{channel.pk}/test/", follow=True))
    assert "The test to ops was sent." in shown
    (post,) = hook.posts
    assert post.json["event"] == "test"
    assert not Delivery.objects.exists()


def test_the_button_says_the_real_error(staff_client, hook):
    hook.answers = [401]
    channel = AlertChannel.objects.create(name="ops", url=hook.url)
    shown = page(staff_client.post(f"{LIST}{channel.pk}/test/", follow=True))
    assert "The test to ops was not delivered. It answered 401 Unauthorized." in shown


def test_the_action_sends_to_all_that_are_chosen(staff_client, hook):
    good = AlertChannel.objects.create(name="good", url=hook.url)
    bad = AlertChannel.objects.create(name="bad", url="http://127.0.0.1:9/")
    chosen = {"action": "send_a_test", "_selected_action": [good.pk, bad.pk]}
    shown = page(staff_client.post(LIST, chosen, follow=True))
    assert "The test to good was sent." in shown
    assert "The test to bad was not delivered. No connection" in shown


def test_following_a_link_sends_nothing(staff_client, channel):
    assert staff_client.get(f"{LIST}{channel.pk}/test/").status_code == 405


def test_without_the_token_nothing_is_sent(staff, hook):
    channel = AlertChannel.objects.create(name="ops", url=hook.url)
    client = Client(enforce_csrf_checks=True)
    client.force_login(staff)
    assert client.post(f"{LIST}{channel.pk}/test/").status_code == 403
    assert not hook.posts


def test_a_channel_that_is_gone(staff_client):
    assert staff_client.post(f"{LIST}999/test/").status_code == 404


def test_without_staff_rights_there_is_no_button(person_client, channel):
    assert person_client.post(f"{LIST}{channel.pk}/test/").status_code == 302


# --- History -------------------------------------------------------------------------------------------


def test_an_incident_tells_what_why_and_who_was_told(staff_client, went_down):
    shown = page(staff_client.get(INCIDENTS)) + page(
        staff_client.get(f"{INCIDENTS}{Incident.objects.get().pk}/change/")
    )
    for words in ("Out of memory", "failed to allocate 5.1 GiB", "still down", "ops", "Pending"):
        assert words in shown


def test_an_incident_that_is_over_tells_how_it_ended(staff_client, went_down):
    ready = change(status=Status.READY, ready_at=1.0, started_at=1.0)
    _save("local", ready, STORE_HOOKS.follow)
    assert "ready, waiting whether it stays so" in page(staff_client.get(INCIDENTS))
    incidents.close_settled(Incident.objects.get().closes_at.timestamp())
    assert "recovered" in page(staff_client.get(INCIDENTS))


def test_an_incident_of_an_unknown_cause(staff_client):
    make_server()
    _save("local", change(status=Status.CRASHED), STORE_HOOKS.follow)
    pk = Incident.objects.get().pk
    assert "unknown" in page(staff_client.get(f"{INCIDENTS}{pk}/change/"))
    assert str(Incident.objects.get()) == "default: down"


def test_a_delivery_that_failed_is_shown_with_its_error(staff_client, went_down):
    Delivery.objects.update(state="failed", last_error="It answered 500.")
    shown = page(staff_client.get(DELIVERIES, {"state": "failed"}))
    assert "It answered 500." in shown
    shown = page(staff_client.get(f"{DELIVERIES}{Delivery.objects.get().pk}/change/"))
    assert "default is down: D." in shown
    assert str(Delivery.objects.get()) == "crashed to ops"
    assert str(Incident.objects.get()) == "default: Out of memory"


@pytest.mark.parametrize("url", [INCIDENTS, DELIVERIES])
def test_history_is_only_read(url, staff_client, went_down):
    assert staff_client.get(f"{url}add/").status_code == 403
    pk = (Incident if url == INCIDENTS else Delivery).objects.get().pk
    assert staff_client.post(f"{url}{pk}/delete/", {"post": "yes"}).status_code == 403
    assert "_save" not in page(staff_client.get(f"{url}{pk}/change/"))
