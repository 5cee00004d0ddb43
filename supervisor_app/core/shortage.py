"""Failures for want of our own resources: they say nothing about a server.

A probe, a look into /proc or a spawn that fails because *we* have no descriptor, thread, memory or local
port left is no evidence against the server that it was meant for.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = {
    errno.EMFILE: "llamaproxy has no file descriptor left (ulimit -n)",
    errno.ENFILE: "this machine has no file descriptor left",
    errno.ENOMEM: "this machine has no memory left for llamaproxy",
    errno.EAGAIN: "llamaproxy may start no more processes or threads (ulimit -u)",
    errno.ENOBUFS: "this machine has no network buffers left",
    errno.EADDRNOTAVAIL: "this machine has no local port left for another connection",
}
_NO_THREAD = "can't start new thread"


class ShortageError(Exception):
    """A lack of our own resources kept us from looking or acting; the message names it, for a sentence."""


CANNOT = (ShortageError, OSError, UnicodeError, MemoryError)
"""Errors that keep us from looking or acting, and are no mistake in the code."""


class LateError(ShortageError):
    """A call has not come back in time; the thread that waits for it is left to itself."""


def shortage_of(error: BaseException) -> str:
    """Name what we lacked, as part of a sentence; empty when the failure has another reason."""
    return next(filter(None, map(_own, _chain(error))), "")


def why_not(error: BaseException) -> str:
    """Why we could not look or act, as part of a sentence, for any of `CANNOT`."""
    return shortage_of(error) or f"llamaproxy could not do its work ({error})"


def raise_shortage(error: BaseException) -> None:
    """Raise ShortageError when that is what the error comes from. For those who ignore all others."""
    if why := shortage_of(error):
        raise ShortageError(why) from error


def _own(error: BaseException) -> str:
    if isinstance(error, ShortageError):
        return str(error)
    if isinstance(error, MemoryError):
        return _NUMBERS[errno.ENOMEM]
    if isinstance(error, socket.gaierror):  # its numbers are not those of errno
        unanswered = error.errno in (socket.EAI_AGAIN, socket.EAI_MEMORY, socket.EAI_FAIL)
        return f"a host name could not be looked up ({error.strerror})" if unanswered else ""
    if isinstance(error, OSError):
        return _NUMBERS.get(error.errno or 0, "")
    if isinstance(error, RuntimeError) and _NO_THREAD in str(error):
        return _NUMBERS[errno.EAGAIN]
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it was made of: requests and urllib3 wrap the one that counts three times."""
    waiting, seen = [error], set[int]()
    while waiting:
        current = waiting.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
        waiting += [each for each in inner if isinstance(each, BaseException)]
