"""The connections to one server: where they lead, how many are kept, and when they end."""

from __future__ import annotations

import pytest

from supervisor_app.core.status import Status
from supervisor_app.gateway.http.limits import Limits
from supervisor_app.gateway.servers.upstream import Connection
from tests.unit.gateway.backends import backend, make_backend, newer

__all__ = ["backend"]  # fixtures


def test_a_server_that_drains_has_no_idle_connections(backend):
    backend.pool.keep(Connection(backend.pool, made=lambda connection: None))
    newer(backend, status=Status.STOPPING, draining=True)
    assert backend.pool.take() is None


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://localhost:8134", b"localhost:8134"),
        ("http://[fe80::1]:8134", b"[fe80::1]:8134"),
        ("http://gpu-1.lan", b"gpu-1.lan:80"),
        ("", b"127.0.0.1:80"),
    ],
)
def test_the_address_of_a_server_is_that_of_its_url(timers, url, authority):
    assert make_backend(url=url).pool.authority == authority


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://localhost:9000"},
        {"pid": 12},
        {"status": Status.CRASHED},
        {"status": Status.STOPPING},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_connections_to_what_is_gone_are_not_kept(backend, changes):
    before = backend.pool
    newer(backend, **changes)
    assert backend.pool is not before
    assert before.max_idle == 0


def test_connections_are_kept_while_nothing_has_changed(backend):
    before = backend.pool
    newer(backend, detail="Serving 2 models.")
    assert backend.pool is before


def test_the_connections_of_one_that_gets_ready_are_made_anew_only_once(timers):
    backend = make_backend(status=Status.STARTING, pid=None)
    newer(backend, pid=12)
    before = backend.pool
    newer(backend, status=Status.READY)
    assert backend.pool is before


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.READY])
def test_nothing_is_connected_for_a_request_while_no_process_serves(timers, status):
    """Another program may listen there by now."""
    backend, heard = make_backend(status=status), []
    backend.connect(heard.append, heard.append)
    backend.connect(heard.append, heard.append).cancel()
    assert not heard
    timers.advance(0)
    assert heard == ["default does not run"]


def test_no_more_connections_are_kept_than_a_server_has_slots(backend):
    assert backend.pool.max_idle == 8  # as long as nothing is known of them
    backend.learn_slots(2)
    assert backend.pool.max_idle == 2


def test_without_a_connection_there_is_none_to_end(backend):
    backend.sweep()
    backend.close()
    assert backend.gate.is_open


def test_connections_that_nobody_used_are_ended_in_time(backend, timers):
    backend.pool.keep(Connection(backend.pool, made=lambda connection: None))
    timers.advance(Limits().upstream_idle_seconds + 0.1)
    newest = Connection(backend.pool, made=lambda connection: None)
    backend.pool.keep(newest)
    backend.sweep()
    assert [backend.pool.take(), backend.pool.take()] == [newest, None]


def test_at_the_end_no_connection_is_left(backend):
    pool = backend.pool
    pool.keep(Connection(pool, made=lambda connection: None))
    backend.close()
    assert pool.take() is None
