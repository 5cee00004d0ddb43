"""What goes wrong around a server and its supervisor: the disk, the database, the clock, other processes."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.faults.checker import Expected
from tests.acceptance.faults.outage import KILLED, QUICK, admitted, check_that_all_is_well, killed
from tests.filesystems import small_filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTE = 2**20
CLOCK = str(Path(__file__).with_name("shifted_clock.py"))
UNSEEN = Expected(status="ready", died_of="unknown", says=("Serving 1 model on",))
"""A server of whose last process nobody knows the end."""


# --- The disk is full ----------------------------------------------------------------------------------


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """Fill a filesystem to the last byte."""
    ballast = directory / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    yield
    ballast.unlink()


@pytest.fixture(scope="module")
def cramped(make_shared, installed):
    """A server that floods its log was killed on a full disk; then there was room, but not for all of its log."""
    proxy = make_shared(**QUICK)
    proxy.script("--fake-flood", "8", "--fake-while", str(proxy.directory / "default-is-ill"))
    with small_filesystem(proxy.data_dir, 16):
        shutil.copytree(installed, proxy.data_dir, dirs_exist_ok=True)
        proxy.start().wait_for_line("[WEB]")
        with admitted(proxy) as patient:
            with filled(proxy.data_dir):
                patient.marker.touch()
                killed(patient)
                patient.log_when_full = patient.log.stat().st_size
            proxy.wait_for_line("[STORE] The database answers again")
            proxy.wait_for_line("[LOGS]")
            patient.marker.unlink()
            proxy.wait_for("the log is cut", lambda: patient.log.stat().st_size < 10 * MEGABYTE)
            yield patient


def test_on_a_full_disk_a_server_that_crashed_comes_back(cramped):
    check_that_all_is_well(cramped)


def test_on_a_full_disk_the_log_does_not_grow(cramped):
    assert cramped.log_when_full < MEGABYTE


@pytest.mark.parametrize(
    "complaint",
    [
        "Supervision goes on; the state is saved as soon as it can be.",
        "The log of default was cut and could not be kept: [Errno 28] No space left on device",
    ],
)
def test_each_consequence_of_a_full_disk_is_told_once(cramped, complaint):
    assert len(cramped.proxy.said(complaint)) == 1


def test_once_there_is_room_again_the_history_is_complete(cramped):
    cramped.check_history(KILLED)


# --- The database comes from a backup, and the process table has moved on ------------------------------


def copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as database, closing(sqlite3.connect(target)) as copy:
        database.backup(copy)


@pytest.fixture(scope="module")
def restored(make_shared, engine, model):
    """A proxy whose process is younger than its database, in which `.stranger` has its pid by now."""
    proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS, **QUICK)
    database, backup = proxy.data_dir / "db.sqlite3", proxy.directory / "backup.sqlite3"
    old = proxy.start(web=False).wait_for_status("ready")["pid"]
    copy_database(database, backup)
    psutil.Process(old).kill()
    alive = proxy.wait_for_new_pid(old)["pid"]
    proxy.supervisor.kill()
    stranger = subprocess.Popen(["sleep", "3600"])
    try:
        for path in proxy.data_dir.glob("db.sqlite3*"):
            path.unlink()
        copy_database(backup, database)
        proxy.write(f"UPDATE supervisor_app_run SET pid = {stranger.pid}")
        proxy.write(f"UPDATE supervisor_app_serverstate SET pid = {stranger.pid}")
        proxy.start().wait_for_line("✅ [LLAMA] Service ready", times=3)
        with admitted(proxy) as patient:
            patient.alive, patient.stranger = alive, stranger
            yield patient
    finally:
        stranger.kill()
        stranger.wait()


def test_with_a_database_from_a_backup_the_server_goes_on(restored):
    assert restored.pid == restored.alive
    check_that_all_is_well(restored)


def test_with_a_database_from_a_backup_the_history_admits_what_nobody_saw(restored):
    restored.check_history(UNSEEN)
    assert "while no supervisor was watching" in restored.runs[0]["failure_detail"]


def test_a_process_with_the_pid_of_an_old_server_is_left_alone(restored):
    assert restored.proxy.stop() == 0
    assert restored.stranger.poll() is None


# --- One supervisor with pages, to which all the rest happens ------------------------------------------


@pytest.fixture(scope="module")
def house(make_shared, engine, model):
    """`.set_clock` moves its clock by so many seconds."""
    proxy = make_shared(llama_model_path=str(model), llama_server_args=ENGINE_ARGS, **QUICK)
    offset = proxy.directory / "offset"

    def set_clock(seconds: int) -> None:
        draft = offset.with_suffix(".draft")
        draft.write_text(str(seconds))
        draft.replace(offset)

    proxy.set_clock = set_clock
    set_clock(0)
    proxy.start(through=[CLOCK, str(offset)]).wait_for_line("[WEB]")
    return proxy


# A second supervisor


@pytest.fixture(scope="module")
def doubled(house):
    with admitted(house) as patient:
        patient.code = house.run("runsupervisor", "--no-web").wait()
        yield patient


def test_a_second_supervisor_of_the_node_is_exit_4_naming_the_first(doubled):
    assert doubled.code == 4
    (line,) = doubled.proxy.said("Another supervisor holds node 'local'")
    assert f"pid {doubled.proxy.supervisor.pid}." in line


def test_a_second_supervisor_changes_nothing(doubled):
    doubled.check_that_nothing_happened(Expected(status="ready", says=("Serving 1 model on",)))
    check_that_all_is_well(doubled)


# A log that grows


def test_a_log_that_grows_is_rotated_and_only_so_many_are_kept(house):
    with admitted(house) as patient:
        older = [patient.log.with_name(f"default.log.{number}") for number in range(1, 10)]
        for path in older:
            path.write_text(f"was {path.name}")
        with patient.log.open("ab") as file:
            file.write(b"x" * 13 * MEGABYTE)
        house.wait_for("the log is cut", lambda: patient.log.stat().st_size < MEGABYTE)
        house.wait_for("a copy", lambda: older[0].stat().st_size == 10 * MEGABYTE)
        assert older[-1].read_text() == "was default.log.8"
        check_that_all_is_well(patient)


# A clock that is set


@pytest.fixture(scope="module")
def jumped(house):
    """The clock went an hour ahead and it crashed, two hours back and it crashed again."""
    with admitted(house) as patient:
        for seconds in (3600, -3600):
            house.set_clock(seconds)
            killed(patient)
        yield patient


def test_whatever_the_clock_says_a_crash_is_told_and_overcome(jumped):
    check_that_all_is_well(jumped)


def test_whatever_the_clock_says_the_history_is_complete(jumped):
    jumped.check_history(KILLED)


def test_no_life_is_shorter_than_nothing(jumped):
    lives = jumped.proxy.get(f"/api/servers/{jumped.name}/runs/").json()["runs"]
    assert [life["uptime"] for life in lives if life["uptime"] < 0] == []


def test_whatever_the_clock_says_the_supervisor_counts_as_there(jumped):
    page = f"/servers/{jumped.name}/"
    alone = "No supervisor is reporting"
    jumped.proxy.wait_for("somebody reports", lambda: alone not in jumped.proxy.get(page).text)


# A database that is locked


@pytest.fixture(scope="module")
def locked_out(house):
    """A proxy that crashed while another program kept the database locked, for longer than anybody waits."""
    with admitted(house) as patient:
        with house.locked_database():
            killed(patient)
            patient.page = house.get("/").status_code
            house.wait_for_line("❌ [STORE]")
        house.wait_for_line("[STORE] The database answers again")
        yield patient


def test_a_server_recovers_with_a_locked_database_and_pages_are_told(locked_out):
    check_that_all_is_well(locked_out)


def test_with_a_locked_database_the_page_is_still_served(locked_out):
    assert locked_out.page == 200


def test_the_console_complains_once_of_a_locked_database(locked_out):
    said = locked_out.proxy.said("Supervision goes on; the state is saved as soon as it can be.")
    assert len(said) == 1


def test_once_the_database_is_free_the_history_is_complete(locked_out):
    locked_out.check_history(KILLED)
