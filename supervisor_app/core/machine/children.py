"""Children: started without copying ourselves, and without holding the interpreter meanwhile.

fork() copies the tables of all our pages, and has each page that is written next copied: with 150 MB in use
10 to 35 ms, and as much again afterwards. vfork() of `subprocess` and `os.posix_spawn` hold the interpreter,
and with it every server, until the program is loaded from its disk. So ctypes, which lets go of it, calls
posix_spawn of the C library. Where that cannot do all of this (macOS, musl, glibc before 2.34), `subprocess`
forks.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
from contextlib import ExitStack
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Where subprocess forks, the interpreter is free while the program is loaded: it reads a pipe meanwhile.
subprocess._USE_VFORK = False  # type: ignore[misc]

_SETSIGDEF, _SETSID = 0x04, 0x80
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_OPAQUE_BYTES = 1024
"""Room for each of glibc's structures, the largest of which has 336 bytes."""
_NOT_HERE = (errno.ENOENT, errno.ENOTDIR)


class Child(Protocol):
    """The part of `subprocess.Popen` that is needed of a child."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None:
        """Return its exit code, a signal as its negative number; None while it runs."""

    def wait(self) -> int: ...

    def kill(self) -> None: ...


class SpawnedChild:
    """A child that `posix_spawn` started. Any thread may wait for it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._code: int | None = None
        self._reaping = Lock()

    def poll(self) -> int | None:
        return None if self._code is None and self._runs() else self.wait()

    def wait(self) -> int:
        with self._reaping:
            if self._code is None:
                try:
                    self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
                except ChildProcessError:  # somebody has reaped it, and has not told how it ended
                    self._code = 0
            return self._code

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _runs(self) -> bool:
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False


def start_child(argv: Sequence[str], *, cwd: str, env: Mapping[str, str], output: int) -> Child:
    """Start a program in a session of its own, with nothing to read, which writes to the file `output`.

    Raises OSError, whose `filename` is `cwd` where that is the reason, and ValueError for text that cannot be
    handed to a program.
    """
    if _LIBC is None:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    arguments = [_encoded(argument) for argument in argv]
    variables = [b"=".join((_encoded(name, b"="), _encoded(value))) for name, value in env.items()]
    error = errno.ENOENT
    for path in _candidates(argv[0], env):
        failed, pid = _posix_spawn(_LIBC, path, arguments, variables, os.fsencode(cwd), output)
        if not failed:
            return SpawnedChild(pid)
        error = error if failed in _NOT_HERE else failed
    may_enter = os.path.isdir(cwd) and os.access(cwd, os.X_OK)
    raise OSError(error, os.strerror(error), argv[0] if may_enter else cwd)


def _libc() -> Any:
    """The C library, if its posix_spawn can do all that is needed."""
    libc = ctypes.CDLL(None)
    needed = ("posix_spawn_file_actions_addchdir_np", "posix_spawn_file_actions_addclosefrom_np")
    return libc if all(hasattr(libc, name) for name in needed) else None


_LIBC = _libc()


def _encoded(text: str, forbidden: bytes = b"\0") -> bytes:
    """Raises ValueError."""
    data = os.fsencode(text)
    if b"\0" in data or forbidden in data:
        raise ValueError("embedded null byte, or = in the name of a variable")
    return data


def _candidates(program: str, env: Mapping[str, str]) -> Iterator[bytes]:
    if os.path.dirname(program):
        yield os.fsencode(program)
        return
    for folder in os.get_exec_path(env):
        yield os.fsencode(os.path.join(folder, program))


def _posix_spawn(
    libc: Any, path: bytes, argv: Sequence[bytes], env: Sequence[bytes], cwd: bytes, output: int
) -> tuple[int, int]:
    """Return the number of the error, 0 for none, and the pid."""
    actions, attributes, signals = (ctypes.create_string_buffer(_OPAQUE_BYTES) for _ in range(3))
    pid = ctypes.c_int()
    with ExitStack() as made:
        libc.posix_spawn_file_actions_init(actions)
        made.callback(libc.posix_spawn_file_actions_destroy, actions)
        libc.posix_spawnattr_init(attributes)
        made.callback(libc.posix_spawnattr_destroy, attributes)
        libc.sigemptyset(signals)
        for ignored in _IGNORED_BY_PYTHON:
            libc.sigaddset(signals, ignored)
        libc.posix_spawnattr_setsigdefault(attributes, signals)
        libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SETSIGDEF | _SETSID))
        steps = (
            libc.posix_spawn_file_actions_addchdir_np(actions, cwd),
            libc.posix_spawn_file_actions_addopen(actions, 0, b"/dev/null", os.O_RDONLY, 0),
            libc.posix_spawn_file_actions_adddup2(actions, output, 1),
            libc.posix_spawn_file_actions_adddup2(actions, output, 2),
            libc.posix_spawn_file_actions_addclosefrom_np(actions, 3),
        )
        failed = next(filter(None, steps), 0)
        error = failed or libc.posix_spawn(
            ctypes.byref(pid), path, actions, attributes, _strings(argv), _strings(env)
        )
    return error, pid.value


def _strings(texts: Iterable[bytes]) -> Any:
    items = [*texts, None]
    return (ctypes.c_char_p * len(items))(*items)
