"""A log that is removed or moved away while its writer goes on is still read, bounded and reported."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from supervisor_app.core.machine.logs import LogFile, written_by
from supervisor_app.core.machine.open_log import MOVED, REMOVED, OpenLog


@pytest.fixture
def log(tmp_path):
    return LogFile(path=tmp_path / "logs" / "default.log", max_bytes=1000, keep=3)


@pytest.fixture
def writer(log):
    with log.open() as writer:
        yield writer


@pytest.fixture
def opened(log, writer):
    opened = OpenLog.of(log)
    yield opened
    opened.close()


def write(writer, data: bytes) -> None:
    writer.write(data)
    writer.flush()


def test_a_log_in_its_place_is_no_trouble(opened, writer):
    write(writer, b"one\ntwo\n")
    assert opened.trouble == ""
    assert opened.tail(1) == ["two"]
    assert opened.tail(9, since=4) == ["two"]
    assert opened.position == 8


@pytest.mark.parametrize(
    ("do", "trouble"),
    [
        (lambda path: path.unlink(), REMOVED),
        (lambda path: path.rename(path.with_name("default.log-20261129")), MOVED),
        (lambda path: (path.rename(path.with_name("x")), path.touch()), MOVED),
    ],
)
def test_a_log_that_is_gone_is_read_bounded_and_reported(opened, log, writer, do, trouble):
    write(writer, b"before\n")
    do(log.path)
    write(writer, b"after\n")
    assert opened.trouble == trouble
    assert opened.tail(9) == ["before", "after"]
    write(writer, b"x" * 2000)
    assert opened.rotate_if_large()
    assert opened.position == 0
    assert log.path.with_name("default.log.1").stat().st_size == 1000
    assert not opened.rotate_if_large()


def test_a_log_whose_folder_is_gone_is_cut_all_the_same(opened, log, writer):
    write(writer, b"x" * 1001)
    log.path.unlink()
    log.path.parent.rmdir()
    with pytest.raises(OSError, match="default"):
        opened.rotate_if_large()
    assert opened.position == 0


def test_a_log_that_is_closed_says_nothing(opened, log, writer):
    write(writer, b"x" * 1001)
    opened.close()
    opened.close()
    assert opened.is_closed
    assert (opened.trouble, opened.position, opened.tail(9), opened.rotate_if_large()) == ("", 0, [], False)


def test_a_log_that_is_closed_while_it_is_read_is_closed_after_that(opened, log):
    with opened.in_use() as fd:
        thread = threading.Thread(target=opened.close)
        thread.start()
        thread.join()
        assert os.fstat(fd).st_nlink == 1
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


# Who writes to it


@pytest.fixture
def child(writer):
    child = subprocess.Popen(["/bin/sh", "-c", "read x"], stdin=subprocess.PIPE, stderr=writer)
    yield child.pid
    child.communicate()


@pytest.mark.parametrize(
    "do",
    [
        lambda path: path.unlink(),
        lambda path: path.rename(path.with_name("default.log.1")),
        lambda path: path.rename(path.with_name("default.log-20261129")),
        lambda path: (path.rename(path.with_name("default.log.1")), path.touch()),
    ],
)
def test_the_writer_of_a_log_is_known_although_the_file_is_gone(child, log, writer, do):
    assert written_by(child, log) == log.path
    write(writer, b"words\n")
    do(log.path)
    reopened = OpenLog.of(log, child)
    assert reopened.tail(9) == ["words"]
    reopened.close()


def test_a_file_of_that_name_that_belongs_to_somebody_else_is_not_this_log(child, log, monkeypatch):
    """They may have it in a file system of their own."""
    log.path.unlink()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert written_by(child, log) is None


def test_another_file_is_not_this_log(child, log):
    log.path.rename(log.path.with_name("another.log"))
    assert written_by(child, log) is None
    assert OpenLog.of(log, child) is None
    assert written_by(2**22 + 1, log) is None
