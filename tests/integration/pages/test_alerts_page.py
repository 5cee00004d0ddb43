"""The page of alerts: what is down first, then what was, by day, with who was told."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from supervisor_app.alerts.models import AlertChannel, Delivery, Incident
from tests.integration.building import OUT_OF_MEMORY, STARTED, at, make_ready_server, make_run

pytestmark = pytest.mark.django_db

DAY = 86400


@pytest.fixture
def channel():
    return AlertChannel.objects.create(name="ops-chat", url="https://example.org/hook")


def make_incident(server, began=STARTED, **fields):
    """An incident that ended after five minutes, unless `closed_at` is None."""
    fields = {
        "recovered_at": at(began + 240),
        "closed_at": at(began + 300),
        "ending": "recovered",
        "worst": "crashed",
        "failure": OUT_OF_MEMORY.as_json(),
        "failure_kind": "out_of_memory",
    } | fields
    return Incident.objects.create(server=server, opened_at=at(began), **fields)


def still_down(server, **fields):
    return make_incident(server, recovered_at=None, closed_at=None, ending="", **fields)


def tell(channel, incident, event="crashed", **fields):
    return Delivery.objects.create(channel=channel, incident=incident, event=event, alert={}, **fields)


def text_of(answer):
    """The words of the list, without its tags."""
    html = answer.content.decode()
    part = html[html.index('<div id="alerts"') :].partition("</main>")[0]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", part))


def test_a_visitor_sees_what_is_down_before_what_was(client):
    chat, embed = make_ready_server("chat"), make_ready_server("embed")
    make_incident(chat)
    still_down(embed, began=STARTED - DAY)
    text = text_of(client.get("/alerts/"))
    assert text.index("embed") < text.index("Before") < text.index("chat")
    assert "Out of memory" in text
    assert "down for 4 m 00 s" in text


def test_past_incidents_are_listed_by_day_the_newest_first(client, default):
    for began in (STARTED, STARTED + 3600, STARTED - 2 * DAY):
        make_incident(default, began)
    assert re.findall(r"\d+ June 2025", text_of(client.get("/alerts/"))) == ["15 June 2025", "13 June 2025"]


def test_staff_read_who_was_told_and_what_came_in_between(staff_client, default, channel):
    incident = still_down(default, worst="error")
    tell(channel, incident, state="sent")
    tell(channel, incident, "given_up", state="failed", last_error="The address answered 500.")
    text = text_of(staff_client.get("/alerts/"))
    assert "ops-chat 1 message sent" in text
    assert "ops-chat 1 message did not get through The address answered 500." in text
    assert "Given up: it waits for you." in text


def test_a_visitor_reads_that_somebody_was_told_but_not_whom(client, default, channel):
    other = AlertChannel.objects.create(name="pager", url="https://example.org/pager")
    incident = still_down(default)
    tell(channel, incident, state="sent")
    tell(other, incident, state="sent")
    text = text_of(client.get("/alerts/"))
    assert "2 messages sent" in text
    assert "ops-chat" not in text


def test_an_incident_leads_staff_to_the_run_that_died(staff_client, client, default):
    make_run(default, started_at=at(STARTED - 900), ended_at=at(STARTED - 500))
    died = make_run(default, started_at=at(STARTED - 400), ended_at=at(STARTED), failure_kind="exited")
    make_incident(default)
    link = f'href="/servers/default/runs/{died.pk}/"'
    assert link in staff_client.get("/alerts/").content.decode()
    assert link not in client.get("/alerts/").content.decode()


@pytest.mark.parametrize(
    ("query", "listed"), [("server=chat", 1), ("kind=hung", 1), ("server=chat&kind=hung", 0), ("server=x", 0)]
)
def test_filters_are_in_the_address(client, query, listed):
    make_incident(make_ready_server("chat"))
    make_incident(make_ready_server("embed"), failure_kind="hung")
    page = client.get(f"/alerts/?{query}").content.decode()
    assert page.count('<li id="incident-') == listed
    assert ("No incident is like this." in page) == (listed == 0)


def test_htmx_gets_the_list_alone_which_is_pushed_with_the_same_filter(client, default):
    page = client.get("/alerts/?server=default", headers={"HX-Request": "true"}).content.decode()
    assert page.startswith('<div id="alerts" data-pushed hx-get="/alerts/?server=default"')


def test_older_incidents_are_on_further_pages_which_do_not_change(client, default):
    for number in range(31):
        make_incident(default, STARTED - number * DAY)
    first = client.get("/alerts/?server=default").content.decode()
    assert 'href="/alerts/?server=default&amp;page=2"' in first
    second = client.get("/alerts/?server=default&page=2").content.decode()
    assert second.count('<li id="incident-') == 1
    assert "data-pushed" in first
    assert "data-pushed" not in second[second.index('id="alerts"') :]


@pytest.mark.parametrize("page", ["0", "9999", "x", "-1", "\0"])
def test_a_page_that_is_not_there_shows_the_nearest(client, default, page):
    make_incident(default)
    assert client.get("/alerts/", {"page": page}).content.decode().count('<li id="incident-') == 1


def test_nothing_down_and_no_channel_say_what_that_means(client, staff_client, default):
    text = text_of(client.get("/alerts/"))
    assert "Nothing is down." in text
    assert "Nobody is told when a server goes down" in text
    assert "/alerts/channels/add/" in staff_client.get("/alerts/").content.decode()


def test_the_number_of_queries_does_not_grow_with_incidents(staff_client, default, channel):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            staff_client.get("/alerts/")
        return len(captured)

    tell(channel, make_incident(default), state="sent")
    few = queries()
    for number in range(1, 25):
        tell(channel, make_incident(make_ready_server(f"s{number}"), STARTED - number * DAY), state="sent")
        make_run(default, ended_at=at(STARTED - number * DAY))
    assert queries() == few


def test_a_private_installation_shows_no_alerts_to_strangers(client, settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    assert client.get("/alerts/").status_code == 302
