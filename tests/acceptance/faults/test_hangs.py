"""A server whose work does not move, while /health says ok: noticed by that alone, and replaced."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from tests.acceptance.clients import asking, generating
from tests.acceptance.conftest import ENGINE_ARGS
from tests.acceptance.faults.checker import Expected, Patient, Ward, check_nothing_is_left, traces
from tests.acceptance.faults.freezer import REFUSED

if TYPE_CHECKING:
    from collections.abc import Iterator

STILL_SECONDS = 0.2
"""So long an answer of 200 tokens takes that is not frozen."""
FREEZER = str(Path(__file__).with_name("freezer.py"))
IMPATIENT = {"retry_backoff_ms": 600, "stop_grace_ms": 300}
FROZEN = Expected(
    status="crashed",
    kind="hung",
    signal=signal.SIGKILL,
    says=("It stopped answering", "/health says ok, but its work has not moved for ", "Retry 1 of 5"),
)
SPINNING = Expected(
    status="crashed",
    kind="hung",
    code=0,
    says=("It stopped answering", "/health says ok, but its work has not moved for ", "Retry 1 of 5"),
)


@pytest.fixture(scope="module")
def ward(make_shared, engine, model):
    """`.frozen` is ready and will be harmed, `.spinning` spins already: that takes the longest to be noticed."""
    proxy = make_shared()
    common = {**IMPATIENT, "model_path": str(model), "api_key": ""}  # open, so that anybody may harm them
    spin = ["--fake-spin", "--fake-while", str(proxy.directory / "spinning-is-ill")]
    servers = {
        "frozen": {**common, "stall_seconds": 3, "args": [*ENGINE_ARGS, "--context-shift"]},
        "spinning": {**common, "stall_seconds": 2, "args": spin},
    }
    ward = Ward(proxy, servers)
    with ExitStack() as stack:
        patients = [stack.enter_context(ward.admitted(name)) for name in servers]
        for patient in patients:
            patient.ask("start")
            patient.until_ready()
        ward.frozen, ward.spinning = patients
        ward.calm = traces(proxy)
        ward.spinning.marker.touch()
        for _ in range(2):
            stack.enter_context(asking(ward.spinning.port))
        yield ward


@contextmanager
def standing_still(patient: Patient) -> Iterator[None]:
    """The threads of it that compute are frozen in the middle of a batch; the others go on."""
    command = [sys.executable, "-IS", FREEZER, str(patient.pid)]
    while True:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as freezer:
            try:
                if not freezer.stdout.readline():
                    refused = freezer.stderr.read()
                    assert REFUSED in refused, refused
                    pytest.skip(f"no thread may be frozen here: {refused}")
                if is_still(patient):
                    yield
                    return
            finally:
                freezer.kill()


def is_still(patient: Patient) -> bool:
    """Does its answer get on no more? On a busy machine a thread may be frozen that was about to hand over."""
    before = decoded(patient)
    time.sleep(STILL_SECONDS)
    return before is not None and decoded(patient) == before


def decoded(patient: Patient) -> int | None:
    """Tokens of the answer that it works on; None where it cannot say: then it is between two batches."""
    try:
        slots = patient.asks("/slots", 1).json()
    except requests.RequestException:
        return None
    return next(slot["next_token"][0]["n_decoded"] for slot in slots if slot["is_processing"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ptrace as Linux has it")
def test_a_frozen_compute_thread_is_noticed_although_health_says_ok(ward):
    patient = ward.frozen
    with generating(patient.port, patient.proxy.headers_of(patient.name)), standing_still(patient):
        before = decoded(patient)
        assert patient.asks("/health", 5).status_code == 200
        assert decoded(patient) == before
        patient.check_what_is_told(FROZEN)
    patient.until_ready()
    patient.check_history(FROZEN)


def test_a_server_that_spins_for_ever_is_noticed_although_its_processor_is_busy(ward):
    patient = ward.spinning
    patient.check_what_is_told(SPINNING)
    patient.until_ready()
    patient.check_history(SPINNING)


def test_nothing_is_left_of_servers_that_hung(ward):
    check_nothing_is_left(ward.proxy, ward.calm)
