"""Starts of manage.py in a fraction of their time, by the process of `template.py`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

TEMPLATE = Path(__file__).with_name("template.py")
OF_THE_INTERPRETER = ("PYTHON", "LANG", "LC_", "MALLOC_")
"""Variables that are read once, before anything is loaded."""


class Template:
    """`start` stands in for `subprocess.Popen` where the command is Python with a script."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._orders, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, str(TEMPLATE)], stdin=other.fileno(), env=environment
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.close()
        self._process.wait()

    def suits(self, environment: dict[str, str]) -> bool:
        """Say whether a child with this environment is as it would be from nothing."""
        return early(environment) == early(self._environment)

    def start(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: dict[str, str],
        stdout: IO[Any],
        stderr: IO[Any],
        stdin: int,
    ) -> Forked:
        assert (command[0], stdin) == (sys.executable, subprocess.DEVNULL)
        order = {"arguments": [*map(str, command[1:])], "environment": env, "directory": str(cwd)}
        with ExitStack() as stack:
            teller, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(other)
            nothing = stack.enter_context(Path("/dev/null").open("rb"))
            files = [nothing.fileno(), stdout.fileno(), stderr.fileno(), other.fileno()]
            socket.send_fds(self._orders, [json.dumps(order).encode()], files)
        return Forked(command, teller)


class Forked:
    """A process that the template has become, with the part of `subprocess.Popen` that is used here."""

    def __init__(self, command: Sequence[str], teller: socket.socket) -> None:
        self.args = command
        self._teller = teller
        self.pid = int(teller.recv(20))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._teller.settimeout(timeout)
            try:
                self.returncode = int(self._teller.recv(20))
            except (BlockingIOError, TimeoutError) as error:
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from error
            self._teller.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def early(environment: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(OF_THE_INTERPRETER)}
