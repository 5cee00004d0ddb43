"""The data plane on both event loops on which it runs: asyncio's beside the pages, uvloop's by itself."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from supervisor_app.gateway import client, gateway
from tests.integration.gateway.plane import start_plane

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(config, item):
    on_both = {"plane", "listening"}.intersection(item.fixturenames)
    return LOOPS if on_both else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def plane(monkeypatch):
    """At the end all that was asked has ended, and nothing went wrong unnoticed."""
    monkeypatch.setattr(gateway, "SWEEP_SECONDS", 0.02)
    monkeypatch.setattr(client, "PROBE_SECONDS", 0.05)
    errors = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context))
    started = await start_plane()
    yield started
    await started.close()
    assert not errors
