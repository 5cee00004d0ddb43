"""Which failures are for want of our own, and threads that may hang without harm to others."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import threading
from functools import partial

import pytest
import requests

from supervisor_app.core.machine import file_limit, lanes
from supervisor_app.core.machine.lanes import Lane
from supervisor_app.core.shortage import LateError, ShortageError, raise_shortage, shortage_of, why_not
from tests.deadline import DEADLINE

LOST = OSError(errno.EMFILE, "Too many open files")


def wrapped(cause: BaseException) -> requests.ConnectionError:
    """As requests and urllib3 hand on what went wrong."""
    try:
        try:
            raise cause
        except OSError as error:
            raise RuntimeError("a new connection could not be made") from error
    except RuntimeError as error:
        retried = Exception("max retries exceeded")
        retried.reason = error
        return requests.ConnectionError(retried)


@pytest.mark.parametrize(
    "error",
    [
        LOST,
        OSError(errno.ENFILE, ""),
        OSError(errno.ENOMEM, ""),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
        OSError(errno.ENOBUFS, ""),
        OSError(errno.EADDRNOTAVAIL, ""),
        MemoryError(),
        RuntimeError("can't start new thread"),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        ShortageError("no more"),
        wrapped(LOST),
    ],
)
def test_a_shortage_of_our_own_is_told_from_other_errors(error):
    assert shortage_of(error)
    with pytest.raises(ShortageError):
        raise_shortage(error)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        TimeoutError("timed out"),
        FileNotFoundError(errno.ENOENT, "No such file"),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        RuntimeError("bug"),
        wrapped(ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")),
        OSError("without a number"),
    ],
)
def test_all_else_is_not(error):
    assert shortage_of(error) == ""
    raise_shortage(error)


def test_errors_that_come_from_each_other_are_looked_at_once():
    first, second = OSError("a"), OSError("b")
    first.__context__, second.__cause__ = second, first
    assert shortage_of(first) == ""


def test_why_we_could_not_is_said_in_any_case():
    assert "file descriptor" in why_not(LOST)
    assert "could not do its work (odd)" in why_not(OSError("odd"))


# Threads


async def test_a_call_returns_or_raises_what_it_does():
    lane = Lane("a disk")
    assert await lane.run(str.upper, "a") == "A"
    with pytest.raises(KeyError):
        await lane.run({}.__getitem__, 1)
    with pytest.raises(ShortageError, match="descriptor"):
        await lane.run(partial(_raise, LOST))


def _raise(error: BaseException) -> None:
    raise error


async def test_a_thread_that_is_idle_is_used_again():
    lane = Lane("a disk")
    assert len({await lane.run(threading.get_ident) for _ in range(20)}) == 1


@pytest.fixture
def hanging():
    """A call that hangs until the test is over."""
    free = threading.Event()
    yield free.wait
    free.set()


async def test_calls_that_hang_use_up_their_own_threads_alone(hanging):
    dead, sound = Lane("a dead disk", width=2), Lane("a disk")
    for _ in range(2):
        with pytest.raises(LateError, match=r"a dead disk has not answered for 0\.01 s"):
            await dead.run(hanging, patience=0.01)
    with pytest.raises(ShortageError, match="2 calls to a dead disk hang"):
        await dead.run(str)
    assert await sound.run(str, 1) == "1"


async def test_a_thread_that_hangs_for_a_while_makes_room_again():
    lane, free = Lane("a disk", width=1), threading.Event()
    with pytest.raises(LateError):
        await lane.run(free.wait, patience=0.01)
    free.set()
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                assert await lane.run(str, 1) == "1"
                return
            except ShortageError:
                await asyncio.sleep(0)


async def test_a_result_that_comes_too_late_is_undone_in_its_thread():
    lane, free, undone = Lane("a start"), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def undo(result: bool) -> None:
        loop.call_soon_threadsafe(undone.set)
        raise RuntimeError("nobody hears of this")

    with pytest.raises(LateError):
        await lane.run(free.wait, patience=0.01, undo=undo)
    free.set()
    await asyncio.wait_for(undone.wait(), DEADLINE)
    assert await lane.run(str, 1) == "1"


async def test_a_waiting_caller_may_be_cancelled(hanging):
    lane = Lane("a disk")
    waiting = asyncio.create_task(lane.run(hanging))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_without_a_new_thread_those_there_are_go_on(monkeypatch, hanging):
    lane, other = Lane("a disk"), Lane("another disk")
    assert await lane.run(str, 1) == "1"
    monkeypatch.setattr(
        threading.Thread, "start", lambda thread: _raise(RuntimeError("can't start new thread"))
    )
    assert await lane.run(str, 2) == "2"
    with pytest.raises(ShortageError, match="no more processes or threads"):
        await other.run(str, 1)


async def test_a_mistake_in_making_a_thread_is_raised(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda thread: _raise(RuntimeError("bug")))
    with pytest.raises(RuntimeError, match="bug"):
        await Lane("a disk").run(str)


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


async def until_none(name: str) -> None:
    async with asyncio.timeout(DEADLINE):
        while threads_of(name):
            await asyncio.sleep(0.001)


async def test_a_thread_without_work_ends(monkeypatch):
    monkeypatch.setattr(lanes, "IDLE_SECONDS", 0.001)
    lane = Lane("a quiet disk")
    await lane.run(str)
    await until_none("a quiet disk")
    assert await lane.run(str, 1) == "1"


async def test_a_thread_that_gets_work_as_it_ends_does_it(monkeypatch):
    monkeypatch.setattr(lanes, "IDLE_SECONDS", 0.001)
    monkeypatch.setattr(lanes.Lane, "retire", lambda lane, worker: False)
    lane = Lane("a busy disk")
    await lane.run(str)
    monkeypatch.undo()
    assert not lane.retire(object())
    lane.close()
    await until_none("a busy disk")


# Descriptors


@pytest.fixture
def limits(monkeypatch):
    """Stand for those of this process."""
    kept = {"now": (1024, 4096), "given": []}
    monkeypatch.setattr(resource, "getrlimit", lambda which: kept["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda which, value: kept.update(now=value))
    monkeypatch.setattr(resource, "prlimit", lambda pid, which, value: kept["given"].append((pid, value)))
    return kept


@pytest.mark.parametrize(
    ("found", "raised"),
    [
        ((1024, 4096), (4096, 4096)),
        ((1024, 10**6), (65536, 10**6)),
        ((1024, resource.RLIM_INFINITY), (65536, resource.RLIM_INFINITY)),
        ((10**5, 10**6), (10**5, 10**6)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), (resource.RLIM_INFINITY, resource.RLIM_INFINITY)),
    ],
)
def test_the_limit_of_files_is_raised_to_what_is_allowed_and_needed(limits, found, raised):
    limits["now"] = found
    assert file_limit.raise_file_limit() == (
        file_limit.WANTED if raised[0] == resource.RLIM_INFINITY else raised[0]
    )
    assert limits["now"] == raised


def test_a_system_that_refuses_keeps_its_limit(limits, monkeypatch):
    monkeypatch.setattr(resource, "setrlimit", lambda which, value: _raise(ValueError("not allowed")))
    assert file_limit.raise_file_limit() == 1024
    assert limits["now"] == (1024, 4096)


def test_a_child_gets_the_limit_that_we_found(limits, monkeypatch):
    file_limit.give_back_file_limit(7)
    assert limits["given"] == [(7, file_limit._FOUND)]
    monkeypatch.delattr(resource, "prlimit")
    file_limit.give_back_file_limit(7)


async def test_a_thread_that_may_not_retire_yet_waits_for_more(monkeypatch):
    """Work was found for it between the end of its wait and its question."""
    monkeypatch.setattr(lanes, "IDLE_SECONDS", 0.001)
    lane = Lane("a disk")
    answers, retired = [False, False], threading.Event()

    def retire(worker):
        if answers:
            return answers.pop()
        retired.set()
        return Lane.retire(lane, worker)

    lane.retire = retire
    assert await lane.run(str, 1) == "1"
    await asyncio.to_thread(retired.wait, 10)
    assert answers == []
