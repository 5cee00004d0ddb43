"""A server that goes down comes back by itself, with growing patience, or says that it gave up."""

from __future__ import annotations

import re
import signal
import sys
from datetime import datetime

import psutil
import pytest

from tests.acceptance.harness import FAKE

CRASH = "crash-while-this-exists"


@pytest.fixture
def crash_loop(fake):
    """A llama-server that ends at once, again and again, as long as a file is there."""
    (fake.directory / CRASH).touch()
    fake.script("--fake-crash-file", CRASH)
    return fake.start()


# --- One crash -----------------------------------------------------------------------------------------


def test_after_kill_9_it_is_ready_again_in_a_new_process(ready):
    pid = ready.status()["pid"]
    psutil.Process(pid).kill()
    assert ready.wait_for_new_pid(pid)["pid"] in psutil.pids()


def test_between_the_two_it_is_crashed_and_says_when_it_tries_again(ready):
    with ready.events() as events:
        psutil.Process(events.wait_for_status("ready")["pid"]).kill()
        crashed = events.wait_for_status("crashed")
        assert datetime.fromisoformat(crashed["nextRetryAt"])
        assert crashed["retries"] == 1
        assert crashed["pid"] is None


def test_a_crash_is_explained(ready):
    with ready.events() as events:
        psutil.Process(events.wait_for_status("ready")["pid"]).kill()
        crashed = events.wait_for_status("crashed")
    assert crashed["failure"]["kind"] == "killed_by_signal"
    assert crashed["lastError"].endswith("(retry 1/5)")


def test_the_default_wait_before_the_first_retry_is_a_second(ready):
    psutil.Process(ready.status()["pid"]).kill()
    ready.wait_for_line("🔄 Retry 1/5 in 1000ms")


def test_a_crash_closes_one_run_and_opens_the_next(ready):
    pid = ready.status()["pid"]
    psutil.Process(pid).kill()
    ready.wait_for_new_pid(pid)
    first, second = ready.runs()
    assert (first["signal"], first["failure_kind"]) == (signal.SIGKILL, "killed_by_signal")
    assert (second["retry"], second["ended_at"]) == (1, None)


def test_the_retry_counter_falls_back_once_it_is_stable(proxy):
    proxy.configure(retry_backoff_ms=50, stable_after_ms=1500)
    pid = proxy.start().wait_for_status("ready")["pid"]
    psutil.Process(pid).kill()
    proxy.wait_for_status("ready", retries=1)
    proxy.wait_for_status("ready", retries=0)


# --- Crash after crash ---------------------------------------------------------------------------------


def test_the_wait_doubles_with_each_retry_until_it_gives_up(crash_loop):
    crash_loop.wait_for_status("error")
    waits = re.findall(r"🔄 Retry (\d)/5 in (\d+)ms", crash_loop.console)
    assert waits == [("1", "50"), ("2", "100"), ("3", "200"), ("4", "400"), ("5", "800")]


def test_used_up_retries_end_in_an_error_that_says_what_to_do(crash_loop):
    status = crash_loop.wait_for_status("error", retries=5)
    assert "Gave up after 5 retries" in status["detail"]
    assert crash_loop.said("[ERROR] ❌ [LLAMA]")[-1].count("start it by hand") == 1


def test_the_wait_never_exceeds_its_cap(fake):
    (fake.directory / CRASH).touch()
    fake.script("--fake-crash-file", CRASH, max_backoff_ms=100, max_retries=3)
    fake.start().wait_for_status("error")
    assert re.findall(r"🔄 Retry \d/3 in (\d+)ms", fake.console) == ["50", "100", "100"]


def test_after_giving_up_llama_start_brings_it_back(crash_loop):
    crash_loop.wait_for_status("error")
    (crash_loop.directory / CRASH).unlink()
    crash_loop.llama("start")
    crash_loop.wait_for_status("ready", retries=0)


def test_every_life_is_in_the_history(crash_loop):
    crash_loop.wait_for_status("error")
    crash_loop.wait_for("six closed runs", lambda: [run["exit_code"] for run in crash_loop.runs()] == [1] * 6)


def test_a_crash_loop_that_ends_is_left_behind(fake):
    (fake.directory / CRASH).touch()
    fake.script("--fake-crash-file", CRASH, max_backoff_ms=400, max_retries=1000)
    fake.start().wait_for_line("🔄 Retry 3/1000")
    (fake.directory / CRASH).unlink()
    fake.wait_for_status("ready")


# --- Alive but of no use -------------------------------------------------------------------------------

IMPATIENT = {"health_check_interval_ms": 100, "health_check_timeout_ms": 500, "stop_grace_ms": 200}
HANGS = ["--fake-load-seconds", "3600", "--fake-hang-while-loading"]


def test_a_hung_server_is_ended_and_replaced(proxy):
    proxy.configure(**IMPATIENT)
    pid = proxy.start().wait_for_status("ready")["pid"]
    psutil.Process(pid).suspend()
    proxy.wait_for_new_pid(pid)
    assert pid not in psutil.pids()


def test_a_hung_server_is_said_to_have_hung(proxy):
    proxy.configure(**IMPATIENT)
    proxy.start().wait_for_status("ready")
    with proxy.events() as events:
        psutil.Process(events.wait_for_status("ready")["pid"]).suspend()
        assert events.wait_for_status("crashed")["failure"]["kind"] == "hung"


def test_a_server_that_never_answers_was_never_ready(fake):
    fake.script(*HANGS, max_health_checks=5, max_retries=0, **IMPATIENT)
    assert fake.start().wait_for_status("error")["failure"]["kind"] == "never_ready"


def test_a_server_that_never_answers_is_ended(fake):
    fake.script(*HANGS, max_health_checks=5, max_retries=0, **IMPATIENT)
    fake.start().wait_for_status("error")
    fake.wait_for("it is gone", lambda: not fake.engines())


def test_loading_for_longer_than_the_checks_allow_is_no_failure(fake):
    fake.script("--fake-load-seconds", "2", max_health_checks=5, health_check_interval_ms=100)
    fake.start().wait_for_status("ready", retries=0)


def test_loading_is_shown(fake):
    fake.script("--fake-load-seconds", "3")
    fake.start().wait_for_status("starting", detail="Loading the model.")


def test_loading_has_its_own_limit(fake):
    fake.script("--fake-load-seconds", "3600", max_load_seconds=1, max_retries=0, stop_grace_ms=200)
    failure = fake.start().wait_for_status("error")["failure"]
    assert failure["kind"] == "never_ready"
    assert "still loading" in failure["detail"]


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace(fake):
    fake.script("--fake-ignore-sigterm", stop_grace_ms=200)
    pid = fake.start().wait_for_status("ready")["pid"]
    fake.llama("stop")
    fake.wait_for_status("initial")
    assert fake.said("It did not end in time: SIGKILL")
    assert pid not in psutil.pids()


def test_a_model_list_that_fails_does_not_stop_it(fake):
    fake.script("--fake-models-status", "500")
    assert fake.start().wait_for_status("ready")["models"] == []
    assert fake.said("[WARN] ⚠️ [LLAMA] Its models could not be read")


# --- One that we have not started ----------------------------------------------------------------------


def test_an_adopted_server_that_hangs_is_replaced_by_our_own(fake):
    fake.configure(**IMPATIENT)
    port = fake.engine_port
    other = fake.beside(sys.executable, str(FAKE), "--port", str(port), port=port)
    fake.start().wait_for_status("ready", adopted=True, pid=other.pid)
    other.signal(signal.SIGSTOP)
    fake.wait_for_status("ready", adopted=False)
    assert not other.alive
