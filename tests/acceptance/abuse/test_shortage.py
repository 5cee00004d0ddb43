"""What we lack ourselves is never held against a server: descriptors, time to run, disks, threads."""

from __future__ import annotations

import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.acceptance.clients import generating
from tests.ports import free_port

SURROUNDINGS = str(Path(__file__).with_name("surroundings.py"))


def in_surroundings(*options: str) -> tuple[str, ...]:
    return (SURROUNDINGS, *options, "--")


def limit_of(pid: int) -> tuple[int, int]:
    return resource.prlimit(pid, resource.RLIMIT_NOFILE)


@contextmanager
def starved(proxy):
    """Leave the supervisor without a descriptor, whatever keeps clients from taking them all."""
    assert proxy.get("/").ok  # the templates of a page are read with the first one
    pid = proxy.supervisor.pid
    soft, hard = limit_of(pid)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def two_heartbeats(proxy) -> None:
    """Wait until the supervisor has written twice that it is there: for five seconds at least, ten at most."""
    seen = set()

    def look() -> bool:
        seen.update(
            row["renewed_at"] for row in proxy.query("SELECT renewed_at FROM supervisor_app_nodelease")
        )
        return len(seen) > 2

    proxy.wait_for("heartbeats", look)


def lives(proxy) -> list[tuple[int, bool]]:
    return [(run["pid"], run["ended_at"] is None) for run in proxy.runs()]


def test_no_descriptors_left_is_no_miss_of_the_server(proxy):
    proxy.configure(health_check_interval_ms=200, health_check_timeout_ms=1000, stall_seconds=1)
    proxy.start("--no-gateway").wait_for_status("ready")
    (life,) = lives(proxy)
    with starved(proxy):
        proxy.wait_for_line("no file descriptor left")
        two_heartbeats(proxy)  # several times what three missed checks take
    proxy.wait_for_line("llamaproxy can look at it again")
    proxy.wait_for_status("ready")
    assert lives(proxy) == [life]
    proxy.stop()


def test_a_server_that_crashes_while_no_descriptor_is_left_comes_back(proxy):
    proxy.configure(health_check_interval_ms=200, retry_backoff_ms=100)
    proxy.start("--no-gateway")
    old = proxy.wait_for_status("ready")["pid"]
    with starved(proxy):
        proxy.wait_for_line("no file descriptor left")
        psutil.Process(old).kill()
        two_heartbeats(proxy)
    proxy.wait_for_new_pid(old)
    assert [run["retry"] for run in proxy.runs()][-1] == 1, "its own crash is all that counts"
    proxy.stop()


def test_the_supervisor_raises_its_limit_of_files_and_not_that_of_its_servers(proxy):
    through = in_surroundings("--files", "300", "--files-at-most", "4000")
    status = proxy.start(through=through).wait_for_status("ready")
    assert limit_of(proxy.supervisor.pid) == (4000, 4000)
    assert limit_of(status["pid"]) == (300, 4000)


@pytest.fixture
def patient(proxy):
    """A server that is soon thought to hang."""
    proxy.configure(
        health_check_interval_ms=300, health_check_timeout_ms=500, max_health_checks=10, stall_seconds=3
    )
    return proxy


@contextmanager
def frozen(*processes, seconds=12.0):
    """All at once, for longer than any deadline: `docker pause`, a snapshot of a virtual machine."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
        time.sleep(seconds)  # what they miss is the time
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def everybody(proxy) -> list[psutil.Process]:
    return [psutil.Process(proxy.supervisor.pid), *proxy.engines()]


def test_after_a_pause_of_both_and_one_with_work_in_flight_the_server_goes_on(patient):
    status = patient.start().wait_for_status("ready")
    with frozen(*everybody(patient)):
        pass
    two_heartbeats(patient)
    assert lives(patient) == [(status["pid"], True)]
    with generating(patient.engine_port, patient.engine_headers), frozen(*everybody(patient)):
        pass
    two_heartbeats(patient)
    assert lives(patient) == [(status["pid"], True)]
    patient.wait_for_status("ready")


def test_after_a_pause_a_start_goes_on(fake):
    fake.script("--fake-load-seconds", "8")
    fake.configure(health_check_interval_ms=300, max_health_checks=10, max_load_seconds=10)
    fake.start().wait_for_status("starting")
    fake.wait_for("it was spawned", fake.engines)
    with frozen(*everybody(fake)):
        pass
    fake.wait_for_status("ready")
    assert len(lives(fake)) == 1


def test_a_server_that_stays_frozen_is_replaced(patient):
    """Only the supervisor wakes up."""
    old = patient.start().wait_for_status("ready")["pid"]
    with frozen(psutil.Process(patient.supervisor.pid)):
        psutil.Process(old).send_signal(signal.SIGSTOP)
    assert patient.wait_for_new_pid(old)


@pytest.fixture
def sick_disk(proxy):
    """Eight servers have their models on a disk that dies; `default` has not."""
    marker = proxy.directory / "the-disk-is-dead"
    dead = proxy.directory / "dead"
    dead.mkdir()
    model = dead / "model.gguf"
    model.write_bytes(Path(proxy.config["llama_model_path"]).read_bytes())
    for number in range(8):
        port = free_port()
        args = ["-c", "512", "-t", "1"]
        proxy.server(f"s{number}", port=port, model_path=str(model), args=args, max_retries=2)
    proxy.start(through=in_surroundings("--dead-disk", str(marker)))
    proxy.wait_for("all are ready", lambda: all_ready(proxy))
    marker.touch()
    proxy.marker = marker
    return proxy


def all_ready(proxy, number=9) -> bool:
    states = proxy.query("SELECT status FROM supervisor_app_serverstate")
    return [state["status"] for state in states] == ["ready"] * number


def test_a_dead_disk_of_others_holds_no_server_up(sick_disk):
    proxy = sick_disk
    for process in proxy.engines():
        if "/dead/" in " ".join(process.cmdline()):
            process.kill()
    old = proxy.status()["pid"]
    proxy.wait_for("they are started again", lambda: len(proxy.said("Spawning")) > 9)
    psutil.Process(old).kill()
    proxy.wait_for_new_pid(old)
    assert proxy.get("/").status_code == 200
    assert proxy.stop() == 0


def test_a_supervisor_without_anywhere_to_write_to_runs(proxy):
    proxy.start(through=in_surroundings("--no-output")).wait_for_status("ready")
    assert proxy.stop() == 0


@pytest.mark.parametrize("utf8", ["0", ""])
def test_a_path_that_the_locale_cannot_write_is_a_path(proxy, utf8):
    folder = proxy.directory / "modèles-日本"
    folder.mkdir()
    model = folder / "modèle.gguf"
    model.write_bytes(Path(proxy.config["llama_model_path"]).read_bytes())
    proxy.configure(llama_model_path=str(model))
    proxy.env |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": utf8}
    proxy.start().wait_for_status("ready")
    assert proxy.stop() == 0


def test_without_a_thread_to_spare_servers_are_still_looked_after(proxy):
    marker = proxy.directory / "no-threads"
    proxy.configure(health_check_interval_ms=300, retry_backoff_ms=100)
    through = in_surroundings("--no-threads", str(marker))
    status = proxy.start(through=through, loaded=True).wait_for_status("ready")
    marker.touch()
    two_heartbeats(proxy)
    assert lives(proxy) == [(status["pid"], True)]
    marker.unlink()
    proxy.wait_for_status("ready")
