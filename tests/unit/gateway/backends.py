"""A server of the gateway, and news of that server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.servers.backend import Backend
from supervisor_app.gateway.servers.facts import ServerFacts

READY = ServerFacts(
    name="default", version=5, status=Status.READY, url="http://localhost:8134", pid=11, run=3
)


def make_backend(**facts):
    backend = Backend(replace(READY, **facts), Limits())
    backend.open_if_ready()
    return backend


@pytest.fixture
def backend(timers):
    return make_backend()


def newer(backend, **changes):
    """A word of its supervisor."""
    backend.update(replace(backend.facts, version=backend.facts.version + 1, **changes))
