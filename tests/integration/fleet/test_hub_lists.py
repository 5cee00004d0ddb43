"""The hub with many servers: pages share the lists that are made, and changes come together."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading

import pytest

from supervisor_app.fleet import hub as hub_module
from supervisor_app.fleet.hub import hub
from supervisor_app.fleet.models import ServerState
from tests.deadline import DEADLINE
from tests.integration.building import (
    db,
    eventually,
    everything,
    make_ready_server,
    push,
    socket_to,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("unpaced")]


@pytest.fixture
def lists_made(monkeypatch):
    """Each list that was rendered, by how many servers it has."""
    made = []

    def count(views, original=hub_module.render_all, **wanted):
        made.append(len(views))
        return original(views, **wanted)

    monkeypatch.setattr(hub_module, "render_all", count)
    return made


NAMES = [f"s{number:02}" for number in range(12)]


async def shown_by(client, version):
    """Read on until each of `NAMES` was shown in this version; how many messages that took."""
    shown, count = set(), 0
    async with asyncio.timeout(DEADLINE):
        while shown != set(NAMES):
            said = await client.receive_from(timeout=DEADLINE)
            shown |= set(re.findall(rf'data-name="(\w+)"[^>]* data-version="{version}"', said))
            count += 1
    return count


async def test_pages_that_open_together_share_their_lists(lists_made):
    await db(make_ready_servers)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(socket_to()) for _ in range(20)]
        for client in clients:
            await shown_by(client, version=1)
        before = len(lists_made)
        for client in clients:
            await client.send_to(text_data='{"type": "requestLlamaStatus"}')
        for client in clients:
            await shown_by(client, version=1)
    assert len(lists_made) - before <= 2


async def test_a_burst_of_changes_makes_no_list_and_ends_with_the_last(lists_made, monkeypatch):
    may_go = asyncio.Event()

    async def held(self, original=hub_module.Hub._flush, **options):
        await may_go.wait()
        await original(self, **options)

    await db(make_ready_servers)
    async with socket_to() as first, socket_to() as second:
        for client in (first, second):
            await shown_by(client, version=1)
            await everything(client)
        before = len(lists_made)
        monkeypatch.setattr(hub_module.Hub, "_flush", held)
        for version in range(2, 8):
            for name in NAMES:
                await push(name, version=version)
        may_go.set()
        told = [await shown_by(client, version=7) for client in (first, second)]
    assert len(lists_made) == before
    assert max(told) < len(NAMES)


async def test_changes_while_a_list_is_made_bring_no_further_list(lists_made, monkeypatch):
    making, proceed = threading.Event(), threading.Event()

    def slow(*args, original=hub_module.render_all, **kwargs):
        making.set()
        proceed.wait(DEADLINE)
        return original(*args, **kwargs)

    await db(make_ready_servers)
    async with socket_to() as client:
        await shown_by(client, version=1)
        await everything(client)
        before = len(lists_made)
        monkeypatch.setattr(hub_module, "render_all", slow)
        await client.send_to(text_data='{"type": "requestLlamaStatus"}')
        await eventually(making.is_set)
        for name in NAMES:
            await push(name, version=2)
        await eventually(lambda: not hub()._pending)
        proceed.set()
        await shown_by(client, version=2)
        await everything(client)
    assert len(lists_made) - before == 1


async def test_many_servers_that_nobody_pushed_are_read_together(fast_resync, monkeypatch):
    reads = []

    def count(*names, original=hub_module.planned_views):
        reads.append(names)
        return original(*names)

    monkeypatch.setattr(hub_module, "planned_views", count)
    await db(make_ready_servers)
    async with socket_to() as client:
        await shown_by(client, version=1)
        await eventually(lambda: hub().compared)
        reads.clear()
        await ServerState.objects.aupdate(version=2)
        await shown_by(client, version=2)
    assert sum(map(len, reads)) < 2 * len(NAMES)
    assert len(reads) <= 2


def make_ready_servers():
    for name in NAMES:
        make_ready_server(name)
