"""The banner of a configuration: it follows a change, and tells of the change of another."""

from __future__ import annotations

import pytest
from channels.layers import get_channel_layer
from django.utils import timezone

from supervisor_app.fleet.commands import tell_configured
from supervisor_app.fleet.conf import launch_of, secrets_of_launch
from supervisor_app.fleet.events import PUSH_GROUP
from supervisor_app.fleet.versions import configured, note_version
from tests.integration.building import (
    JSON,
    db,
    eventually,
    everything,
    make_run,
    make_server,
    make_state,
    socket_to,
    until,
)

PATH = "/servers/chat/config/"


@pytest.fixture
def chat():
    return make_server("chat", args=["-c", "4096"], port=9001)


def typed(client, **changes):
    """Everything that the form holds, with some of it changed."""
    answer = client.get(PATH)
    said = {field.name: field.value() for field in answer.context["form"]}
    said = {name: value for name, value in said.items() if value not in (None, "") and value is not False}
    return {**said, "version": answer.context["version"], **changes}


def banner(client, version):
    return client.get(f"{PATH}course?version={version}").content.decode()


@pytest.mark.django_db
def test_the_banner_follows_a_change_until_it_is_ready(staff_client, chat):
    assert "Version" not in banner(staff_client, 0)
    now = timezone.now()
    run = make_run(chat, launch=launch_of(chat), started_at=now, ready_at=now)
    state = make_state(chat, "ready", started_at=now, ready_at=now)
    staff_client.post(f"{PATH}change", typed(staff_client, priority="3", act="apply"))
    assert "Version 2 is in force. It needed no restart." in banner(staff_client, 2)
    staff_client.post(f"{PATH}change", typed(staff_client, context="8192", act="apply"))
    assert "Restarting with version 3…" in banner(staff_client, 3)
    chat.refresh_from_db()
    run.launch = launch_of(chat)
    run.save()
    state.started_at = state.ready_at = timezone.now()
    state.save()
    assert "Ready with version 3 since <time" in banner(staff_client, 3)
    assert "Ready with version 3 since <time" in staff_client.get(PATH).content.decode()


@pytest.mark.django_db
@pytest.mark.parametrize("field", ["api_key", "flags"])
def test_the_banner_says_that_a_change_of_a_secret_alone_is_still_to_come(staff_client, chat, field):
    if field == "flags":
        chat.args = ["--api-key", "sk-one"]
        chat.save()
    now = timezone.now()
    run = make_run(
        chat, launch=launch_of(chat), secrets=secrets_of_launch(chat), started_at=now, ready_at=now
    )
    make_state(chat, "ready", started_at=now, ready_at=now)
    before = configured(chat)
    if field == "flags":
        chat.args = ["--api-key", "sk-two"]
    else:
        chat.api_key = "sk-two"
    chat.save()
    note_version(chat, before, "somebody")
    assert "Restarting with version 2…" in banner(staff_client, 2)
    run.secrets = secrets_of_launch(chat)
    run.save()
    assert "Version 2 is in force." in banner(staff_client, 2)


@pytest.mark.django_db
def test_the_banner_says_who_has_changed_it_meanwhile(staff_client, chat):
    before = configured(chat)
    chat.args = ["-c", "2048"]
    chat.save()
    note_version(chat, before, "somebody")
    assert "Changed by somebody at <time" in banner(staff_client, 0)
    assert 'form="config-form" name="act" value="review"' in banner(staff_client, 0)
    assert "Changed by" not in banner(staff_client, 2)
    assert "Changed by" not in staff_client.get(PATH).content.decode()


@pytest.mark.django_db
def test_the_banner_says_that_the_server_was_deleted(staff_client):
    assert "chat was deleted meanwhile." in banner(staff_client, 2)


@pytest.mark.django_db(transaction=True)
async def test_a_page_at_a_configuration_is_told_that_somebody_has_changed_that():
    server = await db(lambda: make_server("chat"))
    async with socket_to("/llamaproxws?view=pills&config=chat") as page, socket_to(JSON) as program:
        await everything(page)
        await everything(program)
        await eventually(lambda: PUSH_GROUP in get_channel_layer().groups)
        await db(lambda: tell_configured(server))
        first = await until(page, 'id="config-sign"')
        await db(lambda: tell_configured(server))
        assert await until(page, 'id="config-sign"') != first, "the page notices each"
        assert await program.receive_nothing()
