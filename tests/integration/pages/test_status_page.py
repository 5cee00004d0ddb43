"""The status page of strangers: off until servers are chosen, and nothing but what was chosen is told."""

from __future__ import annotations

from datetime import timedelta
from xml.etree import ElementTree

import pytest
from django.core.cache import cache
from django.utils import timezone

from supervisor_app.alerts.models import Incident
from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.maintenance import begin
from supervisor_app.fleet.models import LlamaServer, Span
from tests.integration.building import OUT_OF_MEMORY, make_ready_server, make_server, make_state

pytestmark = pytest.mark.django_db

PATHS = ["/status/", "/status/Chat.svg"]


@pytest.fixture(autouse=True)
def fresh():
    cache.clear()


@pytest.fixture
def chosen(settings):
    """Two servers of which one is chosen, under a title of its own, and has been down an hour ago."""
    settings.LLAMAPROXY_STATUS_SERVERS = ["secret-host-gemma=Chat", "gone=Old"]
    make_ready_server("unlisted")
    server = make_ready_server("secret-host-gemma")
    now = timezone.now()
    LlamaServer.objects.filter(pk=server.pk).update(model_path="/models/secret-model.gguf")
    for began, ended, state in (
        (9, 2, SpanState.READY),
        (2, 1, SpanState.CRASHED),
        (1, None, SpanState.READY),
    ):
        Span.objects.create(
            server=server,
            state=state,
            down=state is SpanState.CRASHED,
            reason="secret-reason",
            began_at=now - timedelta(hours=began),
            ended_at=None if ended is None else now - timedelta(hours=ended),
        )
    times = {"opened_at": now - timedelta(hours=2), "recovered_at": now - timedelta(hours=1)}
    Incident.objects.create(server=server, worst="crashed", failure=OUT_OF_MEMORY.as_json(), **times)
    return server


@pytest.mark.parametrize("path", PATHS)
def test_there_is_no_page_and_no_badge_until_servers_are_chosen(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_sees_nothing_where_the_status_is_not_public(client, chosen, settings, path):
    settings.LLAMAPROXY_PUBLIC_STATUS = False
    answer = client.get(path)
    assert (answer.status_code, answer["Location"].startswith("/admin/login/")) == (302, True)


def test_the_page_tells_state_uptime_and_downtimes_and_nothing_else(client, chosen):
    page = client.get("/status/").content.decode()
    for said in ("Chat", "Operational", "88.88 %", "down for 1 h 00 m"):
        assert said in page
    for secret in ("secret", "unlisted", "Out of memory", "5.1 GiB", "Old"):
        assert secret not in page


def test_the_bar_has_ninety_days(client, chosen):
    (server,) = client.get("/status/").context["servers"]
    assert len(server.days) == 90
    assert {day.tone for day in server.days} >= {"none", "bad"} or "warn" in {day.tone for day in server.days}


def test_a_badge_is_svg_with_state_and_uptime(client, chosen):
    answer = client.get("/status/Chat.svg")
    assert answer["Content-Type"] == "image/svg+xml"
    assert ElementTree.fromstring(answer.content).attrib["aria-label"] == "Chat: Operational, 88.88 %"
    for title in ("secret-host-gemma", "unlisted", "Old"):
        assert client.get(f"/status/{title}.svg").status_code == 404


def test_maintenance_is_shown_without_its_note(client, chosen):
    begin(chosen, until=timezone.now() + timedelta(hours=1), words="secret-note", who="secret-person")
    page = client.get("/status/").content.decode()
    assert "Maintenance until" in " ".join(page.replace("</span>", "").split())
    assert "secret" not in page


@pytest.mark.parametrize(
    ("status", "fields", "word"),
    [
        ("error", {"failure": OUT_OF_MEMORY.as_json()}, "Down"),
        ("starting", {"failure": OUT_OF_MEMORY.as_json()}, "Down"),
        ("starting", {}, "Starting"),
        ("initial", {}, "Stopped"),
        ("initial", {"unloaded": True}, "Operational"),
        ("ready", {"seen_at": timezone.now() - timedelta(hours=1)}, "Unknown"),
    ],
)
def test_a_state_is_told_in_a_word(client, settings, status, fields, word):
    settings.LLAMAPROXY_STATUS_SERVERS = ["chat"]
    make_state(make_server("chat"), status, **fields)
    assert client.get("/status/").context["servers"][0].state == word


def test_all_who_ask_within_a_moment_get_one_look(client, chosen, django_assert_num_queries):
    client.get("/status/")
    with django_assert_num_queries(0):
        for path in PATHS:
            assert client.get(path).status_code == 200
