"""The audit: an act leaves a row with who, what, before and after, from where; a row stays as it is."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import transaction
from django.test import AsyncClient
from django.utils import timezone

from supervisor_app.core.server_config import Wish
from supervisor_app.fleet.audit import LEFT_OUT, Door, Origin, acting, note
from supervisor_app.fleet.audit_tables import UnchangeableError
from supervisor_app.fleet.commands import ask, server_named
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.file_servers import write_rows
from supervisor_app.fleet.models import AuditEntry
from supervisor_app.fleet.versions import configured, note_version
from supervisor_app.traffic.families import LABELS
from supervisor_app.traffic.issuing import add_key, lend, revoke_key
from supervisor_app.traffic.models import ApiKey
from tests.integration.building import make_server

pytestmark = pytest.mark.django_db


def the_act():
    return AuditEntry.objects.get()


def test_a_button_leaves_who_what_and_from_where(staff_client, staff):
    make_server("chat", desired_running=True)
    staff_client.post("/servers/chat/stop?now=1", REMOTE_ADDR="192.0.2.7")
    act = the_act()
    assert (act.actor, act.door, act.address) == (staff.username, Door.PAGE, "192.0.2.7")
    assert (act.action, act.subject) == ("stop", "server chat")
    assert act.before == {"desired_running": True}
    assert act.after == {"desired_running": False, "at_once": True}


def test_a_program_comes_through_the_api(staff_client, staff):
    make_server("chat")
    staff_client.post("/api/servers/chat/restart")
    assert (the_act().actor, the_act().door) == (staff.username, Door.API)


def test_the_command_comes_from_the_console():
    make_server("chat")
    call_command("llama", "start", "chat")
    assert (the_act().actor, the_act().door, the_act().action) == ("console", Door.CLI, "start")


def test_an_act_that_changes_nothing_leaves_no_row(staff_client):
    assert staff_client.post("/servers/nobody/stop").status_code == 404
    assert not AuditEntry.objects.exists()


def test_an_act_and_its_row_come_together_or_not_at_all(monkeypatch):
    server = make_server("chat", desired_running=True)
    monkeypatch.setattr(AuditEntry, "save", lambda *_args, **_options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        ask(Wish.STOP, server_named("chat"))
    server.refresh_from_db()
    assert server.desired_running


@pytest.mark.django_db(transaction=True)
async def test_the_origin_reaches_a_view_under_asgi(staff):
    client = AsyncClient()
    await client.aforce_login(staff)
    await sync_to_async(make_server)("chat")
    await client.post("/servers/chat/start")
    act = await AuditEntry.objects.aget()
    assert (act.actor, act.door) == (staff.username, Door.PAGE)


def test_a_configuration_leaves_what_has_changed_alone_and_no_secret():
    server = make_server("chat", args=["-c", "512", "--api-key", "quite-secret"])
    before = configured(server)
    server.args = ["-c", "1024", "--api-key", "quite-secret"]
    server.api_key = "quite-secret"
    server.save()
    note_version(server, before, "somebody")
    act = the_act()
    assert (act.action, act.subject) == ("configure", "server chat")
    assert set(act.before) == set(act.after) == {"args", "api_key"}
    assert act.after["args"][:2] == ["-c", "1024"]
    assert "quite-secret" not in str((act.before, act.after))


def test_a_deleted_server_leaves_what_it_was(staff_client):
    make_server("chat", port=9001)
    assert staff_client.post("/servers/chat/config/delete").status_code == 302
    assert (the_act().action, the_act().before["port"], the_act().after) == ("delete", 9001, None)


@pytest.mark.parametrize("by_action", [True, False])
def test_a_server_deleted_in_the_admin_leaves_a_row(admin_client, by_action):
    server, path = make_server("chat"), "/admin/supervisor_app/llamaserver/"
    if by_action:
        said = {"action": "delete_selected", "_selected_action": [server.pk], "post": "yes"}
        admin_client.post(path, said)
    else:
        admin_client.post(f"{path}{server.pk}/delete/", {"post": "yes"})
    assert (the_act().door, the_act().action, the_act().subject) == (Door.ADMIN, "delete", "server chat")


def test_the_file_is_named_where_it_takes_a_server_away():
    make_server("chat", file="servers.toml", node="here")
    write_rows("here", Overlay(source="config.toml"))
    assert (the_act().actor, the_act().door) == ("config.toml", Door.FILE)
    assert (the_act().action, the_act().subject) == ("delete", "server chat")


def test_keys_leave_rows_without_their_secrets():
    secrets = [add_key("ci", may_read=True), lend("ci", timezone.now())]
    revoke_key("ci")
    acts = list(AuditEntry.objects.all())[::-1]
    assert [(act.action, act.subject) for act in acts] == [
        ("add", "key ci"),
        ("lend", "key ci"),
        ("switch off", "key ci"),
    ]
    assert acts[2].before == {"enabled": True}
    assert not any(secret in str((act.before, act.after)) for secret in secrets for act in acts)


def test_keys_of_the_admin_leave_rows(admin_client):
    numbers = {
        "requests_per_minute": "0",
        "tokens_per_minute": "0",
        "max_concurrent": "0",
        "tokens_per_month": "0",
    }
    boxes = {"allowed_families": list(LABELS)}
    said = {"name": "ci", "enabled": "on", "allowed_models": "", **boxes, **numbers}
    admin_client.post("/admin/traffic/apikey/add/", said)
    path = f"/admin/traffic/apikey/{ApiKey.objects.get().pk}/"
    admin_client.post(f"{path}change/", {**said, "may_read": "on"})
    admin_client.post(f"{path}delete/", {"post": "yes"})
    acts = list(AuditEntry.objects.all())[::-1]
    assert [(act.action, act.subject) for act in acts] == [
        ("add", "key ci"),
        ("configure", "key ci"),
        ("delete", "key ci"),
    ]
    assert (acts[1].before, acts[1].after) == ({"may_read": False}, {"may_read": True})


def test_a_row_cannot_be_changed():
    note("try", "the audit")
    act = the_act()
    act.actor = "somebody else"
    with pytest.raises(UnchangeableError):
        act.save()
    with pytest.raises(UnchangeableError):
        AuditEntry.objects.update(actor="somebody else")
    with pytest.raises(UnchangeableError):
        AuditEntry.objects.bulk_update([act], ["actor"])
    assert the_act().actor == "console"


def test_a_row_is_bounded_and_without_secrets():
    with transaction.atomic(), acting(Origin(actor=lambda: "a" * 2000, door=Door.PAGE)):
        note(
            "say", "s" * 400, None, {"token": "hf_abcdefghijklmnop", "list": ["x" * 400] * 100, "n": {"a": 1}}
        )
    act = the_act()
    assert (len(act.actor), len(act.subject)) == (1000, 300)
    assert act.after == {"token": "[redacted]", "list": LEFT_OUT, "n": {"a": 1}}
