"""The gateway in processes of its own: what else is restarted, it goes on; and it ends without cutting anybody."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import psutil
import pytest

from tests.acceptance.children import listens
from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.askers import STREAMS, WHOLE, nobody
from tests.acceptance.gateway.conftest import LONG, RECOVERS_FAST
from tests.acceptance.gateway.watching import Stream, wait_until_busy
from tests.deadline import DEADLINE

UNREACHABLE = "192.0.2.1:8001"
"""An address for examples (RFC 5737): not this machine's, so nothing ever listens there."""


@contextmanager
def gateway(proxy, *options):
    child = proxy.start_gateway(*options)
    try:
        yield child
    finally:
        if child.alive:
            child.signal(signal.SIGTERM)
            child.wait()


@pytest.fixture(scope="module")
def apart(make_shared, engine, counting_model):
    """A supervisor and the pages, each in a process of its own; no gateway yet."""
    proxy = make_shared(
        llama_model_path=str(counting_model),
        llama_server_args=[*ENGINE_ARGS, *LONG],
        **RECOVERS_FAST,
    )
    proxy.start(web=False).wait_for_status("ready")
    proxy.web = proxy.start_web()
    return proxy


# --- The others are restarted ----------------------------------------------------------------------------


def looks(proxy):
    """Return when a supervisor looked last."""
    return proxy.query("SELECT seen_at FROM supervisor_app_serverstate")


@pytest.fixture(scope="module")
def outlived(apart):
    """A stream during which everything else was restarted."""
    seen = SimpleNamespace(pid=apart.status()["pid"])
    with gateway(apart), Stream(apart) as stream:
        stream.goes_on()
        apart.web.signal(signal.SIGTERM)
        apart.web.wait()
        apart.start_web()
        stream.goes_on()
        apart.stop(signal.SIGKILL)
        last = looks(apart)
        seen.meanwhile = WHOLE["raw"].ask(apart.gateway_url, nobody)
        apart.start(web=False)
        apart.wait_for("the next supervisor", lambda: looks(apart) != last)
        stream.goes_on()
        seen.stream = stream
        seen.pid_now = apart.wait_for_status("ready")["pid"]
    return seen


def test_restarting_web_and_supervisor_does_not_cut_a_stream(outlived):
    assert outlived.stream.error is None
    assert outlived.pid_now == outlived.pid


def test_while_no_supervisor_runs_requests_are_answered(outlived):
    assert outlived.meanwhile == WHOLE["raw"].told


# --- The gateway ends ------------------------------------------------------------------------------------


def test_a_gateway_that_is_asked_to_end_finishes_its_streams_and_takes_no_more(apart):
    with apart.recording() as records, gateway(apart) as child, Stream(apart, tokens=300) as stream:
        stream.goes_on()
        child.signal(signal.SIGTERM)
        apart.wait_for("it listens no more", lambda: not listens(apart.gateway_port))
        assert stream.tokens is None
        stream.wait()
        assert (stream.tokens, stream.error) == (300, None)
        assert child.wait() == 0
    assert apart.said("👋 [GATEWAY] Finishing 1 request, for up to 30 s")
    assert (records[0]["outcome"], records[0]["generated_tokens"]) == ("ok", 300)


@pytest.mark.parametrize(("options", "signals"), [(["--grace", "0.3"], 1), ([], 2)], ids=["grace", "twice"])
def test_a_stream_that_an_ending_gateway_cannot_finish_fails_for_its_reader(apart, options, signals):
    with gateway(apart, *options) as child, Stream(apart) as stream:
        stream.goes_on()
        for _ in range(signals):
            child.signal(signal.SIGTERM)
            apart.wait_for("it listens no more", lambda: not listens(apart.gateway_port))
        stream.wait()
        assert child.wait() == 0
    assert stream.tokens is None
    assert (stream.error["code"], stream.error["retryable"]) == ("gateway_stopping", True)


# --- Several workers -------------------------------------------------------------------------------------


def workers(proxy, *gone):
    """The two processes that listen, none of them `gone`; empty while there are not two."""
    found = set()
    for process in proxy.family():
        with suppress(psutil.Error):
            ports = {
                one.laddr.port for one in process.net_connections("tcp") if one.status == psutil.CONN_LISTEN
            }
            if proxy.gateway_port in ports:
                found.add(process.pid)
    return found if len(found) == 2 and found.isdisjoint(gone) else set()


def test_several_workers_share_the_address_and_one_that_dies_is_replaced(apart):
    with gateway(apart, "--workers", "2") as child:
        one = min(apart.wait_for("two listen", lambda: workers(apart)))
        asker = WHOLE["raw"]
        with ThreadPoolExecutor(8) as pool:
            told = [pool.submit(asker.ask, apart.gateway_url, nobody) for _ in range(8)]
            wait_until_busy(apart, 4)
            psutil.Process(apart.status()["pid"]).kill()
            assert [answer.result(DEADLINE) for answer in told] == [asker.told] * 8
        psutil.Process(one).kill()
        apart.wait_for("two listen again", lambda: workers(apart, one))
        assert STREAMS["raw"].ask(apart.gateway_url, nobody) == STREAMS["raw"].told
        child.signal(signal.SIGTERM)
        assert child.wait() == 0


# --- Who may listen where --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["rungateway", "--bind"], ["runsupervisor", "--gateway"]], ids=lambda one: one[0]
)
def test_a_gateway_without_a_key_does_not_open_itself_to_the_network(make_proxy, command):
    proxy = make_proxy()
    done = proxy.manage(*command, UNREACHABLE)
    assert done.returncode == 2
    assert "there is no API key yet: everybody could use your models" in done.stderr
    assert "--insecure-open" in done.stderr


def test_insecure_open_lets_the_gateway_listen_to_the_network_without_a_key(make_proxy):
    done = make_proxy().manage("rungateway", "--bind", UNREACHABLE, "--insecure-open")
    assert done.returncode == 2
    assert f"The gateway cannot listen on {UNREACHABLE}" in done.stderr
