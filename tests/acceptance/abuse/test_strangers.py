"""Another user of the machine listens where llama-server should: it gets nothing of ours."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress

import psutil
import pytest
import requests

from tests.acceptance.abuse.impostor import SOMEBODY, impostor, needs_root
from tests.acceptance.conftest import ENGINE_ARGS
from tests.deadline import DEADLINE

pytestmark = needs_root
KEY = "sk-secret-of-the-server"
SECRET = "what only the server may read"


def ask(proxy, **options):
    body = {"prompt": SECRET, "n_predict": 4}
    return requests.post(f"{proxy.gateway_url}/completion", json=body, timeout=DEADLINE, **options)


@contextmanager
def many_requests(proxy):
    """Clients that go on asking, whatever they get. Yields what they got."""
    over, got = threading.Event(), []

    def go_on():
        while not over.is_set():
            with suppress(requests.RequestException):
                got.append(ask(proxy).text)

    clients = [threading.Thread(target=go_on) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        yield got
    finally:
        over.set()
        for client in clients:
            client.join(DEADLINE)


def test_a_stranger_is_neither_taken_over_nor_told_anything(fake, tmp_path):
    fake.configure(llama_api_key=KEY)
    with impostor("127.0.0.1", fake.engine_port, tmp_path) as stranger:
        stranger.wait()
        status = fake.start().wait_for_status("error")
        assert status["failure"]["kind"] == "port_taken"
        assert f"pid {stranger.process.pid}" in status["failure"]["detail"]
        assert f"uid {SOMEBODY}" in status["failure"]["detail"]
        assert "llama_server_users" in status["failure"]["hint"]
        assert stranger.heard == []
    fake.wait_for_status("ready")


def test_a_server_of_a_user_whom_people_have_named_is_taken_over(fake, tmp_path):
    fake.configure(llama_server_users=[SOMEBODY])
    with impostor("127.0.0.1", fake.engine_port, tmp_path) as friend:
        friend.wait()
        status = fake.start().wait_for_status("ready")
        assert (status["adopted"], status["pid"]) == (True, friend.process.pid)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stranger_between_a_crash_and_the_restart_gets_nothing(make_proxy, tmp_path, workers):
    proxy = make_proxy(retry_backoff_ms=1500, llama_api_key=KEY)
    proxy.script("--fake-token-seconds", "0.01", "--metrics")
    proxy.start(*(["--no-gateway"] if workers else []))
    if workers:
        proxy.start_gateway("--workers", str(workers))
    old = proxy.wait_for_status("ready")["pid"]
    proxy.wait_for("an answer", lambda: ask(proxy).ok)
    with impostor("127.0.0.1", proxy.engine_port, tmp_path) as stranger, many_requests(proxy) as got:
        os.kill(old, signal.SIGKILL)
        stranger.wait()
        proxy.wait_for("it is told", lambda: proxy.status().get("failure"))
        requests.get(f"{proxy.gateway_url}/metrics", timeout=DEADLINE)
        proxy.wait_for_status("error")
        assert stranger.heard == []
        stranger.end()
        proxy.wait_for_new_pid(old)
    assert not [text for text in got if "stolen" in text]
    assert (stranger.met, stranger.heard) == (0, [])


def both_families(proxy, directory):
    """Let `localhost` be ::1 and 127.0.0.1, for what this proxy starts."""
    hosts = directory / "hosts"
    hosts.write_text("::1 localhost\n127.0.0.1 localhost\n")
    proxy.before = ("unshare", "--mount", "sh", "-c", f'mount --bind {hosts} /etc/hosts && exec "$@"', "sh")


@pytest.mark.parametrize("address", ["::1", "127.0.0.1"])
def test_the_other_address_of_localhost_gets_nothing(make_proxy, tmp_path, engine, model, address):
    proxy = make_proxy(
        llama_model_path=str(model), llama_server_args=[*ENGINE_ARGS, "--metrics"], llama_api_key=KEY
    )
    proxy.configure(llama_server_host="localhost")
    both_families(proxy, tmp_path)
    with impostor(address, proxy.engine_port, tmp_path) as stranger:
        stranger.wait()
        proxy.start().wait_for_status("ready")
        for _ in range(5):
            assert ask(proxy).ok
        assert "llamacpp:" in requests.get(f"{proxy.gateway_url}/metrics", timeout=DEADLINE).text
        assert stranger.heard == []
        assert stranger.met == 0


def test_a_stranger_that_comes_later_to_the_other_address_gets_nothing(make_proxy, tmp_path, engine, model):
    proxy = make_proxy(llama_model_path=str(model), llama_server_args=ENGINE_ARGS, llama_api_key=KEY)
    proxy.configure(llama_server_host="localhost")
    both_families(proxy, tmp_path)
    old = proxy.start().wait_for_status("ready")["pid"]
    taken = [address for address in ("::1", "127.0.0.1") if address not in listening(proxy.engine_port)]
    with impostor(taken[0], proxy.engine_port, tmp_path) as stranger:
        stranger.wait()
        assert ask(proxy).ok
        os.kill(old, signal.SIGKILL)
        proxy.wait_for_new_pid(old)
        assert ask(proxy).ok
        assert stranger.met == 0


def listening(port):
    return {each.laddr.ip for each in psutil.net_connections("tcp") if each.laddr and each.laddr.port == port}
