"""What goes wrong around it: a locked database, a server that babbles, a log that grows."""

from __future__ import annotations

import psutil
import pytest

from tests.acceptance.conftest import ENGINE_ARGS

MEGABYTE = 2**20


# --- The database is locked ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def locked_out(make_shared, engine, model):
    """The server crashed while another program kept the database locked, for longer than anybody waits."""
    proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS)
    proxy.before = proxy.start().wait_for_status("ready")["pid"]
    with proxy.events() as events, proxy.locked_database():
        psutil.Process(proxy.before).kill()
        proxy.wait_for_line("✅ [LLAMA] Service ready", times=2)
        proxy.after = events.wait_for_new_pid(proxy.before)["pid"]
        proxy.page = proxy.get("/").status_code
        proxy.wait_for_line("❌ [STORE]")
    proxy.wait_for_line("[STORE] The database answers again")
    return proxy


def test_with_a_locked_database_it_recovers_and_pages_are_told(locked_out):
    assert [process.pid for process in locked_out.engines()] == [locked_out.after]
    assert locked_out.after != locked_out.before


def test_with_a_locked_database_the_page_is_still_served(locked_out):
    assert locked_out.page == 200


def test_the_console_complains_once(locked_out):
    assert len(locked_out.said("Supervision goes on; the state is saved as soon as it can be.")) == 1


def test_once_the_database_is_free_the_history_is_complete(locked_out):
    first, second = locked_out.runs()
    assert (first["pid"], first["failure_kind"]) == (locked_out.before, "killed_by_signal")
    assert (second["pid"], second["ended_at"]) == (locked_out.after, None)
    assert second["ready_at"]


def test_once_the_database_is_free_the_state_is_saved(locked_out):
    assert locked_out.status()["pid"] == locked_out.after


# --- The server babbles --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def babbling(make_shared):
    """A llama-server that wrote a line of 1 MB and invalid UTF-8, and then died."""
    proxy = make_shared(max_retries=0)
    proxy.script("--fake-log-garbage", "--fake-exit-after-ready", "0")
    proxy.start().wait_for_status("error")
    return proxy


def test_a_line_of_a_megabyte_is_kept_in_the_log_as_it_came(babbling):
    assert (babbling.data_dir / "logs" / "default.log").stat().st_size > MEGABYTE


def test_the_last_lines_in_the_history_are_bounded(babbling):
    (run,) = babbling.runs()
    assert 0 < len(run["last_lines"]) < 50 * 2001


def test_the_page_survives_what_a_server_babbles(babbling):
    answer = babbling.get("/")
    assert answer.status_code == 200
    assert len(answer.content) < MEGABYTE


def test_the_api_survives_what_a_server_babbles(babbling):
    answer = babbling.get("/api/servers/default/")
    assert answer.json()["status"] == "error"
    assert len(answer.content) < 10_000


# --- The log grows -------------------------------------------------------------------------------------


def test_a_log_that_grows_is_rotated_and_only_so_many_are_kept(proxy):
    logs = proxy.data_dir / "logs"
    log = logs / "default.log"
    pid = proxy.start(web=False).wait_for_status("ready")["pid"]
    for number in range(1, 10):
        (logs / f"default.log.{number}").write_text(f"was {number}")
    with log.open("ab") as file:
        file.write(b"x" * 12 * MEGABYTE)
    proxy.wait_for("the log is cut", lambda: log.stat().st_size < MEGABYTE)
    proxy.wait_for("a copy", lambda: (logs / "default.log.1").stat().st_size >= 10 * MEGABYTE)
    assert (logs / "default.log.9").read_text() == "was 8"
    assert len(list(logs.iterdir())) == 10
    assert proxy.status()["pid"] == pid
