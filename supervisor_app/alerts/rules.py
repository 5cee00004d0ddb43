"""Incidents: when being down is one, which channel is told which event, and in which words. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from supervisor_app.common.redact import redact
from supervisor_app.common.words import counted, iso, size, span
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.status import DOWN, Failure, FailureKind, LlamaStatus, Status

if TYPE_CHECKING:
    from collections.abc import Collection

    from supervisor_app.alerts.tally import Tally

FIRST_RETRY_SECONDS = 60.0
LONGEST_RETRY_SECONDS = 3600.0
GIVE_UP_SECONDS = 24 * 3600.0
"""An alert that could not be delivered for a day is no news any more."""


class AlertEvent(StrEnum):
    """Event of an incident that people are told. These words are in the webhook's body."""

    CRASHED = "crashed"
    HUNG = "hung"
    GIVEN_UP = "given_up"
    STILL_DOWN = "still_down"
    RECOVERED = "recovered"
    LINE = "line"
    """A line that people watch for was written to a log."""
    TEST = "test"


IT_IS_DOWN = frozenset({AlertEvent.CRASHED, AlertEvent.HUNG})
"""Two events for a server that went down: a channel is told one of them, once in an incident."""


class IncidentEnd(StrEnum):
    RECOVERED = "recovered"
    STOPPED = "stopped"
    """A person stopped the server while it was down: nobody needs to be told."""
    SEEN = "seen"
    """A moment, not a time: a line that people watch for was written."""


@dataclass(frozen=True, kw_only=True)
class Incident:
    """The time from a server's unasked end until it has been ready for a while. Times are Unix seconds."""

    opened_at: float
    failure: Failure | None
    """The latest failure."""
    worst: Status
    said: frozenset[AlertEvent] = frozenset()
    """Events of this incident so far: none happens twice."""
    recovered_at: float | None = None
    """Ready since then; None while it is not."""
    closes_at: float | None = None
    """The end of the incident, if the server is ready without a break until then."""

    def settled(self, now: float) -> bool:
        return self.closes_at is not None and now >= self.closes_at

    def lasted(self, now: float) -> float:
        """Return the seconds of being down, never below 0: a clock may be set back."""
        return max(0.0, (self.recovered_at or now) - self.opened_at)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Result of one snapshot for an incident."""

    incident: Incident | None
    """The incident as it is now, also when it ends with this step."""
    due: tuple[AlertEvent, ...] = ()
    """Events to tell now, in the order of their weight, the heaviest last."""
    ending: IncidentEnd | None = None


def follow(
    incident: Incident | None,
    snapshot: LlamaStatus,
    *,
    now: float,
    wanted: bool,
    stable_seconds: float,
    death: Failure | None = None,
    died_at: float | None = None,
) -> Step:
    """Begin an incident, continue the open one, or end it, from what the server is now.

    `wanted`: people want it to run. `death`: it died since the last snapshot, though it may be up again: a
    database that was away for a while sees only the newest snapshot, but every death.
    """
    resting = snapshot.status in (Status.STOPPING, Status.INITIAL)
    if resting and (not wanted or snapshot.unloaded):
        return _stopped(incident)
    if snapshot.status in DOWN or death is not None:
        incident, due = _down(incident, snapshot, death, died_at or now)
        return Step(incident=_ready(incident, snapshot, now, stable_seconds), due=due)
    if incident is None or resting:  # a restart, or the supervisor ends: it is as down as before
        return Step(incident=incident)
    return Step(incident=_ready(incident, snapshot, now, stable_seconds))


def _stopped(incident: Incident | None) -> Step:
    """End the incident of a server that rests because a person stopped it, or because it has no room.

    If it was up again, its channels are told.
    """
    if incident is None:
        return Step(incident=None)
    if incident.recovered_at is None:
        return Step(incident=incident, ending=IncidentEnd.STOPPED)
    return Step(incident=incident, due=(AlertEvent.RECOVERED,), ending=IncidentEnd.RECOVERED)


def _down(
    incident: Incident | None, snapshot: LlamaStatus, death: Failure | None, at: float
) -> tuple[Incident, tuple[AlertEvent, ...]]:
    failure = (snapshot.failure if snapshot.status in DOWN else None) or death
    given_up = snapshot.status is Status.ERROR
    if incident is None:
        incident = Incident(opened_at=at, failure=failure, worst=Status.CRASHED)
    hung = failure is not None and failure.kind.value == AlertEvent.HUNG.value
    happened = [AlertEvent.HUNG if hung else AlertEvent.CRASHED]
    if given_up:
        happened.append(AlertEvent.GIVEN_UP)
    due = tuple(event for event in happened if event not in incident.said)
    down = replace(
        incident,
        failure=failure or incident.failure,
        worst=Status.ERROR if given_up else incident.worst,
        said=incident.said | {*due},
        recovered_at=None,
        closes_at=None,
    )
    return down, due


def _ready(incident: Incident, snapshot: LlamaStatus, now: float, stable_seconds: float) -> Incident:
    if snapshot.status is not Status.READY:
        return replace(incident, recovered_at=None, closes_at=None)
    if incident.recovered_at is not None:
        return incident
    since = max(snapshot.ready_at or now, incident.opened_at)
    return replace(incident, recovered_at=since, closes_at=since + stable_seconds)


def is_muted(today: int, above: int) -> bool:
    """Is a crash told to nobody, of which there were so many in 24 hours? `above`: more are told."""
    return today <= above


def hold_back(step: Step) -> Step:
    """Return the step without a word of being down, as if nobody had seen it: a later crash may be told.

    A server that was given up stays down, so that is told all the same.
    """
    if step.incident is None:
        return step
    due = tuple(event for event in step.due if event not in IT_IS_DOWN)
    return replace(
        step, due=due, incident=replace(step.incident, said=step.incident.said - {*step.due} | {*due})
    )


def silence(step: Step) -> Step:
    """Return the step as a time of planned work has it: what happens is told to nobody while that lasts.

    That a server is up again which was told to be down is told all the same.
    """
    if step.incident is None:
        return step
    due = tuple(event for event in step.due if event is AlertEvent.RECOVERED)
    return replace(step, due=due, incident=replace(step.incident, said=step.incident.said - {*step.due}))


def overdue(incident: Incident) -> tuple[AlertEvent, ...]:
    """Return what is to be told of an incident once the planned work is over in which it began."""
    if incident.recovered_at is not None:
        return ()
    hung = incident.failure is not None and incident.failure.kind.value == AlertEvent.HUNG.value
    given_up = (AlertEvent.GIVEN_UP,) if incident.worst is Status.ERROR else ()
    happened = (AlertEvent.HUNG if hung else AlertEvent.CRASHED, *given_up)
    return tuple(event for event in happened if event not in incident.said)


def host_lost(node: str, others: Collection[str]) -> Failure:
    """Return the failure of a server whose supervisor ended without a word. `others`: lost with it."""
    also = f"; the same holds for {', '.join(others)}" if others else ""
    return failure_of(FailureKind.HOST_LOST, f"no supervisor reports from {node} any more{also}")


def choose(
    due: Collection[AlertEvent], wants: Collection[AlertEvent], heard: Collection[AlertEvent]
) -> AlertEvent | None:
    """Return the event of a step that a channel is told: the heaviest it wants and was not told yet."""
    chosen = None
    for event in due:
        known = event in heard or (
            event in IT_IS_DOWN and not IT_IS_DOWN.union({AlertEvent.GIVEN_UP}).isdisjoint(heard)
        )
        if event in wants and not known:
            chosen = event
    return chosen


def retry_delay(attempts: int) -> float:
    """Return the seconds until the next try: a minute, doubling with each failed try up to an hour."""
    # A float's exponent ends at 1023; a day has no more than thirty tries.
    return float(min(FIRST_RETRY_SECONDS * 2 ** min(attempts - 1, 30), LONGEST_RETRY_SECONDS))


# --- Words ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A complete message: a channel needs nothing else to send it."""

    event: AlertEvent
    server: str
    node: str
    incident: int | None
    """Number of the incident; None for a test."""
    status: str
    failure: Failure | None
    since: float
    """Unix seconds: when it went down."""
    at: float
    duration_seconds: int
    url: str
    title: str
    text: str

    def as_json(self) -> dict[str, Any]:
        """Return the webhook's body, as docs/alerts.md documents it."""
        return {
            "event": self.event.value,
            "server": self.server,
            "node": self.node,
            "incident": self.incident,
            "status": self.status,
            "failure": self.failure and self.failure.as_json(),
            "since": iso(self.since),
            "at": iso(self.at),
            "duration_seconds": self.duration_seconds,
            "url": self.url,
            "title": self.title,
            "text": self.text,
        }


def write(
    event: AlertEvent,
    incident: Incident,
    snapshot: LlamaStatus,
    *,
    number: int,
    node: str,
    now: float,
    secrets: Collection[str] = (),
) -> Alert:
    """Write the message about an event, without the secrets of a failure's last line: it leaves the house."""

    def clean(text: str) -> str:
        return redact(text, tuple(secrets))

    failure = incident.failure and replace(
        incident.failure, detail=clean(incident.failure.detail), hint=clean(incident.failure.hint)
    )
    lasted = int(incident.lasted(now))
    title, text = _WORDS[event](snapshot, failure, span(lasted))
    return Alert(
        event=event,
        server=snapshot.name,
        node=node,
        incident=number,
        status=snapshot.status.value,
        failure=failure,
        since=incident.opened_at,
        at=now,
        duration_seconds=lasted,
        url=snapshot.url,
        title=title,
        text=clean(text),
    )


def write_test(channel: str, *, node: str, now: float) -> Alert:
    """Write the message of the test button."""
    return Alert(
        event=AlertEvent.TEST,
        server="",
        node=node,
        incident=None,
        status="",
        failure=None,
        since=now,
        at=now,
        duration_seconds=0,
        url="",
        title="Test from llamaproxy",
        text=f"This is a test of the alert channel {channel}. Nothing is wrong.",
    )


def write_line(
    server: str,
    watch: str,
    seen: Tally,
    *,
    number: int,
    node: str,
    status: str,
    url: str,
    see: str,
    failure: Failure,
    now: float,
) -> Alert:
    """Write the message about a line of a log. `see`: the path of the page that shows it."""
    often = f" ({seen.count} such lines since the last message)" if seen.count > 1 else ""
    skipped = f" {size(seen.skipped)} were written too fast to be looked at." if seen.skipped else ""
    return Alert(
        event=AlertEvent.LINE,
        server=server,
        node=node,
        incident=number,
        status=status,
        failure=failure,
        since=seen.at,
        at=now,
        duration_seconds=0,
        url=url,
        title=f"{server}: {watch}",
        text=f"{server} wrote a line that “{watch}” watches for{often}: {seen.line}\nSee {see}.{skipped}",
    )


def _why(failure: Failure | None) -> str:
    return f"{failure.sentence}." if failure else "Nobody knows why."


def _hint(failure: Failure | None) -> str:
    return f"\n{failure.hint}" if failure and failure.hint else ""


def _went_down(snapshot: LlamaStatus, failure: Failure | None, lasted: str) -> tuple[str, str]:
    name = snapshot.name
    if snapshot.status in DOWN:
        return f"{name} is down", f"{name} is down: {snapshot.detail}{_hint(failure)}"
    return f"{name} went down", f"{name} went down: {_why(failure)} Now: {snapshot.detail}{_hint(failure)}"


def _given_up(snapshot: LlamaStatus, failure: Failure | None, lasted: str) -> tuple[str, str]:
    name, retries = snapshot.name, snapshot.retries
    tries = f"after {counted(retries, 'retry', 'retries')}" if retries else "without a retry"
    return f"{name} was given up", f"{name} was given up {tries}: {_why(failure)}{_hint(failure)}"


def _still_down(snapshot: LlamaStatus, failure: Failure | None, lasted: str) -> tuple[str, str]:
    name = snapshot.name
    return f"{name} is still down", f"{name} is still down, for {lasted} now: {_why(failure)}{_hint(failure)}"


def _recovered(snapshot: LlamaStatus, failure: Failure | None, lasted: str) -> tuple[str, str]:
    name = snapshot.name
    return f"{name} is up again", f"{name} is up again after {lasted}."


_WORDS = {
    AlertEvent.CRASHED: _went_down,
    AlertEvent.HUNG: _went_down,
    AlertEvent.GIVEN_UP: _given_up,
    AlertEvent.STILL_DOWN: _still_down,
    AlertEvent.RECOVERED: _recovered,
}
