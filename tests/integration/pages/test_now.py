"""The tab of a server that tells what it does now, and its figures as JSON."""

from __future__ import annotations

import html
import re
import time
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from supervisor_app.fleet import sample_record
from supervisor_app.fleet.models import NodeLease, Pulse, Sample, ServerState
from supervisor_app.fleet.sample_rules import HOUR, MINUTE
from supervisor_app.gateway.edge import sights
from supervisor_app.gateway.records.in_flight import InFlight, Phase, ServerCounts
from tests.integration.building import make_ready_server, make_server

pytestmark = pytest.mark.django_db

HTMX = {"HTTP_HX_REQUEST": "true"}
PAGE, PART, FIGURES = "/servers/default/", "/servers/default/now", "/api/servers/default/samples"
WORKS = {
    "id": 0,
    "task": 7,
    "works": True,
    "cached": 0,
    "processed": 500,
    "decoded": 12,
    "used": 512,
    "size": 2048,
}


@pytest.fixture
def server():
    return make_ready_server()


@pytest.fixture
def working(server):
    """Make a server that generates, with a request that waits and figures of the last seconds."""
    now = time.time()
    requests = [
        InFlight(
            id="a", at=now - 5, phase=Phase.GENERATING, server="default", model="qwen3", key="chat", tokens=40
        ),
        InFlight(id="b", at=now - 1, phase=Phase.QUEUED, server="default", key="job"),
        InFlight(id="c", at=now - 1, phase=Phase.GENERATING, server="coder", key="of another"),
    ]
    sights.write("one", sights.encoded({"default": ServerCounts(1, 1)}), sights.encoded(requests), 3)
    figures = {"generated": 41.2, "cpu": 1.5, "memory:host": float(2**30)}
    sample_record.write(server.node, {"default": [(int(now) - 3 + number, figures) for number in range(3)]})
    sample_record.write_pulses(server.node, {"default": ([WORKS], [(int(now), figures)])})
    return server


def words(answer):
    assert answer.status_code == 200
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def test_slots_queue_and_figures_are_told(working, staff_client):
    shown = words(staff_client.get(PART, **HTMX))
    assert "1 request waits for default. It works on as many requests as it takes." in shown
    assert "0 Generating 40 tokens chat qwen3 512 of 2048" in shown
    assert "Generated 41/s tokens" in shown
    assert "Memory 1.0 GiB" in shown
    assert "another" not in shown


def test_readers_see_state_and_figures_and_no_names_of_clients(working):
    shown = words(Client().get(PART, **HTMX))
    assert "0 Generating 40 tokens 512 of 2048" in shown
    assert "Generated 41/s tokens" in shown
    assert "chat" not in shown
    assert "qwen3" not in shown


def test_strangers_see_nothing_where_a_login_is_asked_for(working, settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    assert Client().get(PART, **HTMX).status_code == 286  # a part of an open page asks no more
    assert Client().get(PAGE).status_code == 302
    assert Client().get(FIGURES).status_code == 401


def test_the_page_shows_the_same_part_and_is_pushed_it(working, staff_client):
    shown = staff_client.get(PAGE).content.decode()
    assert f'data-pushed hx-get="{PART}"' in shown
    assert "40 tokens" in shown
    assert 'id="live-charts"' in shown


def test_the_part_alone_is_no_page(server, staff_client):
    assert staff_client.get(PART)["Location"] == PAGE
    assert staff_client.get("/servers/nobody/now", **HTMX).status_code == 404


def test_slots_that_nobody_has_seen_for_long_work_no_more(working, staff_client):
    Pulse.objects.update(seen_at=timezone.now() - timedelta(minutes=1))
    sights.withdraw("one")
    assert "0 Idle 512 of 2048" in words(staff_client.get(PART, **HTMX))


def test_a_server_that_was_never_asked_says_so(server, staff_client):
    shown = words(staff_client.get(PART, **HTMX))
    assert "Nothing has been asked of it yet" in shown
    assert "There are no figures yet" in shown


def test_figures_that_are_not_of_now_say_when_they_were(server, staff_client):
    now = int(time.time())
    sample_record.write(server.node, {"default": [(now - 200, {"cpu": 1.5})]})
    shown = words(staff_client.get(PART, **HTMX))
    assert re.search(r"Last figures: .* UTC CPU 1.5 cores", shown)
    sample_record.write(server.node, {"default": [(now - 20, {"cpu": 1.2})]})
    shown = words(staff_client.get(PART, **HTMX))
    assert "CPU 1.2 cores" in shown
    assert "Last figures" not in shown


def test_a_server_that_finishes_its_requests_before_it_stops_shows_them(working, staff_client):
    ServerState.objects.update(status="stopping", draining=True)
    shown = words(staff_client.get(PART, **HTMX))
    assert "0 Generating 40 tokens chat qwen3" in shown
    assert "It does not run" not in shown


def test_a_server_that_does_not_run_shows_its_last_figures(working, staff_client):
    ServerState.objects.update(status="initial")
    Sample.objects.create(server=working, step=MINUTE, at=1_800_000_000, figures={"cpu": [0.5, 2.0]})
    shown = words(staff_client.get(PART, **HTMX))
    assert "It does not run. Its last figures: 15 Jan 2027, 08:00:00 UTC CPU 0.5 cores" in shown
    assert "512 of 2048" not in shown


def test_a_server_without_figures_says_why(staff_client):
    make_server()
    assert "It does not run, and there are no figures of it" in words(staff_client.get(PART, **HTMX))


def test_the_page_costs_no_more_queries_the_more_there_is_to_tell(working, staff_client):
    def asked():
        with CaptureQueriesContext(connection) as queries:
            staff_client.get(PAGE)
        return len(queries)

    asked()  # which logs in
    few, now = asked(), int(time.time())
    sample_record.write(working.node, {"default": [(now - 3000 + n, {"cpu": 1.0}) for n in range(600)]})
    rows = [(now // 60 * 60 - 60 * number) for number in range(60)]
    Sample.objects.bulk_create(
        Sample(server=working, step=MINUTE, at=at, figures={"cpu": [1.0, 2.0]}) for at in rows
    )
    assert asked() <= few


# --- Day and year --------------------------------------------------------------------------------------


def test_the_day_is_drawn_by_the_server_with_its_words(server, staff_client):
    now = int(time.time())
    rows = [
        Sample(server=server, step=MINUTE, at=now // 60 * 60 - 60 * n, figures={"cpu": [1.0, 3.0]})
        for n in range(1, 40)
    ]
    Sample.objects.bulk_create(rows)
    shown = staff_client.get(PAGE).content.decode()
    assert 'aria-label="CPU. cores: mean 1.0, from 1.0 to 3.0."' in shown
    assert "Last day" in shown


def test_the_year_is_a_link_away(server, staff_client):
    now = int(time.time())
    Sample.objects.create(
        server=server, step=HOUR, at=now // HOUR * HOUR - HOUR, figures={"memory:GPU-0": [2**30, 2**31]}
    )
    devices = {
        "devices": [{"id": "GPU-0", "name": "GeForce", "total": 9, "free": 1, "ours": 8, "note": ""}],
        "problems": [],
    }
    NodeLease.objects.create(
        node=server.node, holder="1 0 x", token="t", renewed_at=timezone.now(), devices=devices
    )
    assert "?span=year#charts" in staff_client.get(PAGE).content.decode()
    shown = words(staff_client.get(f"{PAGE}?span=year"))
    assert "Last year" in shown
    assert "Memory, GeForce" in shown


# --- JSON ----------------------------------------------------------------------------------------------


def test_programs_get_the_seconds_after_a_moment(working):
    told = Client().get(FIGURES).json()
    assert (told["server"], told["span"], told["step"]) == ("default", "hour", 1)
    assert told["figures"]["t"] == [0, 1, 2, 3]
    assert told["figures"]["generated"] == [41.2] * 4
    later = Client().get(f"{FIGURES}?since={told['at'] + 2}").json()
    assert later["at"] == told["at"] + 3
    assert Client().get(f"{FIGURES}?since={told['at'] + 3}").json()["figures"] == {}


def test_programs_get_minutes_and_hours_as_mean_and_most(server):
    at = int(time.time()) // HOUR * HOUR - HOUR
    for step in (MINUTE, HOUR):
        Sample.objects.create(server=server, step=step, at=at, figures={"cpu": [0.5, 2.0]})
    for span in ("day", "year"):
        told = Client().get(f"{FIGURES}?span={span}").json()
        assert told["points"] == [{"at": at, "figures": {"cpu": [0.5, 2.0]}}]


@pytest.mark.parametrize(
    ("query", "code"),
    [("?span=week", "bad_span"), ("?since=yesterday", "bad_since"), ("?since=9999999999999", "bad_since")],
)
def test_bad_questions_are_told_what_is_wrong(server, query, code):
    answer = Client().get(f"{FIGURES}{query}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)


def test_a_server_that_does_not_exist_has_no_figures(server):
    assert Client().get("/api/servers/nobody/samples").status_code == 404
