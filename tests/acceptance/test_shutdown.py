"""The end: of llama-server with its supervisor, and of a supervisor without its llama-server."""

from __future__ import annotations

import signal
import time

import psutil
import pytest

from tests.acceptance.clients import generating
from tests.acceptance.conftest import ENGINE_ARGS

SHAPES = pytest.mark.parametrize("web", [True, False], ids=["web", "no-web"])
SIGNALS = pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=["SIGTERM", "SIGINT", "SIGHUP"]
)


NOHUP = """
import runpy, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# --- Gracefully ----------------------------------------------------------------------------------------


@SHAPES
@SIGNALS
def test_a_signal_stops_llama_server_and_exits_0(proxy, number, web):
    pid = proxy.start(web=web).wait_for_status("ready")["pid"]
    assert proxy.stop(number) == 0
    assert not psutil.pid_exists(pid)


@SHAPES
def test_a_terminal_that_closes_says_so_twice_and_nothing_is_hurried(fake, web):
    """The kernel tells the process group, the shell tells its jobs."""
    fake.script("--fake-ignore-sigterm", stop_grace_ms=1500)
    fake.start(web=web).wait_for_status("ready")
    fake.supervisor.signal(signal.SIGHUP)
    fake.wait_for_line("Stopping")
    fake.supervisor.signal(signal.SIGHUP)
    assert fake.supervisor.wait() == 0
    assert "ending at once" not in fake.console


@SHAPES
def test_with_nohup_a_terminal_may_close(fake, web):
    nohup = fake.directory / "nohup.py"
    nohup.write_text(NOHUP)
    fake.start(web=web, through=[str(nohup)], loaded=True).wait_for_status("ready")
    fake.supervisor.signal(signal.SIGHUP)
    assert fake.status()["status"] == "ready"
    assert fake.stop() == 0
    assert fake.said("Stopping")


@pytest.fixture(scope="module")
def stopped(make_shared, engine, model):
    proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS)
    proxy.start().wait_for_status("ready")
    proxy.stop()
    return proxy


def test_the_last_state_is_initial_and_says_why(stopped):
    (state,) = stopped.query("SELECT * FROM supervisor_app_serverstate")
    assert (state["status"], state["pid"]) == ("initial", None)
    assert "The supervisor was stopped." in state["detail"]


def test_a_run_that_was_asked_to_end_has_no_failure(stopped):
    (run,) = stopped.runs()
    assert run["ended_at"]
    assert (run["failure_kind"], run["exit_code"]) == ("", 0)


def test_an_open_socket_is_told_before_it_closes(fake):
    fake.script("--fake-ignore-sigterm", stop_grace_ms=1000)
    fake.start().wait_for_status("ready")
    with fake.events() as events:
        events.wait_for_status("ready")
        fake.supervisor.signal(signal.SIGTERM)
        events.until_closed()
    assert [status for status, _ in events.story] == ["ready", "stopping", "initial"]


@SHAPES
def test_signals_up_to_the_very_end_are_no_traceback(fake, web):
    """Which `fake` looks for when it is closed."""
    supervisor = fake.start(web=web).supervisor
    fake.wait_for_status("ready")
    while supervisor.alive:
        supervisor.signal(signal.SIGTERM)
        time.sleep(0.005)
    assert supervisor.wait() == 0
    assert not fake.engines()


@pytest.mark.parametrize("moment", ["starting", "crashed", "error"])
def test_a_signal_ends_a_supervisor_that_has_no_server_to_stop(fake, moment):
    flags = ["--fake-load-seconds", "3600"] if moment == "starting" else ["--fake-exit-after-ready", "0"]
    fake.script(*flags, max_retries=0 if moment == "error" else 5, retry_backoff_ms=30_000)
    fake.start(web=False).wait_for_status(moment)
    assert fake.stop() == 0
    assert not fake.engines()


def test_a_signal_ends_a_supervisor_that_is_coming_up(proxy):
    proxy.start().wait_for_line("[WEB]")
    proxy.stop()
    assert not proxy.family()


@SHAPES
def test_a_stream_in_flight_holds_up_the_end_for_the_grace_only(proxy, engine, web):
    """A real llama-server waits for its clients, for ever."""
    proxy.configure(stop_grace_ms=500, llama_server_args=["-c", "512", "-t", "1", "--context-shift"])
    pid = proxy.start(web=web).wait_for_status("ready")["pid"]
    with generating(proxy.engine_port, proxy.engine_headers):
        assert proxy.stop() == 0
    assert not psutil.pid_exists(pid)


@SHAPES
def test_a_second_signal_forces_the_end_at_once(fake, web):
    fake.script("--fake-ignore-sigterm", stop_grace_ms=600_000)
    pid = fake.start(web=web).wait_for_status("ready")["pid"]
    fake.supervisor.signal(signal.SIGTERM)
    fake.wait_for_status("stopping")
    assert fake.stop() == 0
    assert fake.said("Asked again: ending at once")
    assert not psutil.pid_exists(pid)


def test_the_children_of_a_llama_server_end_with_it(fake):
    fake.script("--fake-child")
    fake.start(web=False).wait_for_status("ready")
    assert len(fake.engines()) == 2
    fake.stop()
    assert not fake.engines()


# --- Killed --------------------------------------------------------------------------------------------


@pytest.fixture
def orphan(proxy):
    """A proxy whose supervisor was killed; `.pid` is that of the llama-server that it left."""
    proxy.pid = proxy.start(web=False).wait_for_status("ready")["pid"]
    proxy.supervisor.kill()
    return proxy


@pytest.fixture(scope="module")
def taken_over(make_shared, engine, model):
    """The same, after the next supervisor has found it; `.started_at` is from before."""
    proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS)
    before = proxy.start(web=False).wait_for_status("ready")
    proxy.supervisor.kill()
    proxy.pid, proxy.started_at = before["pid"], before["started_at"]
    proxy.start(web=False).wait_for_line("✅ [LLAMA] Service ready", times=2)
    return proxy


def test_llama_server_outlives_a_killed_supervisor(orphan):
    with generating(orphan.engine_port, orphan.engine_headers):
        psutil.Process(orphan.pid).kill()


def test_the_next_supervisor_takes_a_running_server_over(taken_over):
    taken_over.wait_for_status("ready", pid=taken_over.pid)
    assert len(taken_over.said("Spawning llama-server")) == 1


def test_a_server_that_we_spawned_before_does_not_count_as_adopted(taken_over):
    assert not taken_over.status()["adopted"]


def test_the_run_of_a_server_taken_over_continues(taken_over):
    (run,) = taken_over.runs()
    assert (run["pid"], run["ended_at"]) == (taken_over.pid, None)


def test_the_uptime_of_a_server_taken_over_continues(taken_over):
    assert taken_over.status()["started_at"] == taken_over.started_at


def test_the_supervisor_that_took_a_server_over_stops_it_in_the_end(orphan):
    orphan.start(web=False).wait_for_line("✅ [LLAMA] Service ready", times=2)
    assert orphan.stop() == 0
    assert not orphan.engines()


def test_the_supervisor_that_took_a_server_over_restarts_it_after_a_crash(orphan):
    orphan.configure(retry_backoff_ms=100)
    orphan.start(web=False).wait_for_line("✅ [LLAMA] Service ready", times=2)
    psutil.Process(orphan.pid).kill()
    orphan.wait_for_new_pid(orphan.pid)


def test_a_server_that_died_unseen_is_replaced(orphan):
    psutil.Process(orphan.pid).kill()
    orphan.start(web=False).wait_for_new_pid(orphan.pid)
    first, _ = orphan.runs()
    assert "while no supervisor was watching" in first["failure_detail"]


def test_a_configuration_that_changed_meanwhile_restarts_the_server(orphan):
    orphan.configure(llama_server_args=["-c", "256", "-t", "1"])
    status = orphan.start(web=False).wait_for_new_pid(orphan.pid)
    assert "-c 256" in " ".join(psutil.Process(status["pid"]).cmdline())


# A planned upgrade


@pytest.mark.parametrize("web", [True, False])
@pytest.mark.parametrize("way", ["--keep-servers", "SIGUSR1"])
def test_a_supervisor_can_go_and_leave_its_servers_to_the_next(proxy, web, way):
    options = [way] if way == "--keep-servers" else []
    pid = proxy.start(*options, web=web).wait_for_status("ready")["pid"]
    assert proxy.stop(signal.SIGTERM if options else signal.SIGUSR1) == 0
    assert psutil.Process(pid).is_running()
    proxy.start(web=web).wait_for_line("✅ [LLAMA] Service ready", times=2)
    assert proxy.wait_for_status("ready")["pid"] == pid
    assert len(proxy.runs()) == 1
