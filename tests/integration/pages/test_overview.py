"""The overview: rows for several servers, the card for one, at a cost that does not grow with them."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from supervisor_app.fleet.models import Footprint, LlamaServer, NodeLease
from supervisor_app.modelfiles.models import ModelFile
from supervisor_app.traffic.models import ApiKey, UsageDay
from tests.integration.building import (
    OUT_OF_MEMORY,
    db,
    everything,
    make_ready_server,
    make_server,
    make_state,
    push,
    socket_to,
    until,
)
from tests.scenes import draw

pytestmark = pytest.mark.django_db(transaction=True)
ROWS = "/llamaproxws?view=rows"
PILLS = "/llamaproxws?view=pills"


def queries_of(client):
    with CaptureQueriesContext(connection) as captured:
        client.get("/")
    return len(captured)


def test_sixty_servers_cost_no_more_queries_than_three(client):
    draw("three")
    few = queries_of(client)
    for table in (ApiKey, UsageDay, LlamaServer, NodeLease, ModelFile, User):
        table.objects.all().delete()
    draw("60")
    assert queries_of(client) == few


def test_an_estimate_of_what_a_server_needs_is_shown_as_one(client):
    for name, source in (("guessed", "estimated"), ("known", "measured")):
        state = make_state(make_server(name), "ready")
        said = {source: {"host": 198_000_000}, "runs": 3}
        state.footprint = Footprint.objects.create(node="local", identity=name, build="b1", **said)
        state.save()
    rows = re.findall(r'title="([^"]+)"><span>([^<]+) <small>', client.get("/").content.decode())
    assert [words for _, words in rows] == ["about 190 MiB", "189 MiB"]
    assert rows[0][0] == "about 190 MiB (estimated): about 190 MiB of host"


def test_trouble_is_at_the_top_with_its_button(staff_client):
    make_ready_server("a-fine-one")
    failure = OUT_OF_MEMORY.as_json()
    make_state(make_server("broken"), "error", failure=failure, detail="Out of memory. Press Start.")
    page = staff_client.get("/").content.decode()
    assert re.findall(r'id="row-([\w-]+)"', page) == ["broken", "a-fine-one"]
    entry = re.search(r'<li id="attention-broken".*?</li>', page, re.DOTALL)
    assert entry is not None
    assert 'hx-post="/servers/broken/start"' in entry.group()
    assert re.search(r'<li id="attention-a-fine-one"[^>]* hidden', page)


def test_a_server_that_is_alone_is_shown_whole(client):
    make_ready_server()
    page = client.get("/").content.decode()
    assert 'id="server-default"' in page
    assert 'id="row-default"' not in page


def test_without_a_server_the_page_says_what_to_do(client):
    assert "No server yet" in client.get("/").content.decode()


@pytest.mark.parametrize(
    ("path", "said"),
    [("/overview/figures", "1 in flight · 41 tokens/s"), ("/overview/bars", 'data-tone="bad"')],
)
def test_the_figures_of_all_rows_are_asked_for_together(client, path, said):
    draw("three")
    cache.clear()
    with CaptureQueriesContext(connection) as captured:
        html = client.get(path).content.decode()
    assert len(captured) < 8
    assert html.count('hx-swap-oob="morph"') == 3
    assert said in html


def test_tabs_that_ask_for_bars_within_a_moment_share_an_answer(client):
    draw("three")
    cache.clear()
    client.get("/overview/bars")
    with CaptureQueriesContext(connection) as captured:
        client.get("/overview/bars")
    assert [query for query in captured if "span" in query["sql"]] == []


async def test_an_open_overview_gets_parts_of_rows():
    for name in ("one", "two"):
        await db(make_ready_server, name)
    async with socket_to(ROWS) as overview, socket_to() as cards:
        assert 'id="row-one"' in await until(overview, 'id="servers"')
        await everything(overview), await everything(cards)
        await push("one", detail="Something new.")
        html = await until(overview, "Something new.")
        assert 'id="state-one"' in html
        assert 'id="attention-one"' in html
        assert 'id="server-one"' not in html
        assert 'id="server-one"' in await until(cards, "Something new.")


async def test_an_open_overview_of_one_server_gets_its_card_and_then_rows():
    await db(make_ready_server)
    async with socket_to(ROWS) as overview:
        await everything(overview)
        await push(detail="Something new.")
        assert 'id="server-default"' in await until(overview, "Something new.")
        await db(make_ready_server, "second")
        await push("second")
        assert 'id="row-default"' in await until(overview, 'id="row-second"')


async def test_every_other_page_gets_words_alone():
    for name in ("one", "two"):
        await db(make_ready_server, name)
    async with socket_to(PILLS) as all_servers, socket_to(f"{PILLS}&server=one") as one:
        assert 'id="pill-two"' in await until(all_servers, 'id="pills"')
        assert 'id="pill-one"' in await until(one, "pill")
        await everything(all_servers), await everything(one)
        await push("one", detail="Something new.")
        for client in (all_servers, one):
            html = await until(client, 'id="pill-one"')
            assert "Something new." not in html


async def test_a_push_of_a_supervisor_of_before_brings_the_rows():
    from supervisor_app.fleet.events import PUSH_GROUP
    from supervisor_app.fleet.layers import channel_layer

    for name in ("one", "two"):
        await db(make_ready_server, name)
    async with socket_to(ROWS) as overview:
        await everything(overview)
        old = {"type": "status.push", "server": "one", "version": 5, "html": "<article>", "json": "{}"}
        await channel_layer().group_send(PUSH_GROUP, old)
        assert 'id="row-one"' in await until(overview, 'id="servers"')
