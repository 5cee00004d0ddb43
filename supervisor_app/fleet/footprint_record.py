"""Knowledge of the memory that a launch needs, and the best of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import counted, roughly, size
from supervisor_app.core.placement.world import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

RAISE = 1.2
"""Factor of a death for want of memory: the estimate is at most 3 % off, and what a driver takes of a GPU for
each process, some hundred MiB, is 8 % of a model of 8 GB. One step is enough for both."""
MOST_RAISED = 2.0
"""Beyond that it dies of something else."""
LEAST = 64 * 2**20
"""Bytes on a GPU that a measurement must have seen, if the engine or the estimate has some there."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """Knowledge of one launch: files, flags that matter, build. Bytes by device, times in Unix seconds."""

    identity: str
    """Digest of files and flags."""
    build: str
    """Build of the engine, such as `b11669`; empty when the engine does not say."""
    model: str = ""
    """Name of the first file, for people."""
    flags: str = ""
    estimated: Mapping[str, int] = field(default_factory=dict)
    told: Mapping[str, int] = field(default_factory=dict)
    measured: Mapping[str, int] = field(default_factory=dict)
    """The most of all its runs."""
    runs: int = 0
    run: str = ""
    """The last one that counted."""
    measured_at: float | None = None
    raised: Mapping[str, int] = field(default_factory=dict)
    """Least that is needed, after a run died for want of memory; until one lives long enough to teach."""
    died_at: float | None = None

    def after_run(self, devices: Mapping[str, int], run: str, now: float) -> Record:
        """A run lived and worked, and had this much at its peak so far: that was enough."""
        again = bool(run) and run == self.run
        return replace(
            self,
            measured=_most(self.measured, devices),
            runs=self.runs if again else self.runs + 1,
            run=run,
            measured_at=now,
            raised={},
        )

    def after_want(self, short_of: Mapping[str, int], known: Mapping[str, int], now: float) -> Record:
        """A run died for want of these devices, of all that are known if none is named."""
        had = short_of or dict.fromkeys(known, 0)
        raised = dict(self.raised)
        for device, seen in had.items():
            base = max(known.get(device, 0), seen)
            if base:
                first = max(self._best_of(device), seen)
                raised[device] = round(min(base * RAISE, first * MOST_RAISED))
        measured = _most(self.measured, short_of) if self.measured else {}
        return replace(self, measured=measured, raised=raised, died_at=now)

    def _best_of(self, device: str) -> int:
        """Return what was known of a device before any death."""
        sources = (self.measured, self.told, self.estimated)
        return next((source[device] for source in sources if device in source), 0)


@dataclass(frozen=True, kw_only=True)
class Known:
    """The best that is known: bytes by device, and where they come from."""

    devices: Mapping[str, int]
    source: Source
    runs: int = 0
    build: str = ""
    raised: int = 0
    """Percent that a death for want of memory has added."""
    died_at: float | None = None

    @property
    def total(self) -> int:
        return sum(self.devices.values())

    @property
    def sentence(self) -> str:
        """`about 11 GiB (estimated)`, `11.2 GiB (measured in 3 runs, build b11669)`."""
        build = f", build {self.build}" if self.build else ""
        match self.source:
            case Source.MEASURED:
                said = f"{size(self.total)} (measured in {counted(self.runs, 'run')}{build})"
            case Source.TOLD:
                said = f"{size(self.total)} (told by the engine{build})"
            case Source.ESTIMATED:
                said = f"about {roughly(self.total)} (estimated)"
            case Source.UNKNOWN:
                return "an unknown amount of memory"
        return f"{said}, {self._why_raised}" if self.raised else said

    @property
    def _why_raised(self) -> str:
        day = f" on {datetime.fromtimestamp(self.died_at, UTC):%Y-%m-%d}" if self.died_at else ""
        return f"raised by {self.raised} % because it ran out of memory{day}"

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source.value,
            "total": self.total,
            "bytes": dict(self.devices),
            "runs": self.runs,
            "build": self.build,
            "raisedPercent": self.raised,
            "sentence": self.sentence,
        }


UNKNOWN = Known(devices={}, source=Source.UNKNOWN)


def best(own: Record, others: Iterable[Record] = ()) -> Known:
    """Choose the best source: measured, told by this build, measured with another build, estimated.

    `others`: of the same files and flags with other builds, newest measurement first.
    """
    sources = [
        Known(devices=own.measured, source=Source.MEASURED, runs=own.runs, build=own.build),
        Known(devices=own.told, source=Source.TOLD, build=own.build),
        *(
            Known(devices=other.measured, source=Source.MEASURED, runs=other.runs, build=other.build)
            for other in others
        ),
        Known(devices=own.estimated, source=Source.ESTIMATED, build=own.build),
    ]
    sources = [source for source in sources if source.devices]
    chosen = next((source for source in sources if not _misses(source, sources)), UNKNOWN)
    return _raised(chosen, own)


def others_of(own: Record, records: Iterable[Record]) -> list[Record]:
    """Records of the same files and flags that were measured with other builds, the newest first."""
    found = [record for record in records if record.build != own.build and record.measured]
    return sorted(found, key=lambda record: -(record.measured_at or 0.0))


def _misses(source: Known, sources: Iterable[Known]) -> bool:
    """Does a measurement lack a GPU that others know of? Some drivers do not tell what a process uses."""
    if source.source is not Source.MEASURED:
        return False
    return any(
        count > LEAST and not source.devices.get(device)
        for other in sources
        if other.source in (Source.TOLD, Source.ESTIMATED)
        for device, count in other.devices.items()
    )


def _raised(known: Known, own: Record) -> Known:
    needed = _most(known.devices, own.raised)
    if not known.total or sum(needed.values()) <= known.total:
        return known
    percent = round(100 * (sum(needed.values()) / known.total - 1))
    return replace(known, devices=needed, raised=percent, died_at=own.died_at)


def _most(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {device: max(one.get(device, 0), other.get(device, 0)) for device in (*one, *other)}
