"""Pages and supervisor in processes of their own, with Redis between them: a convenience that may be lost."""

from __future__ import annotations

import shutil

import psutil
import pytest
import redis

from tests.acceptance.conftest import ENGINE_ARGS
from tests.deadline import DEADLINE
from tests.ports import free_port

pytestmark = pytest.mark.redis

FORGIVING = {"retry_backoff_ms": 300, "stable_after_ms": 500}
NUDGES = "llamaproxy.supervisor.local"


class RedisServer:
    """One that can be killed and started again on the same port."""

    def __init__(self, proxy):
        self._proxy = proxy
        self._binary = shutil.which("redis-server") or pytest.skip("install redis-server")
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self):
        flags = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--port", str(self.port)]
        self.process = self._proxy.beside(self._binary, *flags, port=self.port)

    def client(self):
        return redis.Redis(port=self.port, socket_timeout=DEADLINE)


class Overheard:
    """All that passes through a Redis from now on."""

    def __init__(self, server):
        self._client = server.client()
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("*")
        self._pubsub.get_message(timeout=DEADLINE)
        self.messages = []

    def drain(self):
        while message := self._pubsub.get_message(timeout=0.05):
            self.messages.append((message["channel"].decode(), message["data"]))
        return self.messages

    def pushed(self, event):
        """Was this event published by the supervisor, or made up by the pages from the database?"""
        return any(str(event["timestamp"]).encode() in data for _, data in self.drain())

    def nudged(self):
        return any(channel == NUDGES for channel, _ in self.drain())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._pubsub.close()
        self._client.close()


def start_spread(proxy):
    """Redis, supervisor and pages, each in its process."""
    server = RedisServer(proxy)
    proxy.env["REDIS_URL"] = server.url
    proxy.start(web=False)
    proxy.start_web()
    proxy.wait_for_status("ready")
    return server


def crash(proxy):
    pid = proxy.status()["pid"]
    psutil.Process(pid).kill()
    return proxy.wait_for_new_pid(pid)["pid"]


# --- With Redis ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spread(make_shared, engine, model):
    proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS, **FORGIVING)
    proxy.redis = start_spread(proxy)
    return proxy


def test_a_push_of_the_supervisor_arrives_at_the_sockets_of_the_pages(spread):
    with spread.events() as events, Overheard(spread.redis) as overheard:
        events.next()
        crash(spread)
        spread.wait_for("a pushed event", lambda: overheard.pushed(events.next()))


def test_a_command_nudges_the_supervisor(spread):
    with Overheard(spread.redis) as overheard, spread.redis.client() as client:
        spread.wait_for("it listens", lambda: client.pubsub_numsub(NUDGES)[0][1])
        pid = spread.status()["pid"]
        spread.llama("restart")
        spread.wait_for("a nudge", overheard.nudged)
        spread.wait_for_new_pid(pid)


def test_the_end_of_the_supervisor_is_told_to_sockets_elsewhere(proxy):
    start_spread(proxy)
    with proxy.events() as events:
        events.wait_for_status("ready")
        assert proxy.stop() == 0
        events.wait_for_status("initial")
