"""An open page of a log that is told of each new line, as fast as it takes them."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from supervisor_app.fleet.models import Run
from supervisor_app.pages import log_socket
from tests.deadline import DEADLINE
from tests.integration.building import at, db, eventually, push, socket_to
from tests.integration.pages.two_lives import BEGAN, get, log, stamped, texts

__all__ = ["log"]  # fixtures

pytestmark = pytest.mark.django_db(transaction=True)


def cookie(client):
    return [(b"cookie", f"sessionid={client.cookies['sessionid'].value}".encode())]


SOCKET = "/llamaproxws/log?server=default"


def append(log, text):
    with log.open("a") as file:
        file.write(text)


async def told(client):
    return json.loads(await client.receive_from(timeout=DEADLINE))


@asynccontextmanager
async def following(client, query=""):
    """A socket of a page that has told how the last life ended."""
    page = await db(get, client)
    async with socket_to(f"{SOCKET}&after={page['end']}{query}", cookie(client)) as socket:
        assert await told(socket) == {"tail": None}
        yield socket


async def closed_with(client):
    return (await client.receive_output(timeout=DEADLINE))["code"]


async def test_a_new_line_is_pushed(log, staff_client):
    async with following(staff_client, "&q=n&levels=E") as client:
        await asyncio.to_thread(append, log, stamped(7, "new") + stamped(8, "none", "E"))
        assert texts(await told(client)) == ["none"]


def test_a_long_push_goes_in_messages_that_a_socket_takes():
    items = [{"c": f"n.{number}", "s": "\u00e9" * 500} for number in range(300)]
    news = {"items": items, "skipped": 5, "skippedBytes": 50, "end": "n.300", "tail": None}
    told = [json.loads(message) for message in log_socket.messages(news)]
    assert max(len(message) for message in log_socket.messages(news)) <= log_socket.MESSAGE_BYTES
    assert [item for part in told for item in part["items"]] == items
    assert sum(part["skipped"] for part in told) == 5
    assert [part["end"] for part in told] == [*(part["items"][0]["c"] for part in told[1:]), "n.300"]


async def test_nothing_more_is_pushed_until_the_page_has_taken_it(log, staff_client):
    async with following(staff_client) as client:
        append(log, stamped(7, "one"))
        assert texts(await told(client)) == ["one"]
        append(log, stamped(8, "two"))
        assert await client.receive_nothing(0.6)
        await client.send_to(text_data="ok")
        assert texts(await told(client)) == ["two"]


async def test_a_page_that_was_away_gets_what_it_missed(log, staff_client):
    page = await db(get, staff_client)
    append(log, stamped(7, "meanwhile"))
    async with socket_to(f"{SOCKET}&after={page['end']}", cookie(staff_client)) as client:
        await told(client)
        assert texts(await told(client)) == ["meanwhile"]


async def test_a_log_that_appears_is_told_from_its_first_line(log, staff_client):
    for path in (log, log.with_name("default.log.1")):
        path.unlink()
    async with socket_to(SOCKET, cookie(staff_client)) as client:
        await told(client)
        (page,) = log_socket.pages_open
        await eventually(lambda: page.follower.place is not None)
        append(log, stamped(0, "first"))
        assert texts(await told(client)) == ["first"]


async def test_the_end_of_a_life_is_told_at_once(log, staff_client):
    async with following(staff_client) as client:
        await db(lambda: Run.objects.open().update(ended_at=at(BEGAN + 2000)))
        async with asyncio.timeout(DEADLINE):
            while True:
                await push()
                if not await client.receive_nothing(0.2):
                    break
        assert (await told(client))["tail"]["title"] == "Stopped"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/llamaproxws/log?server=nobody", 4000),
        ("/llamaproxws/log", 4000),
        (f"{SOCKET}&after=x", 4000),
        (f"{SOCKET}&q=(&pattern=1", 4000),
    ],
)
async def test_a_socket_that_cannot_follow_is_closed(path, code, log, staff_client):
    async with socket_to(path, cookie(staff_client)) as client:
        assert await closed_with(client) == code


async def test_strangers_and_people_without_rights_hear_nothing(log, person_client):
    for headers in (None, cookie(person_client)):
        async with socket_to(SOCKET, headers) as client:
            assert await closed_with(client) == 4003


async def test_more_pages_than_there_are_places_are_refused(log, staff_client, monkeypatch):
    monkeypatch.setattr(log_socket, "LOG_SOCKETS", 1)
    async with socket_to(SOCKET, cookie(staff_client)):
        await eventually(lambda: len(log_socket.pages_open) == 1)
        async with socket_to(SOCKET, cookie(staff_client)) as second:
            assert await closed_with(second) == 4008


async def test_somebody_who_has_logged_out_is_let_go(log, staff_client, monkeypatch):
    monkeypatch.setattr("supervisor_app.fleet.hub.HEARTBEAT_SECONDS", 0.1)
    async with following(staff_client) as client:
        assert await told(client) == {"beat": True}
        await db(staff_client.logout)
        async with asyncio.timeout(DEADLINE):
            while (output := await client.receive_output(timeout=DEADLINE))["type"] != "websocket.close":
                pass
        assert output["code"] == 4003


async def test_nothing_stays_of_a_page_that_has_left(log, staff_client):
    async with socket_to(SOCKET, cookie(staff_client)):
        await eventually(lambda: len(log_socket.pages_open) == 1)
    await eventually(lambda: not log_socket.pages_open)
