"""Processes that the tests start, ports for them, and patience."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, TypeVar

from tests.deadline import DEADLINE

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from tests.acceptance.forking import Forked

ROOT = Path(__file__).resolve().parents[2]
MANAGE = ROOT / "manage.py"
FAKE = ROOT / "tests" / "fake_llama_server.py"
OUR_VARIABLES = (
    "LLAMA",
    "DATABASE_URL",
    "REDIS_URL",
    "DJANGO_",
    "SECRET_KEY",
    "DEBUG",
    "ALLOWED_HOSTS",
    "CSRF_",
    "FORCE_SCRIPT_NAME",
)
T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T], evidence: Callable[[], str] = str, pause: float = 0.05) -> T:
    """Wait until `look` returns something true, and return that. `evidence` is what a failure shows.

    `pause`: seconds between two looks; shorter for what is soon over.
    """
    deadline = time.monotonic() + DEADLINE
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise AssertionError(f"within {DEADLINE:g} s never: {what}; last seen: {seen!r}\n{evidence()}")
        time.sleep(pause)
    return seen


def listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def environment(**changes: str) -> dict[str, str]:
    """Return this process's environment, without what would change how the product behaves."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OUR_VARIABLES)}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1", **changes}


def completed(
    command: list[str],
    *,
    cwd: Path,
    env: dict[str, str],
    start: Callable[..., subprocess.Popen[bytes] | Forked] = subprocess.Popen,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as `subprocess.run` does with what it is started by."""
    with TemporaryFile() as said, TemporaryFile() as complained:
        process = start(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=complained)
        try:
            process.wait(DEADLINE)
        finally:
            process.kill()
        said.seek(0)
        complained.seek(0)
        texts = said.read().decode(), complained.read().decode()
    return subprocess.CompletedProcess(command, process.returncode, *texts)


class Child:
    """A process that we started; its output goes to a file."""

    def __init__(
        self,
        command: list[str],
        log: Path,
        *,
        cwd: Path,
        env: dict[str, str] | None = None,
        start: Callable[..., subprocess.Popen[bytes] | Forked] = subprocess.Popen,
    ) -> None:
        self.command = command
        self.log = log
        with log.open("ab") as output:
            self.process = start(
                command,
                cwd=cwd,
                env=env or environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self.pid = self.process.pid

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end, and return its exit code."""
        with suppress(subprocess.TimeoutExpired):
            return self.process.wait(DEADLINE)
        raise AssertionError(f"{self.command} did not end within {DEADLINE:g} s\n{self.output}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
