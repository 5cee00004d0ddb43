"""Threads share few heaps of the C library: what one has freed is there for the next."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COUNT_HEAPS = """
import ctypes, sys, threading
from llamaproxy.surroundings import share_heaps

share_heaps()
everybody = threading.Barrier(24)

def work():
    kept = [bytes(1000) for _ in range(100)]
    everybody.wait()

threads = [threading.Thread(target=work) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
output = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, output)
libc.fflush(output)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's heaps")
@pytest.mark.parametrize(("environment", "most"), [({}, 2), ({"MALLOC_ARENA_MAX": "5"}, 5)])
def test_threads_share_few_heaps_unless_somebody_has_said_how_many(environment, most):
    done = subprocess.run(
        [sys.executable, "-c", COUNT_HEAPS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("<heap nr=") == most
