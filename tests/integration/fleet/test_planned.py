"""Maintenance where servers are shown live: rows, what needs attention, events for programs."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from supervisor_app.core.status import LlamaStatus, Status
from supervisor_app.fleet import hub as hub_module
from supervisor_app.fleet.maintenance import begin, finish
from supervisor_app.fleet.models import LlamaServer, Maintenance
from supervisor_app.fleet.planned import KnownPlans, load_marks, planned_views
from supervisor_app.fleet.publish import ChannelPublisher
from tests.integration.building import JSON, db, make_ready_server, make_server, make_state, socket_to, until

pytestmark = pytest.mark.django_db(transaction=True)


def two_servers():
    make_ready_server("code")
    server = make_server("chat")
    make_state(server, "error", version=1)
    return server


def data_of(event):
    return json.loads(event)["data"]


async def test_an_open_overview_and_a_program_are_told_of_its_begin_and_end(monkeypatch):
    monkeypatch.setattr(hub_module, "RESYNC_SECONDS", 0.05)
    server = await db(two_servers)
    async with socket_to("/llamaproxws?view=rows") as page, socket_to(f"{JSON}&server=chat") as program:
        await until(page, 'id="attention-chat" data-version="1" data-tone="error"')
        assert data_of(await until(program, "chat"))["maintenance"] is None
        await db(lambda: begin(server, until=None))
        await until(page, "All is well but for 1 server in maintenance")
        assert data_of(await until(program, '"all": false'))["maintenance"]["until"] is None
        await db(finish, server)
        await until(page, 'id="attention-chat" data-version="1" data-tone="error"')
        await until(program, '"maintenance": null')


async def test_a_push_carries_what_the_last_heartbeat_has_seen_without_a_look_at_the_database():
    server, plans = await db(two_servers), KnownPlans()
    await db(lambda: begin(server, until=timezone.now() + timedelta(hours=1)))
    await db(plans.look)
    async with socket_to(f"{JSON}&server=chat") as program:
        await until(program, "chat")
        down = LlamaStatus(name="chat", status=Status.CRASHED, version=2)
        await ChannelPublisher(plans=plans).publish(down)
        assert data_of(await until(program, '"crashed"'))["maintenance"]["until"]


def test_maintenance_that_is_known_ends_by_itself():
    server, plans, now = two_servers(), KnownPlans(), timezone.now()
    begin(server, until=now + timedelta(hours=1))
    plans.look()
    assert plans.of("chat", now.timestamp() + 3599)
    assert plans.of("chat", now.timestamp() + 3601) is None
    assert plans.of("code", now.timestamp()) is None


def test_views_and_marks_name_the_maintenance_of_a_server_or_of_all():
    two_servers()
    begin(None, until=None)
    begin(LlamaServer.objects.get(name="chat"), until=None)
    numbers = {row.server and row.server.name: row.pk for row in Maintenance.objects.all()}
    known = {"chat": numbers["chat"], "code": numbers[None]}
    assert {view.status.name: view.plan.number for view in planned_views()} == known
    assert {name: mark[2] for name, mark in load_marks().items()} == known


@pytest.mark.parametrize(
    ("end", "said"),
    [(None, "Maintenance until it is ended"), (timedelta(hours=1), "Maintenance until <time")],
)
def test_a_row_carries_a_pill_and_needs_no_attention(client, end, said):
    begin(two_servers(), until=end and timezone.now() + end)
    page = client.get("/").content.decode()
    assert page.count(said) == 1
    assert 'id="attention-chat" data-version="1" hidden' in page
    assert page.count('class="legend"') == 1
