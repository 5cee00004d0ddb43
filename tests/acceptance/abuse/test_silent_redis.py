"""Redis goes silently, as with a host that loses its power: every role goes on, hears again, and can be ended."""

from __future__ import annotations

import signal
from contextlib import closing

import psutil
import pytest
import requests

from tests.acceptance.test_redis import Overheard, RedisServer
from tests.deadline import DEADLINE
from tests.swallowing import SwallowingProxy

pytestmark = pytest.mark.redis


@pytest.fixture
def spread(fake):
    """Supervisor, pages and gateway, each in its process; between them and Redis is `link`."""
    fake.configure(stable_after_ms=500)
    fake.redis = RedisServer(fake)
    with closing(SwallowingProxy(fake.redis.port)) as link:
        fake.link = link
        fake.env["REDIS_URL"] = f"redis://127.0.0.1:{link.port}/0"
        fake.start(web=False)
        fake.wait_for_line("Service ready")
        fake.roles = [fake.supervisor, fake.start_web(), fake.start_gateway()]
        fake.wait_for_status("ready")
        yield fake


def crash(proxy):
    pid = proxy.status()["pid"]
    psutil.Process(pid).kill()
    return proxy.wait_for_new_pid(pid)


def test_every_role_goes_on_without_a_silent_redis_and_hears_it_when_it_is_back(spread):
    with spread.events() as events:
        events.next()
        spread.link.swallow()
        for _ in range(3):
            seen = crash(spread)
            assert events.wait_for_new_pid(-1)["pid"]
            assert requests.get(f"{spread.gateway_url}/health", timeout=DEADLINE).ok
            assert seen["status"] == "ready"
        spread.wait_for_line("The channel layer is away")
        spread.link.pass_again()
        with Overheard(spread.redis) as overheard:

            def pushed():
                crash(spread)
                return any(overheard.pushed(event) for event in told(events))

            spread.wait_for("a push of the supervisor arrives at a page", pushed)


def told(events):
    """Return what has been told by now."""
    found = []
    while True:
        try:
            found.append(events.next(0.5))
        except TimeoutError:
            return found


def test_a_signal_ends_every_role_while_redis_is_silent(spread):
    with spread.events() as events:
        events.next()
        spread.link.swallow()
        crash(spread)
    for child in spread.roles:
        child.signal(signal.SIGTERM)
    assert [child.wait() for child in spread.roles] == [0, 0, 0]
