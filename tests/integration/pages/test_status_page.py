"""The status page of strangers: off until servers are chosen, and nothing but what was chosen is told."""

from __future__ import annotations

from datetime import timedelta
from xml.etree import ElementTree

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from django.utils.translation import override

from supervisor_app.alerts.models import Incident, IncidentNote
from supervisor_app.alerts.retention import prune
from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.maintenance import begin
from supervisor_app.fleet.models import AuditEntry, LlamaServer, Span
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


@pytest.fixture
def operator():
    person = User.objects.create_user("mia-ops")
    person.groups.add(Group.objects.get(name="operator"))
    client = Client()
    client.force_login(person)
    return client


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


def noted(client, incident, words):
    return client.post(f"/servers/secret-host-gemma/incidents/{incident.pk}/note", {"note": words})


def test_an_operators_note_on_a_downtime_is_read_by_strangers_without_its_author(client, operator, chosen):
    incident = Incident.objects.get()
    assert noted(operator, incident, "A new card\r\nis on its <b>way").status_code == 302
    page = client.get("/status/").content.decode()
    assert "A new card\nis on its &lt;b&gt;way" in page
    assert "mia-ops" not in page
    own = operator.get("/servers/secret-host-gemma/availability").content.decode()
    assert "mia-ops, <time" in own
    assert "where this server is “Chat”" in own
    assert "A new card" not in client.get("/servers/secret-host-gemma/availability").content.decode()


def test_a_note_is_changed_and_removed_in_the_same_place_and_the_audit_keeps_both(operator, chosen):
    incident = Incident.objects.get()
    for words in ("first", "second"):
        noted(operator, incident, words)
    path = f"/servers/secret-host-gemma/incidents/{incident.pk}/unnote"
    answer = operator.post(path, headers={"HX-Request": "true"})
    assert answer["HX-Redirect"] == "/servers/secret-host-gemma/availability"
    assert operator.post(path).status_code == 302
    assert not IncidentNote.objects.exists()
    rows = [(row.before, row.after) for row in AuditEntry.objects.order_by("pk")]
    first, second = ({"note": words, "author": "mia-ops"} for words in ("first", "second"))
    assert rows == [(None, {"note": "first"}), (first, {"note": "second"}), (second, None)]


@pytest.mark.parametrize("words", ["", " \n ", "x" * 501, "a\0b"])
def test_a_note_without_words_or_with_too_many_is_refused(operator, chosen, words):
    assert noted(operator, Incident.objects.get(), words).status_code == 400
    assert not IncidentNote.objects.exists()


def test_a_note_of_five_hundred_characters_counts_its_lines_as_browsers_do(operator, chosen):
    assert noted(operator, Incident.objects.get(), "x\r\n" * 249 + "xx").status_code == 302
    assert len(IncidentNote.objects.get().text) == 500


def test_a_note_is_on_the_incidents_of_its_own_server(operator, chosen):
    path = f"/servers/unlisted/incidents/{Incident.objects.get().pk}/note"
    assert operator.post(path, {"note": "x"}).status_code == 404


def test_a_note_goes_with_its_incident(operator, chosen):
    incident, now = Incident.objects.get(), timezone.now()
    noted(operator, incident, "x")
    Incident.objects.update(closed_at=now - timedelta(days=91))
    while prune(now):
        pass
    assert not IncidentNote.objects.exists()


def test_a_downtime_that_goes_on_is_told_however_long(client, chosen):
    Incident.objects.update(opened_at=timezone.now() - timedelta(days=20), recovered_at=None)
    assert "still down" in client.get("/status/").content.decode()


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


def test_a_server_that_is_down_in_maintenance_is_no_incident_that_goes_on(client, operator, chosen):
    Incident.objects.update(recovered_at=None)
    begin(chosen, until=None)
    page = client.get("/status/").content.decode()
    assert ("in maintenance" in page, "still down" in page) == (True, False)
    own = operator.get("/servers/secret-host-gemma/availability").content.decode()
    assert "in maintenance" in own


def test_each_reader_of_one_look_reads_the_own_language(client, settings):
    settings.LLAMAPROXY_STATUS_SERVERS = ["chat"]
    make_state(make_server("chat"), "ready", seen_at=timezone.now() - timedelta(hours=1))
    states = []
    for language in ("de", "en"):  # Django itself has a German word for it
        with override(language):
            states.append(client.get("/status/").context["servers"][0].state)
    assert states == ["Unbekannt", "Unknown"]


def test_maintenance_without_an_end_says_that_somebody_ends_it(client, chosen):
    begin(chosen, until=None)
    page = client.get("/status/").content.decode()
    assert "Maintenance until it is ended" in page
    assert page.count('class="legend"') == 1


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
