"""A server that goes down comes back by itself, with growing patience, or says that it gave up.

What takes long is done once, by a fixture for the whole file; each test looks at one fact of it.
"""

from __future__ import annotations

import re
import signal
import sys
from datetime import datetime

import psutil
import pytest

from tests.acceptance.children import FAKE
from tests.acceptance.conftest import ENGINE_ARGS

CRASH = "crash-while-this-exists"
CRASHES = ["--fake-crash-file", CRASH]
IMPATIENT = {
    "health_check_interval_ms": 100,
    "health_check_timeout_ms": 500,
    "stop_grace_ms": 200,
    "retry_backoff_ms": 100,
}


# --- One crash -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recovered(make_shared, engine, model):
    """A real server was killed and came back. `.before` and `.after` are its pids, `.told` the events."""
    proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS)
    proxy.before = proxy.start().wait_for_status("ready")["pid"]
    with proxy.events() as events:
        psutil.Process(proxy.before).kill()
        proxy.after = events.wait_for_new_pid(proxy.before)["pid"]
        proxy.told = events.messages
    return proxy


def test_a_server_that_was_killed_is_ready_again_in_a_new_process(recovered):
    assert recovered.after != recovered.before
    assert [process.pid for process in recovered.engines()] == [recovered.after]


def test_a_crashed_server_says_when_the_next_try_is(recovered):
    crashed = next(event["data"] for event in recovered.told if event["data"]["status"] == "crashed")
    assert datetime.fromisoformat(crashed["nextRetryAt"])
    assert (crashed["retries"], crashed["pid"]) == (1, None)


def test_a_crash_is_explained(recovered):
    crashed = next(event["data"] for event in recovered.told if event["data"]["status"] == "crashed")
    assert crashed["failure"]["kind"] == "killed_by_signal"
    assert crashed["lastError"].endswith("(retry 1/5)")


def test_the_default_wait_before_the_first_retry_is_a_second(recovered):
    assert len(recovered.said("[WARN] Process exited with code null signal")) == 1
    assert len(recovered.said("[INFO] 🔄 Retry 1/5 in 1000ms")) == 1


def test_crashed_starting_ready_are_told_in_this_order(fake):
    fake.script("--fake-load-seconds", "1")
    fake.configure(
        retry_backoff_ms=1000
    )  # so long it is crashed: of states that pass at once the last is told
    pid = fake.start().wait_for_status("ready")["pid"]
    with fake.events() as events:
        psutil.Process(pid).kill()
        events.wait_for_new_pid(pid)
    statuses = [status for status, _ in events.story]
    assert statuses[0] == "ready"
    assert list(dict.fromkeys(statuses[1:])) == ["crashed", "starting", "ready"]


def test_the_retry_counter_falls_back_once_a_server_is_stable(proxy):
    proxy.configure(retry_backoff_ms=50, stable_after_ms=1500)
    pid = proxy.start(web=False).wait_for_status("ready")["pid"]
    psutil.Process(pid).kill()
    proxy.wait_for_new_pid(pid)
    proxy.wait_for_status("ready", retries=0)
    assert [run["retry"] for run in proxy.runs()] == [0, 1]


# --- Crash after crash ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gave_up(make_shared):
    """A server that ended at once, again and again, until its retries were used up."""
    proxy = make_shared(retry_backoff_ms=50)
    (proxy.directory / CRASH).touch()
    proxy.script(*CRASHES)
    proxy.start(web=False).wait_for_status("error")
    return proxy


def test_the_wait_doubles_with_each_retry(gave_up):
    waits = re.findall(r"🔄 Retry (\d)/5 in (\d+)ms", gave_up.console)
    assert waits == [("1", "50"), ("2", "100"), ("3", "200"), ("4", "400"), ("5", "800")]


def test_used_up_retries_end_in_an_error_that_says_what_to_do(gave_up):
    status = gave_up.status()
    assert (status["status"], status["retries"]) == ("error", 5)
    assert "Gave up after 5 retries: press Start to try again." in status["detail"]


def test_the_console_says_that_the_supervisor_gave_up(gave_up):
    assert len(gave_up.said("Gave up after 5 retries; start it by hand.")) == 1


def test_every_life_is_in_the_history(gave_up):
    assert [(run["retry"], run["exit_code"]) for run in gave_up.runs()] == [(retry, 1) for retry in range(6)]


def test_llama_start_brings_back_a_server_that_was_given_up(fake):
    (fake.directory / CRASH).touch()
    fake.script(*CRASHES, max_retries=1)
    fake.start(web=False).wait_for_status("error")
    (fake.directory / CRASH).unlink()
    fake.llama("start")
    fake.wait_for_status("ready", retries=0)


def test_a_crash_loop_that_ends_is_left_behind_and_never_waits_longer_than_the_cap(fake):
    (fake.directory / CRASH).touch()
    fake.script(*CRASHES, max_backoff_ms=150, max_retries=1000)
    fake.start(web=False).wait_for_line("🔄 Retry 4/1000 in 150ms")
    (fake.directory / CRASH).unlink()
    fake.wait_for_status("ready")


# --- Alive but of no use -------------------------------------------------------------------------------


def test_loading_for_longer_than_the_checks_allow_is_no_failure(fake):
    fake.script("--fake-load-seconds", "5", max_health_checks=40, health_check_interval_ms=100)
    fake.start(web=False).wait_for_status("starting", detail="Loading the model.")
    fake.wait_for_status("ready", retries=0)


def test_a_model_list_that_fails_is_a_warning_and_an_empty_list(fake):
    fake.script("--fake-models-status", "500")
    assert fake.start(web=False).wait_for_status("ready")["models"] == []
    assert fake.said("[WARN] ⚠️ [LLAMA] Its models could not be read")


def test_an_adopted_server_that_hangs_is_replaced_by_our_own(fake):
    fake.configure(**IMPATIENT)
    port = fake.engine_port
    other = fake.beside(sys.executable, str(FAKE), "--port", str(port), port=port)
    fake.start(web=False).wait_for_status("ready", adopted=True, pid=other.pid)
    other.signal(signal.SIGSTOP)
    fake.wait_for_status("ready", adopted=False)
    assert not other.alive
