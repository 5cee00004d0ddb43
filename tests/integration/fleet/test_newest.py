"""Reading the newest runs of servers costs the same, however long their history is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from supervisor_app.fleet import newest
from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.models import LlamaServer, Run
from supervisor_app.fleet.newest import with_newest_runs
from supervisor_app.fleet.snapshots import load_views
from supervisor_app.gateway.edge.survey import load_facts
from tests.integration.building import make_run, make_server, make_state

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db

STEPS = 10
"""Steps of SQLite's machine between two that are counted."""


def steps_of(call: Callable[[], Any]) -> int:
    """Count the steps of SQLite for a call: the same on each machine."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += STEPS
        return 0

    connection.connection.set_progress_handler(count, STEPS)
    try:
        call()
    finally:
        connection.connection.set_progress_handler(None, STEPS)
    return counted


@pytest.mark.skipif(connection.vendor != "sqlite", reason="counts SQLite's steps")
@pytest.mark.parametrize("read", [load_views, lambda: load_facts(Overlay())], ids=["views", "facts"])
def test_a_long_history_costs_no_more_than_a_short_one(read):
    server = make_server()
    make_state(server)
    for _ in range(20):
        make_run(server)
    short = steps_of(read)
    past = Run.objects.filter(server=server)[0]
    Run.objects.bulk_create(
        Run(server=server, started_at=past.started_at, ended_at=past.ended_at) for _ in range(500)
    )
    assert steps_of(read) < 2 * short


def test_each_server_has_its_own_newest_first(monkeypatch):
    monkeypatch.setattr(newest, "TOGETHER", 2)
    numbers: dict[str, list[int]] = {name: [] for name in ("none", "few", "many", "more")}
    servers = {name: make_server(name) for name in numbers}
    for number in range(7):
        for name in ("few", "many", "more"):
            if name != "few" or number < 2:
                numbers[name].insert(0, make_run(servers[name]).pk)
    found = with_newest_runs(LlamaServer.objects.order_by("name"), Run.objects.all(), 3)
    assert {server.name: [run.pk for run in runs] for server, runs in found} == {
        name: runs[:3] for name, runs in numbers.items()
    }
