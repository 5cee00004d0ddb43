"""The data plane on both event loops on which it runs, and a database that may be away.

asyncio's beside the pages, uvloop's by itself.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import uvloop
from django.db import OperationalError

from supervisor_app.common.database import Rows, Unchanged
from supervisor_app.gateway.access.keys import KeyRing
from supervisor_app.gateway.edge import idleness, link, quarantine, survey
from supervisor_app.gateway.plane import client, gateway, lifetime
from tests.integration.building import eventually
from tests.integration.gateway.fast import KEY
from tests.integration.gateway.plane import start_plane

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config, item):
    on_both = {"plane", "listening", "together"}.intersection(item.fixturenames)
    return LOOPS if on_both else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def plane(monkeypatch):
    """A plane at whose end all that was asked has ended, and nothing went wrong unnoticed."""
    monkeypatch.setattr(gateway, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(lifetime, "PROBE_SECONDS", 0.05)
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    started = await start_plane()
    yield started
    await started.close()
    assert not errors


@pytest.fixture
def by_news_only(monkeypatch):
    """Keep the gateway from looking of its own accord."""
    monkeypatch.setattr(link, "REFRESH_SECONDS", 600.0)


@pytest.fixture
def often(monkeypatch):
    """Let the gateway look all the time."""
    monkeypatch.setattr(link, "REFRESH_SECONDS", 0.02)


@pytest.fixture
def looks(monkeypatch):
    """An entry for each look at the database, also for those that find it unchanged."""
    seen = []

    class Noted(Unchanged[Any]):
        def __call__(self):
            seen.append(super().__call__())
            return seen[-1]

    monkeypatch.setattr(link, "Unchanged", Noted)
    return seen


class Outage:
    """A database that fails while `lasts`."""

    LOOK = "look"
    """Name of the question whether anything has changed."""

    def __init__(self):
        self.lasts = False
        self.failed = Counter()
        """Failures, by the name of what was asked."""

    def failing(self, call, name=""):
        """Return a call that fails while the outage lasts."""
        return partial(self.may_fail, name or call.__name__, call)

    def may_fail(self, name, call, *arguments):
        if self.lasts:
            self.failed[name] += 1
            raise OperationalError("gone")
        return call(*arguments)

    async def has_been_noticed(self, by=LOOK):
        """Wait for the second failure: then the first one was dealt with."""
        seen = self.failed[by]
        await eventually(lambda: self.failed[by] > seen + 1)


@pytest.fixture
def outage(monkeypatch):
    outage = Outage()
    for module, name in [
        (survey, "load_facts"),
        (quarantine, "put"),
        (idleness, "wake"),
        (idleness, "idle_servers"),
        (link, "render_metrics"),
    ]:
        monkeypatch.setattr(module, name, outage.failing(getattr(module, name)))
    look, compare = outage.failing(Unchanged.__call__, Outage.LOOK), outage.failing(Rows.__call__, "rows")
    monkeypatch.setattr(Unchanged, "__call__", lambda known: look(known))
    monkeypatch.setattr(Rows, "__call__", lambda rows: compare(rows))
    return outage


@pytest.fixture
def taken(monkeypatch):
    """An entry for each request that had a look at the fast path: whether it went there."""
    ways = []
    take = client.take_fast_path

    def take_and_note(*arguments):
        exchange = take(*arguments)
        ways.append(exchange is not None)
        return exchange

    monkeypatch.setattr(client, "take_fast_path", take_and_note)
    return ways


@pytest.fixture
def only(plane):
    """Lets in who has this key."""

    def let_in(**changes):
        policy = replace(KEY, **changes)
        plane.gateway.door.keys = KeyRing([policy])
        return policy

    return let_in
