"""The newest runs of servers, for a gateway that asks every second: only what has changed is read again."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from supervisor_app.fleet.conf import Overlay
from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.gateway.edge.recent_runs import TRUSTED_SECONDS, RecentRuns
from supervisor_app.gateway.edge.survey import load_facts
from tests.integration.building import make_ready_server, make_run, make_server

pytestmark = pytest.mark.django_db


TABLE = f'"{Run._meta.db_table}"'


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def read(clock):
    """Read as a gateway does: how many queries for runs that took, and the last pid that each server had."""
    recent = RecentRuns(clock)

    def read():
        with CaptureQueriesContext(
            connection,
        ) as queries:
            facts = load_facts(Overlay(), recent)
        pids = {name: max(each.ends, default=0) for name, each in facts.items()}
        return sum(TABLE in query["sql"] for query in queries), pids

    return read


def ran(name, pid):
    """A run that ended, and is told as a supervisor does it."""
    server = LlamaServer.objects.get(name=name)
    make_run(server, pid=pid)
    server.state.version += 1
    server.state.save()


def test_runs_are_read_once_and_then_of_those_that_changed(read):
    for name in "ab":
        make_ready_server(name)
        ran(name, 7)
    assert read() == (2, {"a": 7, "b": 7})
    assert read() == (0, {"a": 7, "b": 7})
    ran("b", 8)
    Run.objects.filter(server__name="a").update(pid=6)  # nobody said so: not looked at
    assert read() == (2, {"a": 7, "b": 8})
    assert read() == (0, {"a": 7, "b": 8})


def test_all_are_read_again_after_a_while(read, clock):
    make_ready_server("a")
    ran("a", 7)
    read()
    Run.objects.all().delete()
    assert read() == (0, {"a": 7})
    clock.now += TRUSTED_SECONDS
    assert read() == (2, {"a": 0})


def test_a_server_that_goes_and_one_that_no_supervisor_has_seen_are_no_trouble(read):
    make_ready_server("a")
    ran("a", 7)
    read()
    LlamaServer.objects.all().delete()
    make_server("new")
    assert read()[1] == {"new": 0}
    assert read() == (0, {"new": 0})


def test_a_state_from_a_backup_is_read_again_although_its_version_is_lower(read):
    make_ready_server("a")
    ran("a", 7)
    ran("a", 8)
    read()
    Run.objects.filter(pid=8).delete()
    ServerState.objects.update(version=2)
    assert read() == (2, {"a": 7})
