"""Crashes of one cause as one: groups of runs that died of the same, with the same build.

Pure but for `crashes_of`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from supervisor_app.core.command_line.named_model import named_model
from supervisor_app.core.diagnosis.likeness import key_of
from supervisor_app.engine.build import reaches
from supervisor_app.fleet.models import CrashMark, LlamaServer, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

DAYS = 30
"""Days of a group's bars, the last one up to now."""
DAY_SECONDS = 86400.0


@dataclass(frozen=True, kw_only=True)
class Crash:
    """A run that died, as far as it is compared with others."""

    number: int
    kind: str
    title: str
    line: str
    """The decisive line; where there is none, why it died in words."""
    model: str
    build: str
    ended_at: float
    """Unix seconds."""

    @cached_property
    def key(self) -> str:
        return key_of(self.kind, self.line, self.model)


@dataclass(frozen=True, kw_only=True)
class Group:
    """Crashes of one cause with one build, and what people have said of that cause."""

    crashes: tuple[Crash, ...]
    """Crashes of the group, the newest first; never none."""
    days: tuple[int, ...]
    """Crashes of each of the last `DAYS` days, oldest first."""
    today: int
    """Crashes of this cause in the last 24 hours, with any build."""
    mark: CrashMark | None = None

    @property
    def newest(self) -> Crash:
        return self.crashes[0]

    @property
    def key(self) -> str:
        return self.newest.key

    @property
    def first_at(self) -> float:
        return min(crash.ended_at for crash in self.crashes)

    @property
    def last_at(self) -> float:
        return max(crash.ended_at for crash in self.crashes)

    @property
    def resolved_in(self) -> str:
        """The build in which people say that this is mended; empty: in none."""
        return self.mark.resolved_build if self.mark else ""

    @property
    def again_since(self) -> float | None:
        """Return when it was first seen again, after it was resolved, with that build or a newer one."""
        if self.mark is None or self.mark.resolved_at is None:
            return None
        return seen_again(self.crashes, self.resolved_in, self.mark.resolved_at.timestamp())

    @property
    def is_resolved(self) -> bool:
        return bool(self.resolved_in) and self.again_since is None


def seen_again(crashes: Iterable[Crash], build: str, since: float) -> float | None:
    """Return when a build, or a newer one, first crashed so after a moment; None: it has not."""
    times = [crash.ended_at for crash in crashes if crash.ended_at > since and reaches(crash.build, build)]
    return min(times, default=None)


def grouped(crashes: Sequence[Crash], marks: Mapping[str, CrashMark], now: float) -> list[Group]:
    """Group crashes by cause and build: what is not resolved first, then by the newest crash.

    `crashes`: the newest first. `now`: Unix seconds.
    """
    found: defaultdict[tuple[str, str], list[Crash]] = defaultdict(list)
    today: defaultdict[str, int] = defaultdict(int)
    for crash in crashes:
        found[crash.key, crash.build].append(crash)
        today[crash.key] += now - crash.ended_at < DAY_SECONDS
    groups = [
        Group(crashes=tuple(some), days=by_day(some, now), today=today[key], mark=marks.get(key))
        for (key, _), some in found.items()
    ]
    return sorted(groups, key=lambda group: (group.is_resolved, -group.newest.number))


def by_day(crashes: Iterable[Crash], now: float) -> tuple[int, ...]:
    """Count crashes in each of the last `DAYS` times 24 hours, the oldest first."""
    counts = [0] * DAYS
    for crash in crashes:
        age = max(0, int((now - crash.ended_at) // DAY_SECONDS))
        if age < DAYS:
            counts[DAYS - 1 - age] += 1
    return tuple(counts)


def crashes_of(server: LlamaServer, since: datetime | None = None) -> list[Crash]:
    """Read the crashes of a server, or those since a moment, the newest first. One query."""
    runs = Run.objects.filter(server=server).exclude(failure_kind="").exclude(ended_at=None)
    if since is not None:
        runs = runs.filter(ended_at__gt=since)
    columns = ("pk", "failure_kind", "failure_title", "failure_detail", "argv", "build", "ended_at")
    return [
        Crash(
            number=number,
            kind=kind,
            title=title,
            line=str(decisive or detail),
            model=named_model([str(word) for word in argv]),
            build=build,
            ended_at=ended_at.timestamp(),
        )
        for number, kind, title, detail, argv, build, ended_at, decisive in runs.values_list(
            *columns, "evidence__decisive"
        )
        if ended_at is not None
    ]
