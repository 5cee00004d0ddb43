"""Each address and command that changes something leaves a row in the audit, or says here why it does not."""

from __future__ import annotations

import re

import pytest
from django.core.management import call_command, load_command_class
from django.urls import reverse

from supervisor_app.alerts.models import AlertChannel, Incident, IncidentNote, LineWatch
from supervisor_app.alerts.watching import add_watch
from supervisor_app.fleet.models import AuditEntry, ConfigVersion, CrashMark
from supervisor_app.modelfiles.models import Download, ModelFile
from supervisor_app.traffic.models import QuarantinedRequest
from supervisor_app.urls import urlpatterns
from supervisor_app.web.rights import declared_by
from tests.integration.building import STARTED, at, make_key, make_run, make_server, make_state

pytestmark = pytest.mark.django_db

FORM = {"name": "new", "model_path": "/m.gguf", "act": "apply", "port": "9001"}
POSTS = {
    "control": ({"wish": "stop"}, {}),
    "rollback": ({}, {}),
    "change-config": ({}, {"act": "apply", "model_path": "/other.gguf", "port": "8134", "host": "localhost"}),
    "restore-config": ({"number": 1}, {}),
    "delete-server": ({}, {}),
    "create-server": ({}, FORM),
    "watch": ({}, {"name": "slow", "pattern": "slow"}),
    "unwatch": ({"number": "watch"}, {}),
    "mark-crash": ({"number": "run"}, {"do": "mute", "above": "3"}),
    "release": ({"number": "quarantined"}, {}),
    "begin-maintenance": ({}, {"server": "chat", "span": "3600"}),
    "end-maintenance": ({}, {"server": "chat"}),
    "unmute": ({"number": "mark"}, {}),
    "note-incident": ({"number": "incident"}, {"note": "a new card"}),
    "unnote-incident": ({"number": "incident"}, {}),
    "create-channel": ({}, {"name": "pager", "url": "https://example.org/hook", "resend_hours": "0"}),
    "change-channel": ({"number": "channel"}, {"name": "pager", "resend_hours": "1"}),
    "test-channel": ({"number": "channel"}, {}),
    "switch-channel": ({"number": "channel"}, {}),
    "delete-channel": ({"number": "channel"}, {}),
    "create-key": ({}, {"name": "ci", "allowed_families": "chat"}),
    "change-key": ({"number": "key"}, {"note": "new", "allowed_families": "chat"}),
    "rotate-key": ({"number": "key"}, {"begins": "lp-chat", "span": "0"}),
    "switch-key": ({"number": "key"}, {}),
    "delete-key": ({"number": "key"}, {}),
    "create-user": ({}, {"name": "eve", "role": "viewer"}),
    "change-role": ({"number": "person"}, {"role": "viewer"}),
    "switch-user": ({"number": "person"}, {}),
    "new-link": ({"number": "person"}, {}),
    "download": ({}, {"node": "here", "repository": "ggml-org/tiny", "label": "Q8_0"}),
    "change-download": ({"number": "download", "wish": "pause"}, {}),
    "delete-model": ({"number": "model"}, {}),
    "playground-key": ({}, {}),
    "api-control": ({"wish": "start"}, {}),
    "api-rollback": ({}, {}),
    "api-server-maintenance": ({"switch": "on"}, {}),
    "api-all-maintenance": ({"switch": "on"}, {}),
}
"""Address by its name: words of the path, and what is posted. A word in `made` is the number of that row."""
FORMS = {"change-config": "/servers/chat/config/", "create-server": "/add-server/"}
EXEMPT = {
    "preview-config": "changes nothing: shows what a form would change",
    "preview-added": "changes nothing: shows what a form would launch",
    "cancel": "needs a request in flight: test_cancelling.py sees its row",
    "choose-status-servers": "names a server by its number: test_status_servers.py sees its row",
    "login-link": "works once: test_users.py sees the row of the login",
    "set-password": "needs a password that is good: test_users.py sees its row",
}
COMMANDS = {
    "start": ("chat",),
    "stop": ("chat",),
    "restart": ("chat",),
    "rollback": ("chat",),
    "maintenance": ("chat", "on"),
    "key": ("add", "ci"),
}
SHOWS = {"status", "logs", "config", "import", "devices", "footprint", "models", "report"}
"""Commands that change nothing."""
ELSEWHERE = {"pull": "asks the hub: test_downloads.py sees that `ask_download` leaves a row"}


def changes_something(route):
    """Tell whether an address takes POST: what declares nothing is Django's own, and only leads elsewhere."""
    declared = declared_by(route.callback)
    return declared is not None and "POST" in declared.methods


CHANGES = [route.name or str(route.pattern) for route in urlpatterns if changes_something(route)]


@pytest.fixture
def made(staff, person, monkeypatch):
    """Numbers of rows that can be acted on."""
    monkeypatch.setattr("supervisor_app.pages.downloads.nodes", lambda: ["here"])
    monkeypatch.setattr("supervisor_app.fleet.commands.is_supervised", lambda node: True)
    server = make_server("chat", model_path="/m.gguf")
    make_state(server, "crashed")
    run = make_run(
        server,
        ready_at=at(STARTED + 1),
        failure_kind="out_of_memory",
        launch={"model_path": "/a.gguf", "port": 8134},
    )
    ConfigVersion.objects.create(server=server, number=1, values={"model_path": "/first.gguf"})
    watch = LineWatch(name="slow", pattern="slow", server=server)
    add_watch(watch, staff)
    key = make_key("chat")
    quarantined = QuarantinedRequest.objects.create(
        server="chat", body_hash="0" * 64, incident="1", reason="", at=at(STARTED), until=at(STARTED + 3600)
    )
    download = Download.objects.create(node="here", repository="a/b", label="Q8_0", asked_at=at(STARTED))
    model = ModelFile.objects.create(
        node="here", path="/a.gguf", name="a", modified_at=at(STARTED), size=1, mark="m"
    )
    channel = AlertChannel.objects.create(name="ops", url="https://127.0.0.1:1/hook")
    mark = CrashMark.objects.create(server=server, key="k", title="Out of memory", mute_above=3)
    incident = Incident.objects.create(server=server, opened_at=at(STARTED), worst="crashed")
    IncidentNote.objects.create(incident=incident, text="we are on it")
    rows = {
        "channel": channel,
        "incident": incident,
        "mark": mark,
        "run": run,
        "watch": watch,
        "key": key,
        "person": person,
        "quarantined": quarantined,
        "download": download,
        "model": model,
    }
    return {name: row.pk for name, row in rows.items()}


def typed_into(client, path, posted):
    """Return what a browser posts that has changed some fields of the form of a page."""
    context = client.get(path).context
    shown = {field.html_name: field.value() for field in context["form"]}
    kept = {
        name: value for name, value in shown.items() if value not in (None, "", [], {}) and value is not False
    }
    return {"version": context.get("version", ""), **kept, **posted}


def test_the_list_of_what_changes_something_is_whole():
    assert len(CHANGES) > 20
    assert set(CHANGES) - POSTS.keys() - EXEMPT.keys() == set()


@pytest.mark.parametrize("name", POSTS)
def test_an_act_by_http_leaves_a_row(staff_client, made, name):
    words, posted = POSTS[name]
    route = next(each for each in urlpatterns if each.name == name)
    kwargs = {word: made.get(value, value) for word, value in words.items()}
    if "<name:name>" in str(route.pattern):
        kwargs["name"] = "chat"
    if name == "end-maintenance":
        staff_client.post("/maintenance/begin", POSTS["begin-maintenance"][1])
    if name in FORMS:
        posted = typed_into(staff_client, FORMS[name], posted)
    before = AuditEntry.objects.count()
    answer = staff_client.post(reverse(name, kwargs=kwargs), posted)
    assert answer.status_code < 400, answer.content.decode()
    assert AuditEntry.objects.count() > before
    assert AuditEntry.objects.first().actor == "boss"


def test_the_list_of_commands_is_whole():
    parser = load_command_class("supervisor_app.roles", "llama").create_parser("manage.py", "llama")
    command = next(action for action in parser._actions if action.dest == "command")
    assert set(command.choices) == COMMANDS.keys() | SHOWS | ELSEWHERE.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_act_by_a_command_leaves_a_row(made, command):
    before = AuditEntry.objects.count()
    call_command("llama", command, *COMMANDS[command])
    assert AuditEntry.objects.count() > before
    assert AuditEntry.objects.first().actor == "console"


CHANNEL = {"name": "ops", "url": "https://example.org/secret-hook", "resend_hours": "0"}


def test_channels_and_watches_of_the_admin_leave_rows_without_addresses(admin_client):
    base = "/admin/alerts/alertchannel/"
    admin_client.post(f"{base}add/", CHANNEL)
    channel = AlertChannel.objects.get()
    admin_client.post(
        f"{base}{channel.pk}/change/", {**CHANNEL, "on_hung": "on", "url": "https://example.org/other"}
    )
    admin_client.post(f"{base}{channel.pk}/delete/", {"post": "yes"})
    admin_client.post("/admin/alerts/linewatch/add/", {"name": "slow", "pattern": "slow", "enabled": "on"})
    acts = [(each.action, each.subject) for each in AuditEntry.objects.order_by("pk")]
    assert acts == [
        ("add", "channel ops"),
        ("configure", "channel ops"),
        ("delete", "channel ops"),
        ("add", "watch slow: slow"),
    ]
    assert not re.search("secret-hook|other", str(list(AuditEntry.objects.values())))
