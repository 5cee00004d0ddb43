"""Each fault of the table is told, explained, recorded and overcome, and leaves nothing behind."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.acceptance.faults.checker import Patient, Ward, check_nothing_is_left, traces
from tests.acceptance.faults.matrix import HEALTHY, ROWS, Recovery, Row

QUICK = {"health_check_interval_ms": 100, "retry_backoff_ms": 600, "stop_grace_ms": 300}


@pytest.fixture(scope="module")
def ward(make_shared, engine, model):
    """A proxy with a server for each row. `.calm`: what there is of it while none of them runs."""
    proxy = make_shared()
    servers = {}
    for name, row in {HEALTHY: ROWS["kill-9"], **ROWS}.items():
        marker = str(proxy.directory / f"{name}-is-ill")
        own = proxy.directory / f"{name}.gguf"
        shutil.copy(model, own)
        args = [flag.format(marker=marker) for flag in row.flags]
        servers[name] = {**QUICK, **row.settings, "model_path": str(own), "args": args}
    ward = Ward(proxy, servers)
    with ward.admitted(HEALTHY) as patient:
        patient.ask("start")
        patient.until_ready()
        proxy.get("/")
        files = traces(proxy).files
    ward.calm = replace(traces(proxy), files=files)
    return ward


def fall_ill(patient: Patient, row: Row, illness: ExitStack) -> None:
    """Start the server with its fault: there before, or as soon as it is ready."""
    if row.from_birth:
        illness.enter_context(row.fault(patient))
    patient.ask("start")
    if not row.from_birth:
        patient.until_ready()
        illness.enter_context(row.fault(patient))


def recover(patient: Patient, row: Row) -> None:
    if row.recovery is Recovery.BY_START:
        patient.ask("start")
    patient.until_ready()
    patient.check_history(row.expected)


@pytest.mark.parametrize("name", ROWS)
def test_a_fault_is_told_recorded_and_overcome(ward, name):
    row = ROWS[name]
    nothing_happens = row.recovery is Recovery.NOT_NEEDED
    with ward.admitted(name) as patient:
        with ExitStack() as illness:
            fall_ill(patient, row, illness)
            if not nothing_happens:
                patient.check_what_is_told(row.expected)
            if row.check is not None:
                row.check(patient)
        if nothing_happens:
            patient.check_that_nothing_happened(row.expected)
        else:
            recover(patient, row)
        check_nothing_is_left(ward.proxy, ward.calm.with_engines(row.processes, patient.port))
    check_nothing_is_left(ward.proxy, ward.calm)
