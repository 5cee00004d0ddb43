"""The past lives of a server, for their crash cards: page, admin and JSON read the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from supervisor_app.common.moments import seconds
from supervisor_app.common.words import iso
from supervisor_app.core.command_line.argv import argv_diff
from supervisor_app.fleet.run_tables import Run, RunQuerySet, json_of_failure
from supervisor_app.fleet.snapshots import summary_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from supervisor_app.core.status import RunSummary

LISTED = 100
"""The newest runs, in one answer."""


@dataclass(frozen=True)
class Line:
    text: str
    decisive: bool
    """The line tells the cause."""


@dataclass(frozen=True)
class Point:
    """Memory in use before the end, in units of the chart."""

    x: float
    y: float


@dataclass(frozen=True)
class RunCard:
    """A run with all that is known of it."""

    run: Run

    @cached_property
    def summary(self) -> RunSummary:
        return summary_of(self.run)

    @cached_property
    def evidence(self) -> dict[str, Any]:
        evidence: dict[str, Any] = self.run.evidence
        return evidence

    @cached_property
    def good(self) -> Run | None:
        """The newest earlier run of this server that reached ready and whose command line is known."""
        return (
            self._others().filter(started_at__lt=self.run.started_at).reached_ready().exclude(argv=[]).first()
        )

    @cached_property
    def changes(self) -> tuple[str, ...]:
        """List what is different on the command line since then."""
        return argv_diff(self.good.argv, self.run.argv) if self.good and self.run.argv else ()

    @cached_property
    def older(self) -> Run | None:
        return self._others().filter(started_at__lt=self.run.started_at).first()

    @cached_property
    def newer(self) -> Run | None:
        return self._others().filter(started_at__gt=self.run.started_at).last()

    @cached_property
    def lines(self) -> list[Line]:
        at = self.evidence.get("decisiveAt")
        return [Line(text, number == at) for number, text in enumerate(last_lines(self.run))]

    @cached_property
    def decisive(self) -> str:
        """The decisive line when it is older than the last lines; those show it themselves."""
        return "" if any(line.decisive for line in self.lines) else self.evidence.get("decisive", "")

    @property
    def before_end(self) -> float | None:
        """Seconds from the last look at its memory to its end."""
        memory = self.evidence.get("memory")
        if memory is None or self.run.ended_at is None:
            return None
        return max(0.0, self.run.ended_at.timestamp() - float(memory["at"]))

    @cached_property
    def chart(self) -> list[Point]:
        """Draw the memory of the run in a box of 100 by 100; empty when there is nothing to see."""
        history = self.evidence.get("history", [])
        longest = max((before for before, _ in history), default=0)
        most = max((used for _, used in history), default=0)
        if len(history) < 3 or not longest or not most:
            return []
        return [
            Point(round(100 * (1 - before / longest), 1), round(100 - 92 * used / most, 1))
            for before, used in history
        ]

    def _others(self) -> RunQuerySet:
        return Run.objects.filter(server=self.run.server).exclude(pk=self.run.pk)

    def as_json(self) -> dict[str, Any]:
        """Everything: for staff, because output may hold prompts."""
        run = self.run
        return {
            **summary_json(run),
            "failure": json_of_failure(run),
            "note": run.note,
            "pid": run.pid,
            "build": run.build,
            "argv": run.argv,
            "changes": list(self.changes),
            "changedSince": self.good and self.good.pk,
            "lastLines": last_lines(run),
            "evidence": self.evidence,
        }


def last_lines(run: Run) -> list[str]:
    """Return the last lines of a run. `splitlines` would also split at Unicode's ends of lines."""
    return run.last_lines.split("\n") if run.last_lines else []


def own(memory: Mapping[str, Any]) -> int:
    """Bytes that a process used, of the JSON of a memory sample."""
    used: int = memory["anon"] + memory["swap"]
    return used


def newest_runs(name: str) -> list[Run]:
    """Select the newest runs of the server with this name, without the columns that only a card shows."""
    return list(Run.objects.filter(server__name=name).defer("last_lines", "argv", "launch")[:LISTED])


def card_of(name: str, number: int) -> RunCard | None:
    run = Run.objects.filter(server__name=name, pk=number).select_related("server").first()
    return RunCard(run) if run else None


def summary_json(run: Run) -> dict[str, Any]:
    """Return what everybody may know of a run, as JSON."""
    return {
        "id": run.pk,
        "kind": run.failure_kind or None,
        "title": run.failure_title or None,
        "exitCode": run.exit_code,
        "signal": run.signal,
        "uptime": int(run.uptime.total_seconds()),
        "retry": run.retry,
        "adopted": run.adopted,
        "startedAt": iso(seconds(run.started_at)),
        "readyAt": iso(seconds(run.ready_at)),
        "endedAt": iso(seconds(run.ended_at)),
    }
