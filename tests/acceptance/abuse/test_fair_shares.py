"""One client asks for all there is, of places in the queue and of connections: others are served all the same."""

from __future__ import annotations

import resource
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import requests

from tests.acceptance.gateway.askers import MODEL
from tests.acceptance.gateway.conftest import make_keys
from tests.deadline import DEADLINE

GREEDY = 24
MAX_QUEUE = 8
CONNECTIONS = 4096
"""That a process of the gateway keeps."""


def ask(url, key):
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"Authorization": f"Bearer {key}"}
    return requests.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=DEADLINE)


@pytest.fixture(params=["one process", "workers"])
def shared(make_proxy, request):
    """Slow, with one slot, and two keys; `.keys` are theirs."""
    proxy = make_proxy(max_queue=MAX_QUEUE, max_concurrent=1)
    proxy.script("--fake-token-seconds", "0.05")
    proxy.keys = make_keys(proxy, {"greedy": {}, "modest": {}})
    proxy.processes = 2 if request.param == "workers" else 1
    if request.param == "workers":
        proxy.start("--no-gateway").wait_for_status("ready")
        proxy.start_gateway("--workers", "2")
    else:
        proxy.start().wait_for_status("ready")
    return proxy


def test_a_key_that_fills_the_queue_takes_nobody_elses_turn(shared):
    with ThreadPoolExecutor(GREEDY + 1) as pool:
        greedy = [pool.submit(ask, shared.gateway_url, shared.keys["greedy"]) for _ in range(GREEDY)]
        shared.wait_for("the queue is full", lambda: any(asking.done() for asking in greedy))
        for _ in range(3):
            assert ask(shared.gateway_url, shared.keys["modest"]).status_code == 200
        statuses = [asking.result().status_code for asking in greedy]
    assert set(statuses) == {200, 429}


def test_idle_connections_of_strangers_keep_nobody_out(shared):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    number = shared.processes * CONNECTIONS + 200
    if hard != resource.RLIM_INFINITY and hard < number + 500:
        pytest.skip(f"needs {number} sockets, may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number + 500), hard))
    try:
        with ExitStack() as stack:
            for _ in range(number):
                stranger = stack.enter_context(
                    socket.create_connection(("127.0.0.1", shared.gateway_port), DEADLINE)
                )
                stranger.send(b"POST /v1/chat/comp")
            assert ask(shared.gateway_url, shared.keys["modest"]).status_code == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
