"""The part of the pages about requests in flight, and the button that cancels one."""

from __future__ import annotations

import html
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone

from supervisor_app.gateway.edge import sights
from supervisor_app.gateway.records.in_flight import InFlight, Phase, ServerCounts
from supervisor_app.traffic.models import CancelWish
from tests.integration.building import make_ready_server, make_server, make_state

pytestmark = pytest.mark.django_db

HTMX = {"HTTP_HX_REQUEST": "true"}
ALL, OF_SERVER = "/requests/in-flight", "/servers/default/requests/in-flight"


@pytest.fixture(autouse=True)
def flying():
    """Requests at a server that is ready, and at one that counts."""
    make_ready_server()
    make_state(make_server("coder"), "starting", detail="Loading the model: 43 %.", version=1)
    now = timezone.now().timestamp()
    requests = [
        InFlight(
            id="req_a_1",
            at=now - 83,
            phase=Phase.GENERATING,
            server="default",
            model="qwen3",
            key="chat",
            route="/v1/messages",
            tokens=812,
            tokens_per_second=41.3,
            client="10.0.0.7 curl/8",
        ),
        InFlight(id="req_a_2", at=now - 5, phase=Phase.LOADING, server="coder", model="<b>"),
    ]
    counts = {"default": ServerCounts(1, 0, 41.3), "coder": ServerCounts(0, 1)}
    sights.write("one", sights.encoded(counts), sights.encoded(requests), 5)


def words(answer):
    assert answer.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def test_a_request_in_flight_is_told_in_words(staff_client):
    shown = words(staff_client.get(OF_SERVER, **HTMX))
    assert "Generating 812 tokens qwen3 /v1/messages chat 10.0.0.7 curl/8 41/s 1 m 2" in shown
    assert "coder" not in shown


def test_the_wait_is_told_with_its_reason(staff_client):
    shown = words(staff_client.get(ALL, **HTMX))
    assert "1 request waits for coder . Loading the model: 43 %." in shown
    assert "And 3 more, of all servers" in shown


def test_names_of_clients_are_escaped(staff_client):
    assert "<b><" not in staff_client.get(ALL, **HTMX).content.decode()


def test_an_open_page_is_pushed_the_same_part(staff_client):
    shown = staff_client.get("/requests/").content.decode()
    assert f'data-pushed hx-get="{ALL}"' in shown
    assert "req_a_1" in shown


def test_the_part_alone_is_no_page(staff_client):
    assert staff_client.get(ALL)["Location"] == "/requests/"
    assert staff_client.get(OF_SERVER)["Location"] == "/servers/default/requests/"


def test_the_part_costs_few_queries(staff_client, django_assert_max_num_queries):
    with django_assert_max_num_queries(6):
        staff_client.get(OF_SERVER, **HTMX)


def cancel(client, name="req_a_1", server="", **headers):
    return client.post("/requests/cancel", {"request": name, "server": server}, **headers)


def test_the_button_cancels_and_the_part_shows_it(staff_client, staff):
    shown = words(cancel(staff_client, **HTMX))
    assert "Cancelled is about to end qwen3" in shown
    assert [wish.request_id for wish in CancelWish.objects.all()] == ["req_a_1"]
    assert LogEntry.objects.get().user == staff


def test_without_script_the_button_leads_back_to_its_page(staff_client):
    assert cancel(staff_client)["Location"] == "/requests/"
    assert cancel(staff_client, server="default")["Location"] == "/servers/default/requests/"
    assert cancel(staff_client, server="gone").status_code == 404


def test_a_request_that_has_ended_is_not_cancelled(staff_client):
    assert "That request has ended already." in words(cancel(staff_client, "req_a_9", **HTMX))
    assert not CancelWish.objects.exists()
    assert not LogEntry.objects.exists()


def test_only_staff_cancel(client, person_client, staff):
    for stranger in (client, person_client):
        assert cancel(stranger).status_code == 403
    forged = Client(enforce_csrf_checks=True)
    forged.force_login(staff)
    assert cancel(forged).status_code == 403
    assert not CancelWish.objects.exists()


def test_a_link_cancels_nothing(staff_client):
    assert staff_client.get("/requests/cancel").status_code == 405
