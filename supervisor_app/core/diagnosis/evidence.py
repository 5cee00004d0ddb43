"""Evidence of a process just before it died, and what memory had to do with its death. Pure.

`core.machine.memory` takes the samples; here they become words and, with the kernel's testimony, a verdict.
"""

from __future__ import annotations

import re
import signal
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import size
from supervisor_app.core.diagnosis.diagnose import signal_of
from supervisor_app.core.diagnosis.explanations import MEMORY_HINT, failure_of
from supervisor_app.core.status import Failure, FailureKind

if TYPE_CHECKING:
    from supervisor_app.core.sightings import Autopsy, Exit, MemorySample

SAMPLES = 40
"""Kept of one process: the last 80 seconds of a busy one, the last 20 of one that loads."""
SCARCE = 0.1
"""Part of all memory: with less than this free before the end, lack of memory is a likely cause."""

_KILLED = re.compile(r"Killed process \d+|oom-kill:|[Oo]ut of memory")
_OWN_LIMIT = re.compile(r"Memory cgroup out of memory|CONSTRAINT_MEMCG")
_ANON_RSS = re.compile(r"anon-rss:(\d{1,15})kB")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Evidence of one run, as its crash card shows it."""

    memory: MemorySample | None = None
    """The last look."""
    history: tuple[tuple[float, int], ...] = ()
    """Seconds before the end and bytes in use, oldest first."""
    oom: str = ""
    """Proof that the kernel's OOM killer ended the process; empty: there is none."""
    kernel: tuple[str, ...] = ()
    """Lines of the kernel's log that name the process."""
    decisive: str = ""
    """The line of its output that tells the cause."""
    decisive_at: int | None = None
    """Place of the decisive line among the last lines; None when it is none of them."""
    serving: str = ""
    """Work of the server at the last look, as a sentence."""
    models: tuple[str, ...] = ()
    summary: str = ""
    """A sentence for people who may not see the rest."""

    def as_json(self) -> dict[str, Any]:
        return {
            "memory": self.memory and self.memory.as_json(),
            "history": [[round(before, 1), used] for before, used in self.history],
            "oom": self.oom,
            "kernel": list(self.kernel),
            "decisive": self.decisive,
            "decisiveAt": self.decisive_at,
            "serving": self.serving,
            "models": list(self.models),
            "summary": self.summary,
        }


@dataclass(frozen=True, kw_only=True)
class ExitReport:
    """Findings at the end of a process: they travel with the event, and nothing is looked for again."""

    last_lines: tuple[str, ...] = ()
    """The end of what it wrote, oldest first."""
    evidence: Evidence | None = None
    """Evidence of the end; None when nobody saw it."""
    at: float | None = None
    """Unix seconds at which the end was seen, perhaps minutes before all was found; None: nobody saw it."""


@dataclass
class Trail:
    """The last looks at one process."""

    samples: deque[MemorySample] = field(default_factory=lambda: deque(maxlen=SAMPLES))
    serving: str = ""

    def add(self, sample: MemorySample | None) -> None:
        if sample is not None:
            self.samples.append(sample)

    @property
    def last(self) -> MemorySample | None:
        return self.samples[-1] if self.samples else None

    def evidence(
        self,
        failure: Failure,
        autopsy: Autopsy,
        *,
        at: float,
        decisive: str,
        models: tuple[str, ...],
        decisive_at: int | None = None,
    ) -> Evidence:
        """`at`: Unix seconds of the end."""
        last = self.last
        # A fact that is told with the failure needs no second sentence; a broken file has nothing to do with
        # memory.
        told = failure.permanent or failure.kind in (FailureKind.OOM_KILLED, FailureKind.OUT_OF_MEMORY)
        return Evidence(
            memory=last,
            history=tuple((max(0.0, at - sample.at), sample.used) for sample in self.samples),
            oom=oom_proof(autopsy),
            kernel=autopsy.kernel,
            decisive=decisive,
            decisive_at=decisive_at,
            serving=self.serving,
            models=models,
            summary="" if last is None or told else sentence(last),
        )


def oom_proof(autopsy: Autopsy) -> str:
    """Proof that the kernel killed the process for want of memory; empty: there is none."""
    if any(_KILLED.search(line) for line in autopsy.kernel):
        return "The kernel's log says that its OOM killer ended this process."
    if autopsy.oom_kills:
        return "The kernel counted an OOM kill in the process's control group at that time."
    return ""


def sentence(sample: MemorySample) -> str:
    """Memory in words, such as `It used 5.1 GiB; 0.2 GiB of 15.6 GiB were free`."""
    return f"It used {size(sample.used)}; {_free_of_total(sample)}."


def blame(failure: Failure, ended: Exit, last: MemorySample | None, autopsy: Autopsy) -> Failure:
    """The failure with what memory had to do with it: proven, suspected, or cleared of it."""
    killed = signal_of(ended) == signal.SIGKILL
    unknown = ended.code is None and ended.signal is None
    if (killed or unknown) and oom_proof(autopsy):
        return failure_of(FailureKind.OOM_KILLED, _last_words(last, autopsy))
    if last is None:
        return failure
    if failure.kind is FailureKind.OUT_OF_MEMORY:
        return replace(failure, detail=f"{failure.detail}; {_free_of_total(last)} just before")
    if not killed or failure.kind is not FailureKind.KILLED_BY_SIGNAL:
        return failure
    if is_scarce(last):
        suspicion = "Memory was nearly used up: probably the kernel's OOM killer ended it."
        return replace(failure, hint=f"{suspicion} {MEMORY_HINT}")
    return replace(failure, hint="Memory was not short, so somebody or something else killed it.")


def is_scarce(sample: MemorySample) -> bool:
    free, total = sample.room
    spare = free + (sample.host_swap_free if total == sample.host_total else 0)
    return spare < SCARCE * total


def _free_of_total(sample: MemorySample) -> str:
    free, total = sample.room
    whole = f"{size(total)}" if total == sample.host_total else f"its limit of {size(total)}"
    return f"{size(free)} of {whole} were free"


def _last_words(last: MemorySample | None, autopsy: Autopsy) -> str:
    """`it used 5.1 GiB, 0.2 GiB of 15.6 GiB were free`; the kernel's own figure is the later one."""
    told = [int(kib) * 1024 for line in autopsy.kernel for kib in _ANON_RSS.findall(line)]
    used = max([*told, last.used if last else 0])
    said = [f"it used {size(used)}"] if used else []
    if any(_OWN_LIMIT.search(line) for line in autopsy.kernel) and (last is None or last.limit is None):
        said.append("all that its control group may use")
    elif last is not None:
        said.append(f"{_free_of_total(last)} just before")
    return ", ".join(said) or "the kernel ended it"
