"""Prepare a process before anything else: open files, bytes for every path, few heaps, a quick start."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from contextlib import suppress

M_ARENA_MAX = -8
"""Parameter of glibc's mallopt."""
HEAPS = 2


def open_standard_files() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr.

    Else the next file that is opened takes the number, and whatever is written for people ends up in that
    file.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    for name, number, errors in (("stdout", 1, "strict"), ("stderr", 2, "backslashreplace")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w", encoding="utf-8", errors=errors, closefd=False))  # noqa: SIM115


def speak_utf8() -> None:
    """Start over in UTF-8 mode where the locale has no bytes for most paths, and no emoji. Same process."""
    if sys.getfilesystemencoding().lower().replace("-", "") != "utf8" and sys.executable:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606


def share_heaps() -> None:
    """Let all threads share two heaps, before the first thread starts.

    glibc makes eight for each core. Each keeps what the hungriest work of any thread once needed in it, so
    that memory grows for days although nothing is kept. A MALLOC_ARENA_MAX that is set already stays.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        with suppress(OSError, AttributeError):  # another C library, or another system
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, HEAPS)


def hold_collector() -> None:
    """Search no garbage while modules are loaded: none is found, and it takes a sixth of a start (120 ms).

    The search begins when the apps are ready (`RolesConfig`).
    """
    gc.disable()
