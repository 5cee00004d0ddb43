"""A server that crashes while something is wrong around it: what must hold then, and once it is over."""

from __future__ import annotations

import signal
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import psutil

from tests.acceptance.faults.checker import Expected, Patient, check_nothing_is_left, traces

if TYPE_CHECKING:
    from collections.abc import Iterator

QUICK = {"retry_backoff_ms": 600, "stable_after_ms": 100}
KILLED = Expected(
    status="crashed",
    kind="killed_by_signal",
    signal=signal.SIGKILL,
    says=("Ended by a signal", "SIGKILL, without a word", "Retry 1 of 5 after 0.6 s."),
)


@contextmanager
def admitted(proxy) -> Iterator[Patient]:
    """The server `default`, ready. `.calm`: what there is of it then."""
    with closing(Patient(proxy, name="default", port=proxy.engine_port)) as patient:
        patient.until_ready()
        proxy.get("/")
        patient.calm = traces(proxy)
        yield patient


def killed(patient: Patient) -> None:
    """Kill the process, which has to be told and overcome."""
    psutil.Process(patient.pid).kill()
    patient.check_what_is_told(KILLED)
    patient.until_ready()
    patient.until_stable()


def check_that_all_is_well(patient: Patient) -> None:
    """Check that the server is ready, and that there is no more of anything than before."""
    proxy = patient.proxy
    assert proxy.wait_for_status("ready", pid=patient.pid)["failure"] is None
    check_nothing_is_left(proxy, patient.calm)
