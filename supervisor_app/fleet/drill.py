"""A fault on purpose, in a server of one's own, and what became of it: the promise, proved on the spot."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import requests

from supervisor_app.common.words import span
from supervisor_app.core.machine.identity import identity_of
from supervisor_app.core.status import Status
from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.fleet.snapshots import failure_from_json, identity_of_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
LOOK_SECONDS = 0.02
ASK_SECONDS = 0.05
PORT_HELD_SECONDS = 5.0
TAKE_TRIES = 100


class Fault(StrEnum):
    """A harm that can be done to a server from outside."""

    KILL = "kill"
    """SIGKILL: a crash, or the kernel's OOM killer."""
    SEGV = "segv"
    """SIGSEGV: a crash of its own."""
    TERM = "term"
    """SIGTERM by somebody else: it ends cleanly, unasked."""
    STOP = "stop"
    """SIGSTOP: it hangs, still connected, without an answer."""
    PORT = "port"
    """Killed, and a stranger takes its port for some seconds."""


SIGNALS = {
    Fault.KILL: signal.SIGKILL,
    Fault.SEGV: signal.SIGSEGV,
    Fault.TERM: signal.SIGTERM,
    Fault.STOP: signal.SIGSTOP,
    Fault.PORT: signal.SIGKILL,
}


class DrillError(Exception):
    """The drill cannot be held, or did not end well; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """Seconds since the fault."""

    fault: Fault
    noticed_after: float
    recovered_after: float
    old_pid: int
    new_pid: int
    failure: str
    asked: int
    """Requests of the drill itself, for /health."""
    lost: int

    @property
    def down_for(self) -> float:
        return self.recovered_after


@dataclass
class Asking:
    """Asks the server again and again, as its clients would."""

    url: str
    asked: int = 0
    lost: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not self._done.wait(ASK_SECONDS):
                self.asked += 1
                try:
                    answer = session.get(f"{self.url}/health", timeout=1)
                    self.lost += answer.status_code != requests.codes.ok
                except requests.RequestException:
                    self.lost += 1

    @contextmanager
    def going_on(self) -> Iterator[Asking]:
        thread = threading.Thread(target=self.run, name="drill-asking", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join(2)


def hold(server: LlamaServer, fault: Fault, *, patience: float, say: Callable[[str], None]) -> Report:
    """Inject the fault, wait for the recovery, tell. `patience` in seconds. Raises DrillError.

    Only for a server that is ready, runs on this machine and may be signalled; nothing else is touched.
    """
    state = _ready(server)
    identity = identity_of_row(state)
    if identity is None or identity_of(identity.pid) != identity:
        raise DrillError(f"The process of {server.name} is not on this machine, or not ours to see.")
    before = server.runs.open().latest("pk")
    with ExitStack() as stack:
        asking = stack.enter_context(Asking(state.url).going_on())
        injected = time.time()
        say(f"{fault}: pid {identity.pid}")
        try:
            stack.enter_context(inject(fault, identity.pid, state.url))
        except PermissionError as error:
            raise DrillError(f"Not permitted to signal pid {identity.pid}.") from error
        except ProcessLookupError as error:
            raise DrillError(f"Pid {identity.pid} ended by itself a moment before.") from error
        noticed = _wait(patience, "noticed", lambda: _noticed(before))
        say(f"noticed: {_why(before)}")
        run = _wait(patience, "recovered", lambda: _recovered(server, before))
        time.sleep(2 * ASK_SECONDS)
    return Report(
        fault=fault,
        noticed_after=max(0.0, noticed - injected),
        recovered_after=(run.ready_at or run.started_at).timestamp() - injected,
        old_pid=identity.pid,
        new_pid=run.pid or 0,
        failure=_why(before),
        asked=asking.asked,
        lost=asking.lost,
    )


def _ready(server: LlamaServer) -> ServerState:
    state: ServerState | None = ServerState.objects.filter(server=server).first()
    if state is None or state.status != Status.READY:
        status = state.status if state else "not started"
        raise DrillError(f"{server.name} is {status}: a drill needs a server that is ready.")
    return state


@contextmanager
def inject(fault: Fault, pid: int, url: str) -> Iterator[None]:
    """Inflict a fault on the process `pid` that listens at `url`. A port taken for it is free at the end.

    Raises PermissionError, ProcessLookupError, DrillError.
    """
    os.kill(pid, SIGNALS[fault])
    with _stranger(url) if fault is Fault.PORT else nullcontext():
        yield


@contextmanager
def _stranger(url: str) -> Iterator[None]:
    """Listen on the port as a stranger who says nothing and goes after some seconds."""
    where = urlsplit(url)
    family = socket.AF_INET6 if ":" in str(where.hostname) else socket.AF_INET
    with closing(socket.socket(family)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _take(listener, (where.hostname, where.port))
        listener.listen()
        timer = threading.Timer(PORT_HELD_SECONDS, listener.close)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _take(listener: socket.socket, address: tuple[str | None, int | None]) -> None:
    """Take the port as soon as it is free: its holder may just be ending. Raises DrillError."""
    for _ in range(TAKE_TRIES):
        try:
            return listener.bind(address)
        except OSError as error:
            refused = error
            time.sleep(LOOK_SECONDS)
    raise DrillError(f"Port {address[1]} could not be taken: {refused.strerror}.")


def _noticed(before: Run) -> float | None:
    """Return when the supervisor saw that the server went down or has to be ended."""
    before.refresh_from_db()
    if before.ended_at is not None:
        return before.ended_at.timestamp()
    state = ServerState.objects.get(server_id=before.server_id)
    return time.time() if state.status != Status.READY else None


def _recovered(server: LlamaServer, before: Run) -> Run | None:
    state = ServerState.objects.get(server=server)
    failure = failure_from_json(state.failure)
    # An error that mends itself (the port is taken) is not the end of it.
    if state.status == Status.ERROR and not (failure and failure.permanent):
        raise DrillError(f"It was given up: {state.detail}")
    return server.runs.filter(pk__gt=before.pk, ended_at=None).exclude(ready_at=None).first()


def _why(before: Run) -> str:
    before.refresh_from_db()
    return before.failure_title or ServerState.objects.get(server_id=before.server_id).detail


def _wait(patience: float, what: str, look: Callable[[], T | None]) -> T:
    deadline = time.monotonic() + patience
    while (seen := look()) is None:
        if time.monotonic() > deadline:
            raise DrillError(f"It was not {what} within {span(patience)}. Look at its page.")
        time.sleep(LOOK_SECONDS)
    return seen
