"""Strangers keep the event loop of the listeners busy for longer than supervision may wait for anything."""

from __future__ import annotations

import psutil
import pytest

from tests.bench.strangers.attacks import attacked

ROUNDS = 3


@pytest.fixture(scope="module")
def steady(make_shared):
    proxy = make_shared(
        retry_backoff_ms=50, max_backoff_ms=50, max_retries=100_000, health_check_interval_ms=100
    )
    proxy.script()
    proxy.start().wait_for_status("ready")
    return proxy


def newest(proxy):
    return proxy.query("SELECT id, pid, ready_at, ended_at FROM supervisor_app_run ORDER BY id DESC LIMIT 1")[
        0
    ]


def ready(proxy):
    run = newest(proxy)
    return run if run["ready_at"] and not run["ended_at"] and psutil.pid_exists(run["pid"]) else None


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("web", "frames, two bytes"),
        ("web", "tiny chunks"),
        ("web", "livez, pipelined"),
        ("web", "bodies"),
        ("gateway", "models, pipelined"),
        ("gateway", "tiny chunks"),
        ("gateway", "bodies closed together"),
    ],
)
def test_a_death_is_noticed_at_once_while_strangers_keep_the_pages_busy(steady, where, name):
    with attacked(where, name, steady.web_port if where == "web" else steady.gateway_port):
        for _ in range(ROUNDS):
            run = steady.wait_for("it is ready", lambda: ready(steady))
            psutil.Process(run["pid"]).kill()
            steady.wait_for("its successor", lambda old=run["id"]: newest(steady)["id"] > old)
    assert steady.wait_for("ready in the end", lambda: ready(steady))
    lives = steady.query("SELECT exit_code, signal FROM supervisor_app_run WHERE ended_at IS NOT NULL")
    assert {(life["exit_code"], life["signal"]) for life in lives} == {(None, 9)}, "one was ended by us"
