"""A server's output: bounded, and readable whatever it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor_app.core.machine.logs import MAX_LINE, LogFile, split_lines


@pytest.fixture
def log(tmp_path):
    return LogFile(path=tmp_path / "logs" / "default.log", max_bytes=1000, keep=3)


def write(log: LogFile, data: bytes) -> None:
    with log.open() as file:
        file.write(data)


def test_the_last_lines_oldest_first(log):
    write(log, b"".join(b"line %d\n" % number for number in range(10)))
    assert log.tail(3) == ["line 7", "line 8", "line 9"]


def test_only_what_came_since_this_life_began(log):
    write(log, b"older\n")
    since = log.size()
    write(log, b"newer\n")
    assert log.tail(50, since) == ["newer"]


def test_a_file_that_was_cut_meanwhile_is_read_from_its_start(log):
    write(log, b"after the cut\n")
    assert log.tail(50, since=10_000) == ["after the cut"]


def test_no_file_no_lines(log):
    assert log.tail(50) == []
    assert log.size() == 0


def test_a_line_of_a_megabyte_and_invalid_utf8_do_no_harm(log):
    write(log, b"x" * 1_000_000 + b"\n\xff\xfe broken \x00 bytes\r\nlast\n")
    lines = log.tail(50)
    assert lines[-1] == "last"
    assert lines[-2] == "�� broken  bytes"
    assert all(len(line) <= MAX_LINE for line in lines)


def test_a_line_without_its_beginning_is_not_taken_for_a_whole_one(log):
    write(log, b"a prompt that says CUDA error: x\nlast\n")
    assert log.tail(50, since=19) == ["…CUDA error: x", "last"]
    assert log.tail(50, since=33) == ["last"]


def test_progress_written_over_itself_becomes_lines():
    assert split_lines(b"10 %\r20 %\r\n\n30 %") == ["10 %", "20 %", "30 %"]


def test_a_small_log_is_left_alone(log):
    write(log, b"x" * 1000)
    assert not log.rotate_if_large()


def test_a_large_log_is_cut_under_its_writer_and_the_older_ones_are_kept_in_number(log):
    with log.open() as writer:
        for number in range(5):
            writer.write(b"%d" % number * 1001)
            writer.flush()
            assert log.rotate_if_large()
        writer.write(b"goes on\n")
        writer.flush()
    assert log.tail(50) == ["goes on"]
    names = sorted(path.name for path in log.path.parent.iterdir())
    assert names == ["default.log", "default.log.1", "default.log.2"]
    assert (log.path.parent / "default.log.1").read_bytes()[:1] == b"4"


def test_a_log_that_keeps_no_older_one_is_only_cut(log):
    alone = LogFile(path=log.path, max_bytes=10, keep=1)
    write(alone, b"x" * 11)
    assert alone.rotate_if_large()
    assert [path.name for path in log.path.parent.iterdir()] == ["default.log"]


def test_a_log_that_cannot_be_copied_is_cut_all_the_same(log):
    two = LogFile(path=log.path, max_bytes=1000, keep=2)
    write(two, b"x" * 1001)
    (log.path.parent / "default.log.1").mkdir()
    with pytest.raises(OSError, match=r"default\.log"):
        two.rotate_if_large()
    assert two.size() == 0


def test_a_copy_that_failed_leaves_nothing_behind(log, monkeypatch):
    def fails(*_):
        raise OSError(28, "No space left on device")

    write(log, b"x" * 1001)
    monkeypatch.setattr(Path, "chmod", fails)
    with pytest.raises(OSError, match="No space left"):
        log.rotate_if_large()
    assert [path.name for path in log.path.parent.iterdir()] == ["default.log"]
    assert log.size() == 0


def test_a_rotation_that_was_killed_is_done_by_the_next_one(log):
    six = LogFile(path=log.path, max_bytes=1000, keep=6)
    write(six, b"x" * 1001)
    older = [log.path.with_name(f"default.log.{number}") for number in range(1, 6)]
    for path in (older[0], older[1], older[3], older[4]):  # the third has been moved on
        path.write_text(path.name)
    log.path.with_name("default.log.part").write_text("half")
    assert six.rotate_if_large()
    assert [path.read_text()[:13] for path in older[1:]] == [f"default.log.{n}" for n in (1, 2, 4, 5)]
    assert older[0].read_bytes() == b"x" * 1001
    assert {path.name for path in log.path.parent.iterdir()} == {
        "default.log",
        *(path.name for path in older),
    }


def test_a_log_that_is_a_little_too_large_is_kept_whole(log):
    write(log, b"first\n" + b"x" * 1200)
    assert log.rotate_if_large()
    assert log.older(1).read_bytes().startswith(b"first\n")


@pytest.mark.parametrize(("data", "whole"), [(b"one\n", True), (b"one\ntw", False), (b"", True)])
def test_whether_it_ends_with_a_whole_line(log, data, whole):
    write(log, data)
    assert log.ends_whole is whole


def test_a_file_that_is_not_there_ends_whole(log):
    assert log.ends_whole


def test_the_end_of_a_flood_is_kept(log):
    write(log, b"old" * 10_000 + b"new" * 333)
    assert log.rotate_if_large()
    kept = (log.path.parent / "default.log.1").read_bytes()
    assert len(kept) == log.max_bytes
    assert kept.endswith(b"new")


def test_secrets_are_hidden(log):
    hiding = LogFile(path=log.path, secrets=("swordfish",))
    write(hiding, b"the key is swordfish\nAuthorization: Bearer xyz\n")
    assert hiding.tail(2) == ["the key is [redacted]", "Authorization: Bearer [redacted]"]


def test_a_log_can_be_followed(log):
    write(log, b"one\n")
    lines, position = log.read_from(0, 1000)
    assert lines == ["one"]
    write(log, b"two\n")
    assert log.read_from(position, 1000) == (["two"], position + 4)


def test_a_follower_of_a_log_gets_whole_lines(log):
    write(log, b"one\ntw")
    lines, position = log.follow(0, 1000)
    assert (lines, position) == (["one"], 4)
    write(log, b"o\n")
    assert log.follow(position, 1000) == (["two"], 8)


def test_a_log_can_be_read_by_its_owner_alone(log):
    write(log, b"x")
    assert log.path.stat().st_mode & 0o077 == 0
