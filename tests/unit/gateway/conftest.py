"""The clock of all parts of a gateway."""

from __future__ import annotations

import asyncio

import pytest

from tests.unit.gateway.timers import Timers


@pytest.fixture
def timers(monkeypatch):
    """Timers of the event loop that the parts find."""
    timers = Timers()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: timers)
    return timers
