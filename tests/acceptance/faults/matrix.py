"""The faults that a supervised server can meet, as a table: what happens, what must be seen, how it ends."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from supervisor_app.core.machine.logs import LogFile
from supervisor_app.fleet.drill import Fault, inject
from tests.acceptance.clients import asking
from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.faults.checker import Expected, Patient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MEGABYTE = 2**20
HEALTHY = "healthy"
LOADS_FOR_EVER = ("--fake-load-seconds", "3600")
LIBRARY = "libllama.so.0: cannot open shared object file: No such file or directory"


class Recovery(Enum):
    BY_ITSELF = auto()
    """It is ready again without anybody's doing, once what was wrong is put right."""
    BY_START = auto()
    """Somebody presses Start then."""
    NOT_NEEDED = auto()
    """It is nothing to a server: the same process serves all the time."""


@dataclass(frozen=True, kw_only=True)
class Row:
    fault: Callable[[Patient], AbstractContextManager[None]]
    """Context in which the fault is there; leaving puts right what was wrong."""
    expected: Expected
    script: tuple[str, ...] = ()
    """Flags of the scripted llama-server; none: the real one."""
    from_birth: bool = False
    """The fault is there before the server is started."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    recovery: Recovery = Recovery.BY_ITSELF
    check: Callable[[Patient], None] | None = None
    """Further check while the fault is there."""
    processes: int = 1
    """Number of processes of a healthy server."""

    @property
    def flags(self) -> Sequence[str]:
        """Return the flags, with `{marker}` for the file that makes the server ill."""
        if self.fault is misbehaving:
            return (*self.script, "--fake-while", "{marker}")
        return self.script or ENGINE_ARGS


# --- What happens --------------------------------------------------------------------------------------


def drilled(fault: Fault) -> Callable[[Patient], AbstractContextManager[None]]:
    """Make the fault as `manage.py drill` does it."""
    return lambda patient: inject(fault, patient.pid, patient.url)


@contextmanager
def misbehaving(patient: Patient) -> Iterator[None]:
    """The script is in force."""
    patient.marker.touch()
    try:
        yield
    finally:
        patient.marker.unlink()


@contextmanager
def restarted(patient: Patient) -> Iterator[None]:
    patient.ask("restart")
    yield


@contextmanager
def cut_in_half(patient: Patient) -> Iterator[None]:
    """Cut the model in half, as by a download that is not over."""
    whole = patient.model.read_bytes()
    patient.model.write_bytes(whole[: len(whole) // 2])
    yield
    patient.model.write_bytes(whole)


@contextmanager
def half_closed(patient: Patient) -> Iterator[None]:
    """Clients of the server and of the pages that have said all they want to say, and stay."""
    web = ("127.0.0.1", patient.proxy.web_port)
    with ExitStack() as stack:
        for line in ("GET / HTTP/1.1", "GET /llamaproxws HTTP/1.1", "GET /without-a-version", "GET"):
            client = stack.enter_context(socket.create_connection(web))
            client.sendall(f"{line}\r\nHost: 127.0.0.1\r\n\r\n".encode())
            client.shutdown(socket.SHUT_WR)
        for _ in range(4):
            stack.enter_context(asking(patient.port)).shutdown(socket.SHUT_WR)
        yield


# --- What else must be seen ----------------------------------------------------------------------------


def its_log_is_bounded(patient: Patient) -> None:
    """Check that the log is kept in pieces of a size, and only so many, however much is written."""
    second = patient.log.with_name(f"{patient.log.name}.2")
    limit = LogFile(path=patient.log).max_bytes
    patient.proxy.wait_for("two cuts", lambda: second.exists() and second.stat().st_size == limit)


def its_babble_is_bounded(patient: Patient) -> None:
    """The log has all of it; history, page and API are of a size that can be read."""
    assert patient.log.stat().st_size > MEGABYTE
    assert len(patient.proxy.wait_for("its last lines", lambda: patient.runs[0]["last_lines"])) < 50 * 2001
    assert len(patient.proxy.get(f"/servers/{patient.name}/").content) < 100_000
    assert len(patient.proxy.get(f"/api/servers/{patient.name}/").content) < 10_000


# --- The table -----------------------------------------------------------------------------------------

NOT_LISTENING = {"max_health_checks": 20, "health_check_timeout_ms": 200}

ROWS: dict[str, Row] = {
    # It dies.
    "kill-9": Row(
        fault=drilled(Fault.KILL),
        expected=Expected(
            status="crashed",
            kind="killed_by_signal",
            signal=signal.SIGKILL,
            says=("Ended by a signal", "SIGKILL, without a word", "Retry 1 of 5 after 0.6 s."),
        ),
    ),
    "segv": Row(
        fault=drilled(Fault.SEGV),
        expected=Expected(
            status="crashed",
            kind="killed_by_signal",
            signal=signal.SIGSEGV,
            says=("Ended by a signal", "SIGSEGV: it crashed", "Retry 1 of 5 after 0.6 s."),
        ),
    ),
    "exit-0": Row(
        fault=drilled(Fault.TERM),
        expected=Expected(
            status="crashed",
            kind="exited",
            code=0,
            says=("Unexpected end", "it ended by itself with code 0", "Retry 1 of 5"),
        ),
    ),
    "exit-1-at-once": Row(
        fault=misbehaving,
        from_birth=True,
        script=("--fake-stderr-line", "I would not", "--fake-exit-after", "0"),
        expected=Expected(
            status="crashed",
            kind="unknown",
            code=1,
            # What it says is not llama-server's, so it is for staff alone.
            says=("Failed for an unknown reason", "it ended with code 1. Retry 1 of 5"),
        ),
    ),
    "exit-1-while-it-loads": Row(
        fault=misbehaving,
        from_birth=True,
        script=(*LOADS_FOR_EVER, "--fake-exit-after", "2"),
        expected=Expected(
            status="crashed",
            kind="unknown",
            code=1,
            says=("Failed for an unknown reason", "it ended with code 1", "Retry 1 of 5"),
        ),
    ),
    "exit-1-when-ready": Row(
        fault=misbehaving,
        script=("--fake-exit-after-ready", "0"),
        expected=Expected(
            status="crashed",
            kind="exited",
            code=1,
            says=("Unexpected end", "it ended with code 1", "Retry 1 of 5"),
        ),
    ),
    # It lives and is of no use. Others of this kind are in test_hangs.py.
    "sigstop": Row(
        fault=drilled(Fault.STOP),
        settings={"health_check_timeout_ms": 200},
        expected=Expected(
            status="crashed",
            kind="hung",
            signal=signal.SIGKILL,
            says=("It stopped answering", "it missed 3 health checks in a row", "Retry 1 of 5"),
        ),
    ),
    "slow-health": Row(
        fault=misbehaving,
        script=("--fake-health-delay", "10"),
        settings={"health_check_timeout_ms": 200},
        expected=Expected(
            status="crashed",
            kind="hung",
            code=0,
            says=("It stopped answering", "it missed 3 health checks in a row", "Retry 1 of 5"),
        ),
    ),
    "hangs-while-it-loads": Row(
        fault=misbehaving,
        from_birth=True,
        script=(*LOADS_FOR_EVER, "--fake-hang-while-loading"),
        settings=NOT_LISTENING,
        expected=Expected(
            status="crashed",
            kind="never_ready",
            signal=signal.SIGTERM,
            says=("It never became ready", "no answer for 2 s", "Retry 1 of 5"),
        ),
    ),
    "loads-for-ever": Row(
        fault=misbehaving,
        from_birth=True,
        script=LOADS_FOR_EVER,
        settings={"max_load_seconds": 1},
        expected=Expected(
            status="crashed",
            kind="never_ready",
            signal=signal.SIGTERM,
            says=("It never became ready", "still loading after 1 s", "Retry 1 of 5"),
        ),
    ),
    "never-listens": Row(
        fault=misbehaving,
        from_birth=True,
        script=("--fake-refuse-seconds", "3600"),
        settings=NOT_LISTENING,
        expected=Expected(
            status="crashed",
            kind="never_ready",
            signal=signal.SIGTERM,
            says=("It never became ready", "no answer for 2 s", "Retry 1 of 5"),
        ),
    ),
    # No retry can mend it.
    "port-stolen": Row(
        fault=drilled(Fault.PORT),
        expected=Expected(
            status="error",
            kind="port_taken",
            died_of="killed_by_signal",
            signal=signal.SIGKILL,
            says=("Address not available", f"pid {os.getpid()} ", "It starts by itself once that is mended"),
        ),
    ),
    "model-cut-in-half": Row(
        fault=cut_in_half,
        from_birth=True,
        expected=Expected(
            status="error",
            kind="model_corrupt",
            code=1,
            says=("Model file broken or incomplete", "not within the file bounds", "once that is mended"),
        ),
    ),
    "library-missing": Row(
        fault=misbehaving,
        from_birth=True,
        script=(
            *("--fake-stderr-line", f"llama-server: error while loading shared libraries: {LIBRARY}"),
            *("--fake-exit-after", "0", "--fake-exit-code", "127"),
        ),
        recovery=Recovery.BY_START,
        expected=Expected(
            status="error",
            kind="library_missing",
            code=127,
            says=("A library that llama-server needs is missing", LIBRARY, "or press Start"),
        ),
    ),
    # It does not end as it should.
    "ignores-sigterm": Row(
        fault=restarted,
        script=("--fake-ignore-sigterm",),
        settings={"stop_grace_ms": 1000},
        expected=Expected(
            status="stopping",
            signal=signal.SIGKILL,
            says=("Asked to end; SIGKILL follows after 1 s. It starts again after that.",),
        ),
    ),
    "grandchild": Row(
        fault=drilled(Fault.KILL),
        script=("--fake-child",),
        processes=2,
        expected=Expected(
            status="crashed",
            kind="killed_by_signal",
            signal=signal.SIGKILL,
            says=("Ended by a signal", "SIGKILL, without a word"),
        ),
    ),
    # It babbles.
    "log-of-a-megabyte-a-line": Row(
        fault=misbehaving,
        from_birth=True,
        script=("--fake-log-garbage", "--fake-exit-after", "0"),
        check=its_babble_is_bounded,
        expected=Expected(
            status="crashed", kind="unknown", code=1, says=("it ended with code 1. Retry 1 of 5",)
        ),
    ),
    "log-flood": Row(
        fault=misbehaving,
        script=("--fake-flood", "100"),
        check=its_log_is_bounded,
        recovery=Recovery.NOT_NEEDED,
        expected=Expected(status="ready", says=("Serving 1 model on",)),
    ),
    # Its clients.
    "half-closed-clients": Row(
        fault=half_closed,
        recovery=Recovery.NOT_NEEDED,
        expected=Expected(status="ready", says=("Serving 1 model on",)),
    ),
}
