"""From the last looks at a process and the kernel's testimony to words and a verdict."""

from __future__ import annotations

import pytest

from supervisor_app.core.diagnosis.evidence import (
    SAMPLES,
    Evidence,
    Trail,
    blame,
    is_scarce,
    oom_proof,
    sentence,
)
from supervisor_app.core.diagnosis.explanations import MEMORY_HINT, failure_of
from supervisor_app.core.sightings import Autopsy, Exit, GpuMemory, MemorySample
from supervisor_app.core.status import FailureKind

GIB = 2**30
KILLED = Exit(signal=9)
BY_SIGNAL = failure_of(FailureKind.KILLED_BY_SIGNAL, "SIGKILL, without a word")
KERNEL = "Memory cgroup out of memory: Killed process 7 (llama-server) total-vm:9kB, anon-rss:5347738kB"
PLENTY = MemorySample(
    at=10.0, anon=5 * GIB, swap=GIB // 10, host_total=int(15.6 * GIB), host_available=8 * GIB
)
SHORT = MemorySample(at=10.0, anon=5 * GIB, host_total=int(15.6 * GIB), host_available=GIB // 5)
PROVEN = Autopsy(oom_kills=1)


# --- Words ---------------------------------------------------------------------------------------------


def test_used_and_free_memory_are_one_sentence():
    assert sentence(PLENTY) == "It used 5.1 GiB; 8.0 GiB of 15.6 GiB were free."


def test_a_limit_that_leaves_less_than_the_machine_is_the_one_that_counts():
    limited = MemorySample(at=1, anon=GIB, host_total=16 * GIB, host_available=8 * GIB, limit=2 * GIB)
    assert sentence(limited) == "It used 1.0 GiB; 2.0 GiB of its limit of 2.0 GiB were free."


def test_a_limit_that_leaves_more_than_the_machine_has_does_not_count():
    limited = MemorySample(at=1, host_total=16 * GIB, host_available=GIB, limit=8 * GIB, limit_used=GIB)
    assert limited.room == (GIB, 16 * GIB)


def test_more_used_than_the_limit_is_nothing_free():
    assert MemorySample(at=1, host_available=GIB, limit=GIB, limit_used=2 * GIB).room == (0, GIB)


# --- Scarce --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "scarce"),
    [
        (PLENTY, False),
        (SHORT, True),
        # Swap that is free is memory of the machine, and none of a control group.
        (MemorySample(at=1, host_total=16 * GIB, host_available=GIB, host_swap_free=8 * GIB), False),
        (
            MemorySample(
                at=1,
                host_total=16 * GIB,
                host_available=8 * GIB,
                host_swap_free=8 * GIB,
                limit=10 * GIB,
                limit_used=9 * GIB + GIB // 2,
            ),
            True,
        ),
    ],
)
def test_memory_is_scarce_when_a_tenth_is_left(sample, scarce):
    assert is_scarce(sample) is scarce


# --- Proof ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("autopsy", "word"),
    [
        (Autopsy(kernel=(KERNEL,)), "log"),
        (Autopsy(kernel=("oom-kill:constraint=CONSTRAINT_MEMCG,task=llama-server,pid=7",)), "log"),
        (PROVEN, "control group"),
    ],
)
def test_the_kernel_proves_an_oom_kill(autopsy, word):
    assert word in oom_proof(autopsy)


@pytest.mark.parametrize(
    "autopsy", [Autopsy(), Autopsy(kernel=("llama-server[7]: segfault at 0 ip 00007f error 4",))]
)
def test_another_word_of_the_kernel_proves_nothing(autopsy):
    assert oom_proof(autopsy) == ""


# --- Verdict -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", [KILLED, Exit(code=137), Exit()])
def test_a_proven_kill_is_an_oom_kill_however_its_end_was_told(ended):
    failure = blame(BY_SIGNAL, ended, SHORT, PROVEN)
    assert failure.kind is FailureKind.OOM_KILLED
    assert failure.detail == "it used 5.0 GiB, 205 MiB of 15.6 GiB were free just before"
    assert failure.hint == MEMORY_HINT


def test_the_kernels_own_figure_is_newer_than_the_last_look():
    failure = blame(BY_SIGNAL, KILLED, None, Autopsy(kernel=(KERNEL,)))
    assert failure.detail == "it used 5.1 GiB, all that its control group may use"


def test_a_group_that_ran_out_is_not_the_machine_that_ran_out():
    said = blame(BY_SIGNAL, KILLED, PLENTY, Autopsy(kernel=(KERNEL,))).detail
    assert said == "it used 5.1 GiB, all that its control group may use"
    limited = MemorySample(at=1, anon=1, host_available=9 * GIB, limit=6 * GIB, limit_used=6 * GIB)
    said = blame(BY_SIGNAL, KILLED, limited, Autopsy(kernel=(KERNEL,))).detail
    assert said == "it used 5.1 GiB, 0 B of its limit of 6.0 GiB were free just before"


def test_a_machine_that_ran_out_says_what_was_free():
    line = KERNEL.replace("Memory cgroup out of memory", "Out of memory")
    assert "0.2 GiB" in blame(BY_SIGNAL, KILLED, SHORT, Autopsy(kernel=(line,))).detail.replace(
        "205 MiB", "0.2 GiB"
    )


def test_a_proven_kill_without_any_figure_still_says_something():
    assert blame(BY_SIGNAL, KILLED, None, PROVEN).detail == "the kernel ended it"


@pytest.mark.parametrize("ended", [Exit(code=1), Exit(signal=11)])
def test_only_a_death_by_sigkill_may_be_the_oom_killers(ended):
    failure = failure_of(FailureKind.EXITED, "x")
    assert blame(failure, ended, SHORT, PROVEN) == failure


def test_without_proof_scarce_memory_is_a_suspicion():
    failure = blame(BY_SIGNAL, KILLED, SHORT, Autopsy())
    assert failure.kind is FailureKind.KILLED_BY_SIGNAL
    assert "probably the kernel's OOM killer" in failure.hint
    assert MEMORY_HINT in failure.hint


def test_a_kill_with_memory_to_spare_came_from_somebody_else():
    assert "somebody or something else" in blame(BY_SIGNAL, KILLED, PLENTY, Autopsy()).hint


def test_without_a_look_the_verdict_stays():
    assert blame(BY_SIGNAL, KILLED, None, Autopsy()) == BY_SIGNAL


def test_a_sigkill_after_a_telling_line_stays_what_the_line_told():
    failure = failure_of(FailureKind.GPU_OUT_OF_MEMORY, "cudaMalloc failed")
    assert blame(failure, KILLED, PLENTY, Autopsy()) == failure


def test_an_allocation_that_failed_says_what_was_free():
    failure = failure_of(FailureKind.OUT_OF_MEMORY, "it needs 9.0 GiB more")
    told = blame(failure, Exit(code=1), PLENTY, Autopsy())
    assert told.detail == "it needs 9.0 GiB more; 8.0 GiB of 15.6 GiB were free just before"


# --- The trail -----------------------------------------------------------------------------------------


def evidence(trail, failure=BY_SIGNAL, autopsy=None):
    return trail.evidence(failure, autopsy or Autopsy(), at=12.0, decisive="why", models=("m",))


def test_a_trail_keeps_the_last_looks_and_counts_back_from_the_end():
    trail = Trail(serving="It was idle.")
    for second in range(SAMPLES + 5):
        trail.add(MemorySample(at=second / 10, anon=second, gpus=(GpuMemory(used=1, total=2),)))
    trail.add(None)
    told = evidence(trail, autopsy=Autopsy(kernel=(KERNEL,)))
    assert len(told.history) == SAMPLES
    assert told.history[-1] == (pytest.approx(12.0 - 4.4), 44)
    assert told.as_json()["history"][-1] == [7.6, 44]
    assert told.as_json()["memory"]["gpus"] == [{"used": 1, "total": 2}]
    assert (told.decisive, told.models, told.serving) == ("why", ("m",), "It was idle.")
    assert told.kernel == (KERNEL,)
    assert told.oom


def test_a_trail_without_a_look_tells_what_it_knows():
    assert evidence(Trail()).as_json() == {**Evidence().as_json(), "decisive": "why", "models": ["m"]}


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (FailureKind.KILLED_BY_SIGNAL, True),
        (FailureKind.HUNG, True),
        (FailureKind.OOM_KILLED, False),  # its detail says it
        (FailureKind.OUT_OF_MEMORY, False),
        (FailureKind.MODEL_CORRUPT, False),  # nothing to do with it
    ],
)
def test_everybody_is_told_of_memory_where_that_tells_something(kind, told):
    trail = Trail()
    trail.add(PLENTY)
    assert bool(evidence(trail, failure_of(kind)).summary) is told
