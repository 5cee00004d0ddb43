"""The log of a real process, also when its file is taken away or the disk is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor_app.core.machine.open_log import MOVED, REMOVED, OpenLog
from tests.integration.spawning import fake_spec, until_async


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is played by /dev/full")
async def test_a_full_disk_keeps_nobody_from_starting(started, processes):
    log = processes.log_file("default").path
    log.parent.mkdir()
    log.symlink_to("/dev/full")
    assert (await started(fake_spec())).identity is not None


@pytest.mark.parametrize(
    ("do", "trouble"),
    [
        (lambda path: path.unlink(), REMOVED),
        (lambda path: path.rename(path.with_name("default.log.1")), MOVED),
        (lambda path: (path.rename(path.with_name("elsewhere")), path.touch()), MOVED),
    ],
)
async def test_a_log_that_is_taken_away_is_reported_read_and_kept_within_its_bounds(
    processes, started, do, trouble
):
    process = await started(fake_spec("--fake-flood", "100"))
    assert await process.log_trouble() == ""
    do(processes.log_file("default").path)
    assert await process.log_trouble() == trouble
    log = processes.open_log("default")
    await until_async(lambda: processes.trim_log("default"))
    process.kill()
    await process.wait()
    while await processes.trim_log("default"):
        pass
    assert log.position <= log.log.max_bytes
    assert processes.log_file("default").path.with_name("default.log.1").exists()
    assert await process.log_trouble() == trouble


async def test_lines_of_a_server_in_a_removed_log_are_known_after_its_end(processes, started):
    process = await started(fake_spec("--fake-stderr-line", "hello from the engine"))
    processes.log_file("default").path.unlink()
    process.kill()
    await process.wait()
    assert "hello from the engine" in await process.last_lines(5)
    process.forget()
    assert await process.last_lines(5) == []


async def test_the_next_supervisor_finds_process_and_log_of_a_server_whose_log_was_removed(
    processes, started
):
    spec = fake_spec("--fake-stderr-line", "hello from the engine")
    process = await started(spec)
    processes.log_file("default").path.unlink()
    holder = await processes.find_ours("default")
    assert holder.identity == process.identity
    adopted = await processes.adopt("default", holder, spec)
    assert "hello from the engine" in await adopted.last_lines(5)
    assert await adopted.log_trouble() == REMOVED
    adopted.forget()


async def test_a_log_is_kept_within_its_bounds(processes, tmp_path):
    log = processes.log_file("default")
    with log.open() as file:
        file.truncate(log.max_bytes + 1)
    assert await processes.trim_log("default")
    assert log.size() == 0
    assert not await processes.trim_log("default")
    assert not (log.path.parent / "default.log.2").exists()


async def test_a_log_that_cannot_be_held_open_keeps_no_server_from_starting(processes, monkeypatch):
    monkeypatch.setattr(OpenLog, "of", lambda *_: None)
    process = await processes.spawn("default", fake_spec())
    assert process.identity is not None
    process.kill()
    await process.wait()
