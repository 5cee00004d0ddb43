"""The end: of llama-server with its supervisor, and of a supervisor without its llama-server."""

from __future__ import annotations

import signal

import psutil
import pytest

from tests.acceptance.harness import generating

SHAPES = pytest.mark.parametrize("web", [True, False], ids=["web", "no-web"])
SIGNALS = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


# --- Gracefully ----------------------------------------------------------------------------------------


@SHAPES
@SIGNALS
def test_a_signal_stops_llama_server_and_exits_0(proxy, number, web):
    pid = proxy.start(web=web).wait_for_status("ready")["pid"]
    assert proxy.stop(number) == 0
    assert pid not in psutil.pids()


@SHAPES
def test_the_last_state_is_initial_and_says_why(proxy, web):
    proxy.start(web=web).wait_for_status("ready")
    proxy.stop()
    (state,) = proxy.query("SELECT * FROM supervisor_app_serverstate")
    assert (state["status"], state["pid"]) == ("initial", None)
    assert "The supervisor was stopped." in state["detail"]


def test_the_run_ends_without_a_failure(ready):
    ready.stop()
    (run,) = ready.runs()
    assert run["ended_at"]
    assert run["failure_kind"] == ""


def test_an_open_socket_is_told_before_it_closes(ready):
    with ready.events() as events:
        events.wait_for_status("ready")
        ready.supervisor.signal(signal.SIGTERM)
        events.until_closed()
        assert events.statuses[-1] == "initial"


@pytest.mark.parametrize("moment", ["starting", "crashed", "error"])
def test_a_signal_ends_it_in_any_state(fake, moment):
    """Also where there is no server to stop."""
    flags = ["--fake-load-seconds", "3600"] if moment == "starting" else ["--fake-exit-after-ready", "0"]
    retries = 0 if moment == "error" else 5
    fake.script(*flags, max_retries=retries, retry_backoff_ms=30_000)
    fake.start().wait_for_status(moment)
    assert fake.stop() == 0
    assert not fake.engines()


def test_a_signal_before_anything_runs_ends_it(proxy):
    proxy.start().wait_for_line("[WEB]")
    assert proxy.stop() == 0
    assert not proxy.family()


@SHAPES
def test_a_stream_in_flight_holds_the_end_up_for_the_grace_only(proxy, engine, web):
    """A real llama-server waits for its clients, for ever."""
    proxy.configure(stop_grace_ms=500, llama_server_args=["-c", "512", "-t", "1", "--context-shift"])
    pid = proxy.start(web=web).wait_for_status("ready")["pid"]
    with generating(proxy.engine_port):
        assert proxy.stop() == 0
    assert pid not in psutil.pids()


@SHAPES
def test_a_second_signal_forces_the_end_at_once(fake, web):
    fake.script("--fake-ignore-sigterm", stop_grace_ms=600_000)
    pid = fake.start(web=web).wait_for_status("ready")["pid"]
    fake.supervisor.signal(signal.SIGTERM)
    fake.wait_for_status("stopping")
    assert fake.stop() == 0
    assert fake.said("Asked again: ending at once")
    assert pid not in psutil.pids()


def test_the_children_of_a_llama_server_end_with_it(fake):
    fake.script("--fake-child")
    fake.start().wait_for_status("ready")
    assert len(fake.engines()) == 2
    fake.stop()
    assert not fake.engines()


def test_the_children_of_a_crashed_llama_server_do_not_survive_it(fake):
    fake.script("--fake-child", max_retries=0)
    pid = fake.start().wait_for_status("ready")["pid"]
    psutil.Process(pid).kill()
    fake.wait_for_status("error")
    assert not fake.engines()


# --- Killed --------------------------------------------------------------------------------------------


@pytest.fixture
def orphan(ready):
    """A proxy whose supervisor was killed; `.pid` is that of the llama-server that it left."""
    ready.pid = ready.status()["pid"]
    ready.supervisor.kill()
    return ready


def test_llama_server_outlives_a_killed_supervisor(orphan):
    import requests

    assert requests.get(f"http://127.0.0.1:{orphan.engine_port}/health", timeout=30).ok


def test_the_next_supervisor_takes_it_over(orphan):
    orphan.start().wait_for_status("ready", pid=orphan.pid)
    assert len(orphan.said("Spawning llama-server")) == 1


def test_what_we_spawned_before_does_not_count_as_adopted(orphan):
    assert orphan.start().wait_for_status("ready", pid=orphan.pid)["adopted"] is False


def test_its_run_continues(orphan):
    orphan.start().wait_for_status("ready", pid=orphan.pid)
    (run,) = orphan.runs()
    assert (run["pid"], run["ended_at"]) == (orphan.pid, None)


def test_its_uptime_continues(orphan):
    (before,) = orphan.runs()
    started = orphan.start().wait_for_status("ready", pid=orphan.pid)["startedAt"]
    assert started[:19] == before["started_at"].replace(" ", "T")[:19]


def test_the_supervisor_that_took_it_over_stops_it_in_the_end(orphan):
    orphan.start().wait_for_status("ready", pid=orphan.pid)
    assert orphan.stop() == 0
    assert not orphan.engines()


def test_the_supervisor_that_took_it_over_restarts_it_after_a_crash(orphan):
    orphan.start().wait_for_status("ready", pid=orphan.pid)
    psutil.Process(orphan.pid).kill()
    orphan.wait_for_new_pid(orphan.pid)


def test_one_that_died_unseen_is_replaced(orphan):
    psutil.Process(orphan.pid).kill()
    orphan.start().wait_for_new_pid(orphan.pid)
    first, _ = orphan.runs()
    assert "while no supervisor was watching" in first["failure_detail"]


def test_a_config_that_changed_meanwhile_restarts_it(orphan):
    orphan.configure(llama_server_args=["-c", "256", "-t", "1"])
    status = orphan.start().wait_for_new_pid(orphan.pid)
    assert "-c 256" in " ".join(psutil.Process(status["pid"]).cmdline())
