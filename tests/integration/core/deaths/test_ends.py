"""Deaths of a real llama-server for want of memory or by a signal; and one that lives with a warning."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
import requests

from supervisor_app.core.status import FailureKind
from supervisor_app.fleet.models import ServerState
from tests.deadline import DEADLINE
from tests.integration.building import db
from tests.integration.core.deaths.ward import ENGINE, assert_died

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="signals and limits as Linux has them"),
]


# --- Memory --------------------------------------------------------------------------------------------


def limited(kib):
    """A llama-server with so much address space, of which the heap of each further thread would take 128 MB."""
    return ("/bin/sh", "-c", f'ulimit -v {kib}; MALLOC_ARENA_MAX=1 exec "$@"', "sh", ENGINE)


@pytest.mark.parametrize(
    ("mode", "decisive"),
    [("none", "failed to allocate CPU buffer of size"), ("mmap", "mmap failed: Cannot allocate memory")],
)
async def test_no_memory_for_the_weights(ward, large, mode, decisive):
    ward.command = limited(500_000)
    run = await ward.dies(large, "-lm", mode)
    assert run.failure_kind == FailureKind.OUT_OF_MEMORY
    assert run.failure_title == "Out of memory"
    # Threads take address space, too: now and then none is left to say so and end in order, and C++ aborts.
    assert run.exit_code == 1 or run.signal == signal.SIGABRT
    assert decisive in run.last_lines
    assert not run.evidence["oom"]


async def test_no_memory_for_the_context(ward, demo):
    ward.command = limited(2_000_000)
    run = await ward.dies(demo, "-c", "4000000")
    assert (run.failure_kind, run.failure_title) == (FailureKind.OUT_OF_MEMORY, "Out of memory")
    assert "-c" in run.failure_hint


@contextlib.contextmanager
def memory_group(limit):
    """A control group of our own with so much memory; skips where we may not make one."""
    name = f"llamaproxy-test-{os.getpid()}"
    for root, limits in (
        (Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes",)),
        (Path("/sys/fs/cgroup"), ("memory.max", "memory.swap.max")),
    ):
        group = root / name
        with contextlib.suppress(OSError):
            group.mkdir()
            try:
                for file in limits:
                    (group / file).write_text("0" if "swap" in file else str(limit))
            except OSError:
                group.rmdir()
                continue
            try:
                yield group
            finally:
                for _ in range(100):
                    with contextlib.suppress(OSError):
                        group.rmdir()
                        break
            return
    pytest.skip("no memory control group may be made here")


async def test_the_oom_killer(ward, large):
    with memory_group(200 * 2**20) as group:
        ward.command = ("/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", ENGINE)
        run = await ward.dies(large, "-lm", "none")
        title = "Killed because memory ran out"
        assert_died(run, FailureKind.OOM_KILLED, title, "", code=None, sig=signal.SIGKILL)
        assert "it used " in run.failure_detail
        assert run.evidence["oom"]


# --- Signals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "detail"),
    [
        (signal.SIGKILL, "SIGKILL, without a word"),
        (signal.SIGSEGV, "SIGSEGV: it crashed"),
        (signal.SIGABRT, "SIGABRT: it crashed"),
        (signal.SIGBUS, "SIGBUS: the model file most likely changed"),
        (signal.SIGHUP, "SIGHUP, sent by something else"),
    ],
)
async def test_a_signal_ends_a_ready_one(ward, demo, number, detail):
    await ward.admit(demo)
    os.kill(await ward.until_ready(), number)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=number)
    assert detail in run.failure_detail
    assert run.ready_at is not None
    assert run.evidence["memory"]["anon"] > 0
    assert run.evidence["models"] == [str(demo)]


async def test_the_work_of_a_server_at_its_death_is_known(ward, large):
    """Two requests, and a look at them: the first one comes five seconds after it is ready."""
    await ward.admit(large, "-np", "4")
    pid = await ward.until_ready()
    url = f"http://127.0.0.1:{ward.port}/v1/chat/completions"
    body = {"messages": [], "max_tokens": 2000, "stream": True}

    def ask():
        with contextlib.suppress(requests.RequestException):
            requests.post(url, json=body, timeout=DEADLINE)

    asking = [asyncio.create_task(asyncio.to_thread(ask)) for _ in range(2)]
    await ward.until(lambda _: ward.slots_at_work == 2)
    os.kill(pid, signal.SIGSEGV)
    await asyncio.gather(*asking)
    run = await ward.funeral()
    assert run.evidence["serving"] == "2 of 4 slots were working on a request."
    assert len(run.evidence["history"]) > 1


async def test_a_kill_9_with_memory_to_spare_is_not_blamed_on_memory(ward, demo):
    await ward.admit(demo)
    os.kill(await ward.until_ready(), signal.SIGKILL)
    run = await ward.funeral()
    assert run.failure_kind == FailureKind.KILLED_BY_SIGNAL
    assert run.failure_hint.startswith("Memory was not short")
    assert " were free" in run.evidence["summary"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_from_outside_during_the_load_is_told(ward, large, number):
    await ward.admit(large, "-lm", "none")
    os.kill(await ward.until_loading(), number)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=number)
    assert run.failure_detail == f"{number.name}, sent by something else"
    assert run.ready_at is None


async def test_an_end_that_nobody_asked_for(ward, demo):
    await ward.admit(demo)
    os.kill(await ward.until_ready(), signal.SIGTERM)
    run = await ward.funeral()
    assert_died(run, FailureKind.EXITED, "Unexpected end", "", code=0)
    assert run.failure_detail == "it ended by itself with code 0"
    assert "cleaning up before exit" in run.last_lines


async def test_a_model_file_that_is_cut_under_its_server_is_told(ward, copy):
    model = copy()
    await ward.admit(model, "-lm", "mmap")
    await ward.until_ready()
    os.truncate(model, 4096)
    url = f"http://127.0.0.1:{ward.port}/v1/chat/completions"
    with contextlib.suppress(requests.RequestException):
        await asyncio.to_thread(requests.post, url, json={"messages": [], "max_tokens": 4}, timeout=30)
    run = await ward.funeral()
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, "Ended by a signal", "", code=None, sig=signal.SIGBUS)
    assert "the model file most likely changed" in run.failure_detail


async def test_an_assertion_of_llama_cpp(ward, demo):
    run = await ward.dies(demo, "-b", "0")
    decisive = "GGML_ASSERT("
    title = "Ended by a signal"
    assert_died(run, FailureKind.KILLED_BY_SIGNAL, title, decisive, code=None, sig=signal.SIGABRT)
    assert "update llama.cpp" in run.failure_hint


# --- Alive, but --------------------------------------------------------------------------------------


async def test_a_gpu_that_is_not_there_is_a_warning(ward, demo):
    await ward.admit(demo, "-ngl", "99")
    await ward.until_ready()
    log = (ward.log_dir / "default.log").read_text()
    if "no usable GPU found" not in log and "offloaded 0/" not in log:
        pytest.skip("this llama-server has found a GPU")
    assert len(ward.seen.warnings) == 1
    assert "computes on the CPU" in ward.seen.warnings[0]
    state = await db(ServerState.objects.get)
    assert state.warnings == list(ward.seen.warnings)
