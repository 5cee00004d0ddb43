"""Is a server that answers /health really working? Pure: samples in, verdict out.

/health is answered by a thread that knows nothing of the one that computes: it says 200 in a millisecond
while inference is hung for ever (llama.cpp #27388, #13281). Only progress tells: per-slot decoded tokens,
prompt tokens processed, decode calls. So: hung means work is in flight and nothing has moved for
`stall_seconds`. Never on one time-out, and never because a question was not answered that older builds do
not answer while they decode (before llama.cpp #27041).

A server without work has no progress to show. If people want that, it is asked for one token after a while,
the canary; it hangs when that is not answered twice in a row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, assert_never

from supervisor_app.common.records import replace
from supervisor_app.core.sightings import Canary

if TYPE_CHECKING:
    from supervisor_app.core.sightings import Slot

BUSY_INTERVAL = 2.0
"""Seconds between two looks while there is work: faster ones keep a server from seeing its client leave."""
IDLE_INTERVAL = 5.0
"""Seconds between two looks whether there is work; these do not ask the server."""
CPU_EXTENDS = 5
"""A process that uses its CPU may be in one long batch: this many times `stall_seconds` at most. One known
hang spins at full CPU, so there is a limit."""
BUSY_CPU = 0.5
"""Cores in use that count as computing."""
CANARIES = 2
"""Canaries in a row without an answer that are a hang."""


NO_CPU = 0.05
"""Cores in use below which nothing is computed, neither here nor on a GPU that is waited for."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Findings of a look at a server from outside and, when there was reason to ask, at its slots.

    `mark` changes with every token and every batch of a prompt. None: idle, not asked or not answered.
    """

    busy: bool = False
    mark: Any = None
    answered: bool = True
    """False: it was asked and did not answer."""
    signs: bool = False
    """Signs of work that slots do not show: CPU in use, or a client where it does not tell its slots."""
    moved: bool = False
    """Content of an answer has passed a gateway since the last look: whatever its slots say, it works."""
    cores: float = 0.0
    """CPU of the process since the last look, in cores."""
    memory: int = 0
    """Bytes that it uses and no file backs; 0 when nobody can tell."""
    working: int = 0
    """Slots that work, of `slots`."""
    slots: int = 0
    each: tuple[Slot, ...] = field(default=(), compare=False)
    """Slots one by one; empty: it was not asked, or does not tell."""
    log_trouble: str = ""
    """Fate of the log file, as a sentence."""

    @property
    def quiet(self) -> bool:
        """Tell whether there is no work, beyond doubt."""
        return self.answered and not (self.busy or self.signs or self.moved)


class WorkState(Enum):
    IDLE = auto()
    WORKING = auto()
    """Work has moved since the last look, or may still be in time."""
    STALLED = auto()


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Findings of the looks before. Times are monotonic seconds."""

    busy: bool = False
    mark: Any = None
    moved_at: float = 0.0
    seen_at: float = 0.0
    answers_while_busy: bool = False
    """This build has told its slots while it worked: from now on its silence is evidence."""
    quiet_since: float = 0.0
    """Time since which there was neither work nor an answered canary."""
    silent_canaries: int = 0
    """Number of silent canaries in a row, up to now."""
    completes_text: bool = True
    """False: it has no token to give, so nothing can be told from not getting one."""

    @property
    def interval(self) -> float:
        return BUSY_INTERVAL if self.busy else IDLE_INTERVAL

    def stalled_for(self, now: float) -> float:
        """Seconds without any movement; 0 when there is nothing to do."""
        return now - self.moved_at if self.busy else 0.0


def look(watch: Watch, activity: Activity, *, stall_seconds: float, now: float) -> tuple[Watch, WorkState]:
    """The next watch and what to think of the server. `stall_seconds` 0: it never counts as hung."""
    seen = replace(watch, seen_at=now)
    if not activity.quiet:
        seen = replace(seen, quiet_since=now, silent_canaries=0)
    if activity.moved:
        return replace(seen, busy=True, mark=activity.mark, moved_at=now), WorkState.WORKING
    if not activity.answered:
        return _unanswered(seen, activity, watch, stall_seconds, now)
    if not activity.busy:
        return replace(seen, busy=False, mark=None, moved_at=now), WorkState.IDLE
    seen = replace(seen, busy=True, mark=activity.mark, answers_while_busy=True)
    if not watch.busy or activity.mark != watch.mark:
        return replace(seen, moved_at=now), WorkState.WORKING
    return seen, _verdict(seen, activity, stall_seconds, now)


def _unanswered(
    seen: Watch, activity: Activity, before: Watch, stall_seconds: float, now: float
) -> tuple[Watch, WorkState]:
    if not before.answers_while_busy:
        # Perhaps an old build in a long decode: time in which it computes does not count, all other does.
        blind = now - before.seen_at if activity.cores >= NO_CPU else 0.0
        seen = replace(seen, busy=True, moved_at=before.moved_at + blind if before.busy else now)
        return seen, _verdict(seen, activity, stall_seconds * CPU_EXTENDS, now)
    if not before.busy:
        return replace(seen, busy=True, moved_at=now), WorkState.WORKING
    return seen, _verdict(seen, activity, stall_seconds, now)


def _verdict(seen: Watch, activity: Activity, stall_seconds: float, now: float) -> WorkState:
    if not stall_seconds:
        return WorkState.WORKING
    limit = stall_seconds * (CPU_EXTENDS if activity.cores >= BUSY_CPU else 1)
    return WorkState.STALLED if seen.stalled_for(now) >= limit else WorkState.WORKING


def canary_due(watch: Watch, minutes: float, now: float) -> bool:
    """Has it been idle for so many minutes without a sign that it still computes? `minutes` 0: never."""
    wanted = minutes > 0 and watch.completes_text and not watch.busy
    return wanted and now - watch.quiet_since >= 60 * minutes


def hear(watch: Watch, canary: Canary, now: float) -> Watch:
    """The next watch, given what came of a canary."""
    match canary:
        case Canary.SILENT:
            return replace(watch, silent_canaries=watch.silent_canaries + 1)
        case Canary.FINE:
            return replace(watch, quiet_since=now, silent_canaries=0)
        case Canary.UNSUPPORTED:
            return replace(watch, completes_text=False)
        case never:
            assert_never(never)
