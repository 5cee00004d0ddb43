"""`/llamaproxws` on real sockets of the ASGI application: what a client is told, may say and may see."""

from __future__ import annotations

import asyncio
import json
import re
import threading

import pytest
from django.utils import timezone

from llamaproxy.asgi import application
from supervisor_app.fleet import hub as hub_module
from supervisor_app.fleet.events import PIECE
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.planned import load_marks
from supervisor_app.fleet.publish import ChannelPublisher
from tests.deadline import DEADLINE
from tests.integration.building import (
    JSON,
    PatientSocket,
    db,
    eventually,
    everything,
    make_ready_server,
    make_server,
    make_state,
    push,
    socket_to,
    until,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("unpaced")]
REQUEST = {"type": "requestLlamaStatus"}


def versions(messages):
    """Of the server `default`, in the order they were sent."""
    return [int(found) for message in messages for found in re.findall(r'data-version="(\d+)"', message)]


# --- The first message ---------------------------------------------------------------------------------


async def test_a_page_gets_the_whole_list_at_once():
    await db(make_ready_server, "one")
    await db(make_server, "two")
    async with socket_to() as client:
        html = await client.receive_from()
    assert re.search(r'<div id="servers"[^>]* hx-swap-oob="morph"', html)
    assert 'id="server-one"' in html
    assert 'id="server-two"' in html


async def test_a_long_list_comes_in_pieces_that_are_no_longer_than_any_proxy_takes():
    names = [f"s{number:02}" for number in range(60)]
    for name in names:
        await db(make_ready_server, name)
    said = []
    async with socket_to() as client, asyncio.timeout(DEADLINE):
        while 'id="server-s59"' not in "".join(said):
            said.append(await client.receive_from(timeout=DEADLINE))
    assert len(said) > 2
    assert max(map(len, said)) <= PIECE
    assert re.findall(r'<div class="entry" id="entry-(\w+)" data-keep>', said[0]) == names
    assert re.findall(r'id="entry-(\w+)" hx-swap-oob="morph"', "".join(said)) == names


async def test_without_a_server_a_page_is_told_what_to_do():
    async with socket_to() as client:
        assert "No server yet" in await client.receive_from()


async def test_a_program_gets_an_event_for_each_server():
    await db(make_ready_server, "one")
    await db(make_server, "two")
    async with socket_to(JSON) as client:
        events = [await client.receive_json_from(), await client.receive_json_from()]
    assert [(event["server"], event["data"]["status"]) for event in events] == [
        ("one", "ready"),
        ("two", "initial"),
    ]


async def test_an_event_is_the_one_of_the_contract():
    await db(make_ready_server)
    async with socket_to(JSON) as client:
        event = await client.receive_json_from()
    assert event.keys() == {"type", "server", "data", "timestamp"}
    assert event["type"] == "llama_status"
    assert abs(event["timestamp"] - timezone.now().timestamp() * 1000) < 10_000
    assert {"status", "models", "lastError", "retries", "uptime", "startedAt"} <= event["data"].keys()


async def test_the_page_of_one_server_hears_of_that_one_only():
    for name in ("one", "two"):
        await db(make_ready_server, name)
    async with socket_to("/llamaproxws?server=one") as client:
        said = await everything(client)
        await push("two", detail="not for you")
        await push("one", detail="for you")
        said += await everything(client)
    assert all("server-two" not in message for message in said)
    assert "for you" in said[-1]


async def test_a_program_may_ask_for_one_server():
    for name in ("one", "two"):
        await db(make_ready_server, name)
    async with socket_to(f"{JSON}&server=two") as client:
        assert {json.loads(message)["server"] for message in await everything(client)} == {"two"}


@pytest.mark.parametrize(
    "query",
    [
        "server=%00",  # PostgreSQL raises at a NUL
        "server=../../etc",
        "server=%ff",
        "format=xml",
        "server=",
        "&&&=;",
    ],
)
async def test_an_odd_query_harms_nobody(query):
    async with socket_to(f"/llamaproxws?{query}") as client:
        await client.receive_from()
        await client.send_json_to(REQUEST)
        await client.receive_from()


# --- Changes -------------------------------------------------------------------------------------------


async def test_a_push_reaches_a_page_as_a_fragment_and_a_program_as_an_event():
    await db(make_ready_server)
    async with socket_to() as page, socket_to(JSON) as program:
        await everything(page), await everything(program)
        await push(detail="Something new.")
        html = await until(page, "Something new.")
        event = json.loads(await until(program, "Something new."))
    assert re.search(r'<article id="server-default"[^>]* hx-swap-oob="morph"', html)
    assert event["data"]["detail"] == "Something new."


async def test_a_status_that_cannot_be_rendered_is_told_and_harms_nobody(settings, caplog):
    await db(make_ready_server)
    async with socket_to() as client:
        await everything(client)
        broken = settings.TEMPLATES
        settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
        await push(detail="Never shown.")
        settings.TEMPLATES = broken
        await push(detail="Shown.", version=3)
        assert all("Never shown." not in said for said in await everything(client))
    assert "default cannot be shown. Supervision goes on." in caplog.text


async def test_an_older_push_never_follows_a_newer_one():
    await db(make_ready_server)
    async with socket_to() as client:
        await everything(client)
        for version in (5, 4, 3, 6, 2):
            await push(version=version)
        shown = versions(await everything(client))
    assert shown == sorted(shown)
    assert shown[-1] == 6


async def test_a_push_that_comes_while_a_snapshot_is_made_is_not_followed_by_that_snapshot(monkeypatch):
    await db(make_ready_server)
    rendering, proceed = threading.Event(), threading.Event()

    def slow(*args, original=hub_module.render_all, **kwargs):
        rendering.set()
        proceed.wait(5)
        return original(*args, **kwargs)

    async with socket_to() as client:
        await everything(client)
        monkeypatch.setattr(hub_module, "render_all", slow)
        await client.send_json_to(REQUEST)
        await eventually(rendering.is_set)
        await push(version=8)
        await asyncio.sleep(0.05)
        proceed.set()
        assert versions(await everything(client))[-1] == 8


async def test_a_page_that_opens_while_the_database_is_behind_gets_the_newest_push_too():
    await db(make_ready_server)
    async with socket_to() as first, socket_to() as second:
        await everything(first)
        await push(version=7)
        await until(first, 'data-version="7"')
        await everything(second)
        async with socket_to() as late:
            assert versions(await everything(late))[-1] == 7
        await second.send_json_to(REQUEST)
        assert versions(await everything(second))[-1] == 7


async def test_a_push_of_a_server_that_the_page_does_not_know_brings_the_list():
    async with socket_to() as client:
        await everything(client)
        await db(make_ready_server, "new")
        await push("new")
        assert 'id="server-new"' in await until(client, '<div id="servers"')


async def test_a_removed_server_brings_the_list_without_it():
    for name in ("keep", "gone"):
        await db(make_ready_server, name)
    async with socket_to() as client:
        await everything(client)
        await LlamaServer.objects.filter(name="gone").adelete()
        await ChannelPublisher().removed("gone")
        html = await client.receive_from()
        while 'id="server-gone"' in html:  # drawn before it was removed
            html = await client.receive_from()
    assert 'id="server-keep"' in html


async def test_the_page_of_a_removed_server_says_so():
    await db(make_ready_server)
    async with socket_to("/llamaproxws?server=default") as client:
        await everything(client)
        await LlamaServer.objects.all().adelete()
        await ChannelPublisher().removed("default")
        await until(client, "deleted")


async def test_a_status_that_a_page_shows_is_not_sent_again(monkeypatch):
    """By the hub, which compares with the database as soon as somebody listens."""
    compared = []

    def compare():
        compared.append(1)
        return load_marks()

    monkeypatch.setattr(hub_module, "load_marks", compare)
    await db(make_ready_server)
    async with socket_to("/llamaproxws?server=default") as client:
        await eventually(lambda: len(compared) > 1)
        await push(version=2)
        said = await everything(client)
    assert versions(said) == [1, 2]


async def test_a_server_made_anew_under_the_same_name_is_shown_although_it_counts_from_one():
    server = await db(make_server)
    await db(make_state, server, version=57)
    async with socket_to() as client:
        await everything(client)
        await server.adelete()
        await ChannelPublisher().removed("default")
        await everything(client)
        await db(make_ready_server)
        await push(version=2)
        await push(version=3)
        assert versions(await everything(client))[-1] == 3


async def test_a_client_may_ask_for_the_status():
    await db(make_ready_server)
    async with socket_to(JSON) as program, socket_to() as page:
        await everything(program), await everything(page)
        await program.send_json_to(REQUEST)
        await page.send_json_to(REQUEST)
        assert (await program.receive_json_from())["type"] == "llama_status"
        assert '<div id="servers"' in await page.receive_from()


# --- Garbage -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        "hello",  # not JSON
        " ",
        "{",
        "null",
        "[]",
        '"requestLlamaStatus"',
        '{"type": "restart"}',  # not over this road
        '{"type": ["requestLlamaStatus"]}',
        '{"Type": "requestLlamaStatus"}',
        '{"type": null}',
        "NaN",
        "9" * 4000,
        "[" * 4000,  # nested deeper than the parser goes
        '{"type": "requestLlamaStatus", "x": "' + "x" * 1_000_000 + '"}',  # a megabyte
        b"\x00\xff\xfe",  # binary
        b'{"type": "requestLlamaStatus"}',
    ],
)
async def test_garbage_gets_an_error_event_and_the_socket_lives_on(message):
    await db(make_ready_server)
    async with socket_to(JSON) as client:
        await client.receive_from()
        await send(client, message)
        answer = json.loads(await until(client, '"error"'))
        assert (answer["type"], answer["message"]) == ("error", 'Send {"type": "requestLlamaStatus"}.')
        await client.send_json_to(REQUEST)
        assert (await client.receive_json_from())["type"] == "llama_status"


async def send(client, message):
    if isinstance(message, bytes):
        await client.send_to(bytes_data=message)
    else:
        await client.send_to(text_data=message)


async def test_nobody_else_hears_of_garbage():
    async with socket_to() as client, socket_to(JSON) as other:
        await client.receive_from()
        await client.send_to(text_data="garbage")
        await until(client, '"error"')
        assert await everything(other) == []


# --- Rights --------------------------------------------------------------------------------------------


def cookie(client):
    return [(b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())]


@pytest.fixture
def private(settings):
    settings.LLAMAPROXY_PUBLIC_STATUS = False


async def assert_closed_for_want_of_rights(headers):
    client = PatientSocket(application, JSON, headers)
    # Accepted first: a browser that is refused tries again for ever.
    assert (await client.connect())[0]
    closed = await client.receive_output()
    assert (closed["type"], closed["code"]) == ("websocket.close", 4003)
    await client.send_json_to(REQUEST)
    assert await client.receive_nothing()
    await client.disconnect()


async def test_a_stranger_is_closed_with_4003_on_a_private_status(private):
    await db(make_ready_server)
    await assert_closed_for_want_of_rights([])


async def test_a_login_without_staff_rights_is_closed_with_4003_on_a_private_status(private, person_client):
    await db(make_ready_server)
    await assert_closed_for_want_of_rights(cookie(person_client))


async def test_staff_see_a_private_status(private, staff_client):
    await db(make_ready_server)
    async with socket_to(JSON, cookie(staff_client)) as client:
        assert (await client.receive_json_from())["type"] == "llama_status"


@pytest.mark.parametrize(
    ("origin", "accepted"),
    [
        (None, True),  # a script
        (b"http://localhost", True),
        (b"http://localhost:8000", True),
        (b"https://127.0.0.1", True),
        (b"http://[::1]:8000", True),
        (b"http://evil.example", False),
        (b"http://localhost.evil.example", False),
        (b"http://notlocalhost", False),
        (b"null", False),  # a sandboxed frame
        (b"", False),
    ],
)
async def test_other_peoples_pages_are_refused(origin, accepted):
    headers = [] if origin is None else [(b"origin", origin)]
    client = PatientSocket(application, "/llamaproxws", headers)
    assert (await client.connect())[0] is accepted
    await client.disconnect()
