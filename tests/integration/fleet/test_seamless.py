"""The wish for a restart without a gap, by page, API and command line, and what is kept of one."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from supervisor_app.core.changes import Change
from supervisor_app.core.status import LlamaStatus, Replacement, Stage
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.file_servers import choose_port
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.snapshots import load_views
from supervisor_app.roles.management.commands import llama
from tests.integration.building import IDENTITY, db, make_server, make_state
from tests.integration.fleet.storing import opened

pytestmark = pytest.mark.django_db(transaction=True)

CHAT = "chat"
WHY = "Not restarted without a gap. `chat (new)` needs 12.0 GiB on GPU 0."


def chosen(port=8200, status="ready", **state):
    """A server of a file, on a port that was chosen, whose supervisor has heard every wish."""
    server = make_server(CHAT, port=port, file="/etc/llamaproxy.toml", file_fields=["model_path"])
    make_state(server, status, **{"generation": 99, **state})
    return server


def kept(stage, identity=IDENTITY):
    pid = {"pid": identity.pid, "start": identity.start, "boot_id": identity.boot_id} if identity else None
    return {"stage": stage, "detail": WHY, "identity": pid, "port": 8201}


def restart(name=CHAT, *options):
    out = StringIO()
    call_command("llama", "restart", name, "--seamless", *options, stdout=out, stderr=StringIO())
    return out.getvalue()


def asked():
    server = LlamaServer.objects.get()
    return server.generation, server.restart_generation, server.restart_seamless


@pytest.mark.parametrize("path", ["/servers/chat/restart", "/api/servers/chat/restart"])
def test_pages_and_programs_ask_for_it_with_a_parameter(path, staff_client):
    chosen()
    assert staff_client.post(f"{path}?seamless=1").status_code in (202, 302)
    assert asked() == (2, 2, True)
    staff_client.post(path)
    assert asked() == (3, 3, False)


@pytest.mark.parametrize("path", ["/servers/chat/restart", "/api/servers/chat/restart"])
def test_a_fixed_port_is_refused_with_what_to_do(path, staff_client):
    make_state(make_server(CHAT), "ready")
    answer = staff_client.post(f"{path}?seamless=1")
    assert answer.status_code == 409
    assert "chat is not restarted without a gap. Its port is fixed" in answer.content.decode()
    assert asked() == (1, 0, False)


def test_a_server_that_there_is_not_is_no_mistake_of_ours(staff_client):
    assert staff_client.post("/api/servers/chat/restart?seamless=1").status_code == 404
    assert staff_client.post("/servers/chat/restart?seamless=1").status_code == 404


def test_a_page_has_the_button_where_the_port_was_chosen(staff_client):
    server = chosen()
    assert "Restart without a gap" in staff_client.get("/servers/chat/").content.decode()
    LlamaServer.objects.filter(pk=server.pk).update(file_fields=["port"])
    assert "Restart without a gap" not in staff_client.get("/servers/chat/").content.decode()


@pytest.mark.parametrize("replacement", [None, kept("loading"), kept("leaving")])
def test_the_command_ends_once_it_has_begun_or_is_done(replacement):
    chosen(replacement=replacement)
    assert restart() == "chat: asked to restart\n"


@pytest.mark.parametrize("stage", ["refused", "failed"])
def test_the_command_fails_with_the_reason_of_the_supervisor(stage):
    chosen(replacement=kept(stage, None))
    with pytest.raises(
        CommandError, match=r"chat: Not restarted without a gap\. `chat .new.` needs 12\.0 GiB"
    ):
        restart()


@pytest.mark.parametrize("state", [{"generation": 1}, {"replacement": kept("loading", None)}])
def test_the_command_waits_for_its_supervisor_no_longer_than_for_long(state, monkeypatch):
    monkeypatch.setattr(llama, "BEGIN_SECONDS", 0.0)
    chosen(**state)
    assert restart() == "chat: asked to restart\n"
    assert asked() == (2, 2, True)


def test_the_command_refuses_a_server_that_is_not_ready_and_other_words():
    chosen(status="initial")
    with pytest.raises(CommandError, match="It is not ready"):
        restart()
    with pytest.raises(CommandError, match="--seamless is of restart"):
        call_command("llama", "stop", CHAT, "--seamless")
    assert asked() == (1, 0, False)


async def test_the_supervisor_hears_the_wish_and_which_ports_it_maychoose_port():
    async with opened(overlay=Overlay(ports=range(8200, 8204))) as store:
        await db(chosen, port=8200)
        await db(make_state, await db(make_server, "other", port=8202), port=8203)
        await db(lambda: LlamaServer.objects.filter(name=CHAT).ask_to_restart(seamless=True))
        configs = {config.name: config for config in await store.configs()}
    assert (configs[CHAT].spare_ports, configs[CHAT].restart_seamless) == ((8200, 8201), True)
    assert configs["other"].spare_ports == ()


def test_no_server_is_given_the_port_of_another_ones_process():
    chosen(port=8200)
    make_state(make_server("other", port=8999), port=8201)
    assert choose_port("local", range(8200, 8210), set()) > 8201


async def test_a_restart_under_way_is_remembered_for_the_next_supervisor():
    replacement = Replacement(stage=Stage.LEAVING, detail="x", identity=IDENTITY, port=8200)
    snapshot = LlamaStatus(name=CHAT, version=7, replacement=replacement)
    async with opened() as store:
        await db(chosen)
        await store.save(Change(snapshot=snapshot, identity=None, generation=2, port=8201))
        known = await store.remember(CHAT)
        assert (known.replacement, known.port) == (replacement, 8201)
        (view,) = await db(load_views)
        assert view.as_json(0)["replacement"] == {"stage": "leaving", "detail": "x", "pid": IDENTITY.pid}
        await store.save(
            Change(snapshot=replace(snapshot, replacement=None), identity=None, generation=2, port=None)
        )
        known = await store.remember(CHAT)
        assert (known.replacement, known.port) == (None, None)
