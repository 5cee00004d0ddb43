"""Peaks of a process, and which of them say what it needs."""

from __future__ import annotations

import pytest

from supervisor_app.core.devices import HOST
from supervisor_app.core.sightings import MemorySample
from supervisor_app.core.status import FailureKind
from supervisor_app.core.watch.peak import LEAST_SECONDS, PAUSE_SECONDS, Peak

READY = 100.0
LATER = READY + LEAST_SECONDS


def sample(own=0, file=0, swap=0):
    return MemorySample(at=0.0, anon=own, swap=swap, file=file)


def lived(*, own=500, data=1000, gpu=None):
    """A process that was ready, was looked at and has worked."""
    peak = Peak()
    peak.sampled(sample(own=own))
    peak.became_ready(READY, data, sample(own=own, file=data + 30))
    peak.surveyed(gpu or {})
    peak.worked = True
    return peak


def test_the_host_s_part_is_its_own_memory_swapped_or_not_and_its_model_s_pages():
    peak = lived(own=500, data=1000)
    peak.sampled(sample(own=400, swap=300, file=1030))
    peak.sampled(sample(own=100, file=1010))
    assert peak.lesson(LATER) == {HOST: 1700}


def test_pages_of_the_model_that_are_read_later_count_and_those_of_programs_do_not():
    peak = lived(own=500, data=1000)
    peak.sampled(sample(own=500, file=1230))
    assert peak.lesson(LATER) == {HOST: 1700}


def test_a_model_that_is_only_mapped_while_it_loads_does_not_count():
    peak = Peak(worked=True)
    peak.sampled(sample(own=500, file=9000))
    peak.became_ready(READY, 0, sample(own=500, file=30))
    peak.surveyed({"GPU-1": 9000})
    peak.sampled(sample(own=500, file=60))
    assert peak.lesson(LATER) == {HOST: 500, "GPU-1": 9000}


def test_of_a_gpu_the_most_that_was_seen_counts():
    peak = lived(gpu={"GPU-1": 700})
    peak.surveyed({"GPU-1": 900})
    peak.surveyed({"GPU-1": 800})
    assert peak.lesson(LATER)["GPU-1"] == 900


def test_a_process_that_was_ready_for_a_moment_teaches_nothing():
    assert lived().lesson(LATER - 0.1) is None


def test_a_process_that_was_never_ready_teaches_nothing():
    peak = Peak(worked=True)
    peak.sampled(sample(own=500))
    peak.surveyed({})
    assert peak.lesson(LATER, ended=True) is None


def test_a_process_that_never_worked_teaches_nothing():
    peak = lived()
    peak.worked = False
    assert peak.lesson(LATER) is None


def test_a_process_whose_gpus_were_last_seen_before_ready_teaches_nothing():
    peak = Peak(worked=True)
    peak.surveyed({"GPU-1": 10})
    peak.sampled(sample(own=500))
    peak.became_ready(READY, 0, None)
    assert peak.lesson(LATER) is None


def test_a_process_teaches_again_when_it_has_grown_but_not_all_the_time():
    peak = lived(own=500, data=1000)
    assert peak.lesson(LATER)
    peak.sampled(sample(own=800))
    assert peak.lesson(LATER + 1) is None
    assert peak.lesson(LATER + PAUSE_SECONDS) == {HOST: 1800}
    peak.sampled(sample(own=801))
    assert peak.lesson(LATER + 3 * PAUSE_SECONDS) is None


def test_the_last_growth_of_a_process_is_taught_at_its_end():
    peak = lived(own=500, data=1000)
    assert peak.lesson(LATER)
    assert peak.lesson(LATER + 1, ended=True) is None
    peak.sampled(sample(own=501))
    assert peak.lesson(LATER + 1, ended=True) == {HOST: 1501}


@pytest.mark.parametrize(
    ("kind", "had"),
    [
        (FailureKind.OUT_OF_MEMORY, {HOST: 1500}),
        (FailureKind.OOM_KILLED, {HOST: 1500}),
        (FailureKind.GPU_OUT_OF_MEMORY, {"GPU-1": 700}),
        (FailureKind.GPU_LOST, None),
        (FailureKind.KILLED_BY_SIGNAL, None),
    ],
)
def test_a_death_for_want_of_memory_says_of_which_device(kind, had):
    assert lived(gpu={"GPU-1": 700}).short_of(kind) == had
