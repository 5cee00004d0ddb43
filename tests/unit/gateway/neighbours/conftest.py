"""Two workers before a server with two slots."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.workers.neighbours import LOOK_SECONDS
from tests.unit.gateway.boards import boards
from tests.unit.gateway.neighbours.workers import Worker


@pytest.fixture
def workers(timers, tmp_path):
    """Two, before a server with two slots."""
    with boards(tmp_path) as found:
        workers = [Worker(board) for board in found]
        for worker in workers:
            worker.learn_slots(2)
        yield workers
        for worker in workers:
            worker.close()


@pytest.fixture
def a(workers):
    return workers[0]


@pytest.fixture
def b(workers):
    return workers[1]


@pytest.fixture
def look(timers):
    """All who wait look again."""
    return lambda: timers.advance(LOOK_SECONDS * 1.5)
