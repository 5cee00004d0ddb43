"""The gateway in processes of its own: what else is restarted, it goes on; and it ends without cutting anybody."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest
import requests

from tests.acceptance.children import DEADLINE, listens
from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.gateway.askers import QUESTION, STREAMS, WHOLE, events, nobody, wait_until_busy
from tests.acceptance.gateway.conftest import RECOVERS_FAST

UNREACHABLE = "192.0.2.1:8001"
"""An address for examples (RFC 5737): not this machine's, so nothing ever listens there."""


class Stream:
    """A streamed answer that is read as it comes. `tokens`: their numbers; `error`: the event that ended it."""

    def __init__(self, proxy, tokens=10**6):
        self.proxy = proxy
        self.tokens = []
        self.error = None
        self.is_whole = False
        body = {"prompt": QUESTION, "n_predict": tokens, "ignore_eos": True, "stream": True}
        self._answer = requests.post(
            f"{proxy.gateway_url}/completion", json=body, stream=True, timeout=DEADLINE
        )
        self._reader = threading.Thread(target=self._read)

    def __enter__(self):
        self._reader.start()
        return self

    def __exit__(self, *_):
        self._answer.raw.shutdown()
        self.wait()
        self._answer.close()

    def wait(self):
        """Until it ends."""
        self._reader.join(DEADLINE)
        assert not self._reader.is_alive(), "it goes on"

    def goes_on(self):
        """Wait for more of it."""
        enough = len(self.tokens) + 5
        self.proxy.wait_for("more words", lambda: len(self.tokens) >= enough)

    @property
    def has_gaps(self):
        return self.tokens != list(range(1, len(self.tokens) + 1))

    def _read(self):
        try:
            for event in events(self._answer.iter_lines()):
                if "error" in event:
                    self.error = event["error"]
                elif not event["stop"]:
                    self.tokens.append(event["tokens_predicted"])
            self.is_whole = True
        except (requests.RequestException, AttributeError):
            """It broke off, or it was shut down by us."""


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
        llama_server_args=[*ENGINE_ARGS, "-c", "65536", "-np", "4"],
        **RECOVERS_FAST,
    )
    proxy.start(web=False).wait_for_status("ready")
    proxy.web = proxy.start_web()
    return proxy


# --- The others are restarted ----------------------------------------------------------------------------


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
        seen.after_web = stream.error
        for number in (signal.SIGUSR1, signal.SIGKILL):
            seen_at = apart.status()["seen_at"]
            apart.stop(number)
            seen.meanwhile = WHOLE["raw"].ask(apart.gateway_url, nobody)
            apart.start(web=False)
            apart.wait_for(
                "the next supervisor", lambda seen_at=seen_at: apart.status()["seen_at"] != seen_at
            )
            stream.goes_on()
        seen.stream = stream
        seen.pid_now = apart.wait_for_status("ready")["pid"]
    return seen


def test_restarting_web_and_supervisor_does_not_cut_a_stream(outlived):
    assert outlived.stream.error is None
    assert not outlived.stream.has_gaps
    assert outlived.pid_now == outlived.pid


def test_while_no_supervisor_runs_requests_are_answered(outlived):
    assert outlived.meanwhile == WHOLE["raw"].told


# --- The gateway ends ------------------------------------------------------------------------------------


def test_a_gateway_that_is_asked_to_end_finishes_its_streams_and_takes_no_more(apart):
    with gateway(apart) as child, Stream(apart, tokens=300) as stream:
        stream.goes_on()
        child.signal(signal.SIGTERM)
        apart.wait_for("it listens no more", lambda: not listens(apart.gateway_port))
        assert not stream.is_whole
        stream.wait()
        assert (stream.is_whole, stream.error, stream.has_gaps) == (True, None, False)
        assert child.wait() == 0
    assert apart.said("👋 [GATEWAY] Finishing 1 request, for up to 30 s")


@pytest.mark.parametrize(("options", "signals"), [(["--grace", "0.3"], 1), ([], 2)], ids=["grace", "twice"])
def test_a_stream_that_it_cannot_finish_fails_for_its_reader(apart, options, signals):
    with gateway(apart, *options) as child, Stream(apart) as stream:
        stream.goes_on()
        for _ in range(signals):
            child.signal(signal.SIGTERM)
            apart.wait_for("it listens no more", lambda: not listens(apart.gateway_port))
        stream.wait()
        assert child.wait() == 0
    assert not stream.is_whole
    assert (stream.error["code"], stream.error["retryable"]) == ("gateway_stopping", True)


# --- Several workers -------------------------------------------------------------------------------------


def workers(proxy):
    """The processes that listen."""
    found = set()
    for process in proxy.family():
        for connection in process.net_connections("tcp"):
            if (connection.laddr.port, connection.status) == (proxy.gateway_port, psutil.CONN_LISTEN):
                found.add(process.pid)
    return found


def test_several_workers_share_the_address_and_one_that_dies_is_replaced(apart):
    with gateway(apart, "--workers", "2") as child:
        first = apart.wait_for("two listen", lambda: (_found := workers(apart)) if len(found) == 2 else ())
        asker = WHOLE["raw"]
        with ThreadPoolExecutor(8) as pool:
            told = [pool.submit(asker.ask, apart.gateway_url, nobody) for _ in range(8)]
            wait_until_busy(apart, 4)
            psutil.Process(apart.status()["pid"]).kill()
            assert [one.result(DEADLINE) for one in told] == [asker.told] * 8
        psutil.Process(min(first)).kill()
        apart.wait_for("two listen again", lambda: len(workers(apart) - {min(first)}) == 2)
        assert STREAMS["raw"].ask(apart.gateway_url, nobody) == STREAMS["raw"].told
        child.signal(signal.SIGTERM)
        assert child.wait() == 0


# --- Who may listen where --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["rungateway", "--bind"], ["runsupervisor", "--gateway"]], ids=lambda one: one[0]
)
def test_without_a_key_it_does_not_open_itself_to_the_network(make_proxy, command):
    proxy = make_proxy()
    done = proxy.manage(*command, UNREACHABLE)
    assert done.returncode == 2
    assert "there is no API key yet: everybody could use your models" in done.stderr
    assert "--insecure-open" in done.stderr


def test_with_insecure_open_it_would(make_proxy):
    done = make_proxy().manage("rungateway", "--bind", UNREACHABLE, "--insecure-open")
    assert done.returncode == 2
    assert f"The gateway cannot listen on {UNREACHABLE}" in done.stderr


def test_an_address_that_is_taken_is_said(apart):
    with gateway(apart):
        done = apart.manage("rungateway", "--bind", f"127.0.0.1:{apart.gateway_port}")
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
