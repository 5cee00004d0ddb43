"""Figures of charts, pushed to the pages that show them."""

from __future__ import annotations

import json
import time

import pytest
from django.conf import settings

from supervisor_app.fleet.sample_record import write
from supervisor_app.pages import sample_pushes
from tests.deadline import DEADLINE
from tests.integration.building import db, everything, make_ready_server, socket_to

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/llamaproxws?server=default"


@pytest.fixture(autouse=True)
def often(monkeypatch):
    monkeypatch.setattr(sample_pushes, "PUSH_SECONDS", 0.01)


async def wants(client, since=0):
    await client.send_json_to({"type": "samples", "since": since})


async def told(client):
    """The next figures that a page is pushed."""
    while True:
        text = await client.receive_from(timeout=DEADLINE)
        if text.startswith("{"):
            return json.loads(text)


async def sample(at, **figures):
    await db(write, settings.LLAMAPROXY_NODE, {"default": [(at, figures)]})


async def test_a_page_is_told_what_there_is_and_then_only_what_is_new():
    await db(make_ready_server)
    now = int(time.time())
    await sample(now - 20, cpu=1.5)
    async with socket_to(PAGE) as page:
        await everything(page)
        await wants(page)
        first = await told(page)
        assert (first["at"], first["figures"]) == (now - 20, {"t": [0], "cpu": [1.5]})
        await sample(now - 10, cpu=2.5)
        assert (await told(page))["at"] == now - 10


async def test_a_page_without_figures_is_told_so_once():
    await db(make_ready_server)
    async with socket_to(PAGE) as page:
        await everything(page)
        await wants(page)
        assert (await told(page))["figures"] == {}
        assert await everything(page) == []


async def test_a_page_that_comes_back_gets_what_it_missed_alone():
    await db(make_ready_server)
    now = int(time.time())
    await sample(now - 20, cpu=1.5)
    await sample(now - 10, cpu=2.5)
    async with socket_to(PAGE) as page:
        await everything(page)
        await wants(page, since=now - 20)
        assert (await told(page))["at"] == now - 10


async def test_a_hidden_page_is_told_nothing_until_it_is_seen():
    await db(make_ready_server)
    now = int(time.time())
    async with socket_to(PAGE) as page:
        await everything(page)
        await wants(page)
        await told(page)
        await page.send_json_to({"type": "visibility", "hidden": True})
        await everything(page)
        await sample(now - 10, cpu=2.5)
        assert await everything(page) == []
        await page.send_json_to({"type": "visibility", "hidden": False})
        assert (await told(page))["at"] == now - 10


async def test_an_hour_comes_in_pieces_that_a_socket_takes():
    await db(make_ready_server)
    now = int(time.time())
    names = {f"memory:GPU-{number}": 12_345_678_901.0 for number in range(4)} | {"cpu": 0.123}
    await db(
        write,
        settings.LLAMAPROXY_NODE,
        {"default": [(now - 700 + second, dict(names)) for second in range(700)]},
    )
    async with socket_to(PAGE) as page:
        await everything(page)
        await wants(page)
        parts = [await told(page) for _ in range(3)]
    assert [len(part["figures"]["t"]) for part in parts] == [300, 300, 100]
    assert max(len(json.dumps(part)) for part in parts) < 60_000


async def test_a_page_that_names_no_moment_has_nothing_yet():
    await db(make_ready_server)
    async with socket_to(PAGE) as page:
        await everything(page)
        await wants(page, since="yesterday")
        assert (await told(page))["figures"] == {}


async def test_a_page_of_all_servers_has_no_charts():
    await db(make_ready_server)
    async with socket_to() as page:
        await everything(page)
        await wants(page)
        assert '"type": "error"' in await page.receive_from(timeout=DEADLINE)
