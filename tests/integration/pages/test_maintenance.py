"""Planned work, from pages, API and command line: who may, what is said where, what the audit keeps."""

from __future__ import annotations

import re
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.availability import availability_of, bars_of
from supervisor_app.fleet.maintenance import begin
from supervisor_app.fleet.models import AuditEntry, Maintenance, Span, SpanDay
from supervisor_app.fleet.retention import prune
from supervisor_app.fleet.uptime import Window
from tests.integration.building import make_server

pytestmark = pytest.mark.django_db

OF_CHAT = {"server": "chat", "span": "3600", "note": "new card"}


def text_of(answer):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


@pytest.fixture(autouse=True)
def chat():
    make_server("code")
    return make_server("chat")


def llama(*arguments):
    out = StringIO()
    call_command("llama", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def test_begin_and_end_are_for_staff(client, person_client):
    for each in (client, person_client):
        assert each.post("/maintenance/begin", OF_CHAT).status_code == 403
        assert each.post("/maintenance/end", OF_CHAT).status_code == 403
    assert not Maintenance.objects.exists()


@pytest.mark.parametrize("path", ["/", "/servers/chat/", "/alerts/", "/maintenance/?server=chat"])
def test_pages_say_that_alerts_are_muted_and_staff_why(client, staff_client, path):
    staff_client.post("/maintenance/begin", OF_CHAT)
    htmx = {"HX-Request": "true"} if "?" in path else {}
    assert re.search(
        r"Alerts are muted: maintenance until [\w ,:]+ UTC by boss, “new card”.",
        text_of(staff_client.get(path, headers=htmx)),
    )
    told = text_of(client.get(path, headers=htmx))
    assert "Alerts are muted: maintenance until" in told
    assert "boss" not in told
    assert "new card" not in told


def test_another_server_is_not_in_it_unless_all_are(staff_client):
    staff_client.post("/maintenance/begin", OF_CHAT)
    assert "Alerts are muted" not in text_of(staff_client.get("/servers/code/"))
    staff_client.post("/maintenance/begin", {"span": "open"})
    told = text_of(staff_client.get("/servers/code/"))
    assert "maintenance of all servers until somebody ends it" in told
    staff_client.post("/maintenance/end", {})
    assert "Alerts are muted" not in text_of(staff_client.get("/servers/code/"))


def test_each_begin_and_end_is_in_the_audit(staff_client):
    staff_client.post("/maintenance/begin", OF_CHAT)
    staff_client.post("/maintenance/end", OF_CHAT)
    staff_client.post("/maintenance/end", OF_CHAT)
    said = [(each.actor, each.action, each.subject) for each in AuditEntry.objects.all()]
    assert said == [("boss", "end maintenance", "server chat"), ("boss", "begin maintenance", "server chat")]


def test_a_moment_that_is_over_is_refused_and_nothing_that_was_typed_is_lost(staff_client):
    answer = staff_client.post("/maintenance/begin", {**OF_CHAT, "until": "2020-01-01T00:00"})
    assert answer.status_code == 400
    assert "That moment is over" in text_of(answer)
    assert not Maintenance.objects.exists()
    page = answer.content.decode()
    assert 'aria-invalid="true"' in page
    assert re.search(r"<details class=\"[^\"]*maintain\" open>", page)
    for typed in ("new card", "2020-01-01T00:00"):
        assert f'value="{typed}"' in page
    for chosen in ("chat", "3600"):
        assert f'<option value="{chosen}" selected>' in page


def test_a_program_begins_sees_and_ends_it(client, staff_client):
    assert client.post("/api/servers/chat/maintenance/on").status_code == 401
    begun = staff_client.post("/api/servers/chat/maintenance/on?until=2h&note=card").json()
    assert begun["maintenance"]["until"]
    seen = {each["name"]: each["maintenance"] for each in client.get("/api/servers/").json()["servers"]}
    assert (seen["chat"], seen["code"]) == (begun["maintenance"], None)
    assert client.get("/api/maintenance/").json()["maintenance"][0]["server"] == "chat"
    assert 'llamaproxy_server_maintenance{server="chat"} 1.0' in client.get("/metrics").content.decode()
    assert staff_client.post("/api/servers/chat/maintenance/off").json()["ended"] == 1
    assert client.get("/api/servers/chat/").json()["maintenance"] is None


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("servers/nobody/maintenance/on", 404),
        ("servers/chat/maintenance/off-and-on", 404),
        ("servers/chat/maintenance/on?until=soon", 400),
    ],
)
def test_a_program_is_told_its_mistake(staff_client, path, status):
    answer = staff_client.post(f"/api/{path}")
    assert (answer.status_code, "error" in answer.json()) == (status, True)


def test_all_servers_are_switched_by_a_program(staff_client):
    assert staff_client.post("/api/maintenance/on").json()["maintenance"]["all"] is True
    assert staff_client.post("/api/maintenance/off").json()["ended"] == 1


def test_a_shell_begins_lists_and_ends_it():
    assert "maintenance until somebody ends it" in llama("maintenance", "chat", "on", "--note", "new card")
    assert "all servers: maintenance until 2" in llama("maintenance", "on", "--all", "--until", "2h")
    assert "chat: until somebody ends it, by console: new card" in llama("maintenance")
    assert llama("maintenance", "chat", "off") == "chat: maintenance ended\n"
    assert llama("maintenance", "off", "--all") == "all servers: maintenance ended\n"
    assert llama("maintenance", "chat", "off") == "chat: was in no maintenance of its own\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("chat",), "Use: llama"),
        (("nobody", "on"), "no server 'nobody'"),
        (("chat", "on", "--until", "x"), "no moment"),
    ],
)
def test_a_shell_is_told_its_mistake(words, why):
    with pytest.raises(CommandError, match=why):
        llama("maintenance", *words)


def test_the_time_is_no_downtime_today_nor_once_days_are_summed(chat):
    now = timezone.now()
    hours = [now - timedelta(hours=hours) for hours in (60, 50, 40, 2)]
    for (began, ended), state in zip(
        [(hours[0], hours[1]), (hours[1], hours[2]), (hours[2], hours[3]), (hours[3], None)],
        [SpanState.READY, SpanState.CRASHED, SpanState.READY, SpanState.CRASHED],
        strict=True,
    ):
        down = state is SpanState.CRASHED
        Span.objects.create(server=chat, state=state, down=down, began_at=began, ended_at=ended)
    Maintenance.objects.create(server=chat, begun_at=hours[1], until=hours[2])
    begin(None, until=None)
    Maintenance.objects.filter(server=None).update(begun_at=hours[3])
    for _ in range(2):
        found = availability_of("chat", now)
        assert (found.bars[Window.MONTH].tally.down, found.bars[Window.DAY].tally.down) == (0, 0)
        prune(chat.node, now)
    assert SpanDay.objects.filter(worst="maintenance").exists()
    day = bars_of(["chat"], Window.DAY, now)["chat"]
    assert day.slices[-1].state is SpanState.MAINTENANCE


def test_the_bar_has_a_colour_and_a_word_for_it(client, chat):
    Span.objects.create(server=chat, state=SpanState.READY, began_at=timezone.now() - timedelta(hours=5))
    begin(chat, until=None)
    Maintenance.objects.update(begun_at=timezone.now() - timedelta(hours=3))
    page = client.get("/servers/chat/availability").content.decode()
    assert 'data-tone="plan"' in page
    assert "In maintenance" in page
