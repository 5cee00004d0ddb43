"""Rows to snapshots and back: the read side that pages, API, CLI and pushes share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from supervisor_app.common.moments import moment, seconds
from supervisor_app.common.words import iso
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.loaded import loaded_from_json
from supervisor_app.core.sightings import Identity
from supervisor_app.core.status import (
    Failure,
    FailureKind,
    LlamaStatus,
    Model,
    Progress,
    Replacement,
    RunSummary,
    Stage,
    Status,
)
from supervisor_app.core.timeline import LENGTH
from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.fleet.newest import with_newest_runs
from supervisor_app.fleet.run_tables import json_of_failure
from supervisor_app.fleet.silence import has_supervisor, silent_since, with_silence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.fleet.maintenance_rules import Plan

Mark = tuple[int, bool, int]
"""Version of a server's snapshot, whether its supervisor is silent, the number of its maintenance or 0."""


@dataclass(frozen=True, kw_only=True)
class ServerView:
    """A server as everybody sees it."""

    status: LlamaStatus
    stale_since: float | None = None
    """Unix seconds: no supervisor has reported since. None: one does."""
    plan: Plan | None = None
    """Maintenance that it is in, as far as whoever made this has looked."""

    @property
    def is_planned(self) -> bool:
        return self.plan is not None

    @property
    def is_known(self) -> bool:
        """Tell whether the status holds now, and is not only what was seen last."""
        return self.stale_since is None

    @property
    def detail(self) -> str:
        """The supervisor's sentence; or that there is none any more, and what it said last."""
        if self.stale_since is None:
            return self.status.detail
        word, last = self.status.status.value, self.status.detail
        return f"{nobody_reports(self.stale_since)}, when it was {word}{f': {last}' if last else '.'}"

    def as_json(self, now: float) -> dict[str, Any]:
        """The `LlamaStatus` of the public contract, and beside it whether that is what is so now."""
        return {
            **self.status.as_json(now if self.stale_since is None else self.stale_since),
            "detail": self.detail,
            "supervised": self.is_known,
            "lastSeen": iso(self.stale_since),
            "maintenance": self.plan and self.plan.as_json(),
        }


def nobody_reports(since: float) -> str:
    """The beginning of a sentence."""
    return f"No supervisor has reported since {iso(since)}"


def load_views(*names: str) -> list[ServerView]:
    """All servers, or those with these names, by name. Two queries."""
    servers = with_silence(LlamaServer.objects.select_related("state"))
    if names:
        servers = servers.filter(name__in=names)
    runs = Run.objects.defer("last_lines", "argv", "launch")
    return [view_of(server, newest) for server, newest in with_newest_runs(servers, runs, LENGTH)]


def mark_of(view: ServerView) -> Mark:
    return view.status.version, view.stale_since is not None, view.plan.number if view.plan else 0


def view_of(server: LlamaServer, newest_runs: Iterable[Run] = ()) -> ServerView:
    state: ServerState | None = getattr(server, "state", None)
    if state is None:
        return ServerView(status=_not_seen_yet(server))
    return ServerView(
        status=snapshot_of(server.name, state, newest_runs),
        stale_since=seconds(silent_since(server)),
    )


def _not_seen_yet(server: LlamaServer) -> LlamaStatus:
    """Make the status of a server at which no supervisor has looked yet."""
    detail = f"No supervisor looks after it. Run manage.py runsupervisor on node {server.node}."
    if has_supervisor(server):
        detail = "Its supervisor is about to look after it."
    return LlamaStatus(name=server.name, detail=detail, max_retries=server.max_retries)


def snapshot_of(name: str, state: ServerState, runs: Iterable[Run]) -> LlamaStatus:
    progress = state.progress
    return LlamaStatus(
        name=name,
        status=Status(state.status),
        detail=state.detail,
        url=state.url,
        models=tuple(Model(**model) for model in state.served),
        last_error=state.last_error,
        failure=failure_from_json(state.failure),
        retries=state.retries,
        max_retries=state.max_retries,
        started_at=seconds(state.started_at),
        ready_at=seconds(state.ready_at),
        down_since=seconds(state.down_since),
        next_retry_at=seconds(state.next_retry_at),
        adopted=state.adopted,
        pid=state.pid,
        progress=progress
        and Progress(loaded=progress["loaded"], total=progress["total"], eta_seconds=progress["etaSeconds"]),
        draining=state.draining,
        unloaded=state.unloaded,
        replacement=replacement_from_json(state.replacement),
        can_roll_back=state.can_roll_back,
        warnings=tuple(state.warnings),
        runs=tuple(summary_of(run) for run in runs),
        version=state.version,
    )


def columns_of(snapshot: LlamaStatus, identity: Identity | None, generation: int) -> dict[str, Any]:
    """The columns of `ServerState` but `seen_at`, which only the database's clock may tell."""
    return {
        "version": snapshot.version,
        "status": snapshot.status.value,
        "detail": snapshot.detail,
        "url": snapshot.url,
        "served": [model.as_json() for model in snapshot.models],
        "last_error": snapshot.last_error,
        "failure": snapshot.failure and json_to_keep(snapshot.failure),
        "retries": snapshot.retries,
        "max_retries": snapshot.max_retries,
        "started_at": moment(snapshot.started_at),
        "ready_at": moment(snapshot.ready_at),
        "down_since": moment(snapshot.down_since),
        "next_retry_at": moment(snapshot.next_retry_at),
        "progress": snapshot.progress and snapshot.progress.as_json(),
        "draining": snapshot.draining,
        "unloaded": snapshot.unloaded,
        "replacement": snapshot.replacement and replacement_to_keep(snapshot.replacement),
        "can_roll_back": snapshot.can_roll_back,
        "warnings": list(snapshot.warnings),
        "adopted": snapshot.adopted,
        "pid": snapshot.pid,
        "process_start": identity.start if identity else None,
        "boot_id": identity.boot_id if identity else "",
        "endpoint": snapshot.endpoint and snapshot.endpoint.as_json(),
        "generation": generation,
    }


def summary_of(run: Run) -> RunSummary:
    started = run.started_at.timestamp()
    return RunSummary(
        retry=run.retry,
        adopted=run.adopted,
        started_at=started,
        ready_at=seconds(run.ready_at),
        loaded=loaded_from_json(run.loaded),
        ended_at=seconds(run.ended_at),
        exit_code=run.exit_code,
        signal=run.signal,
        failure=failure_from_json(json_of_failure(run)),
        memory=str(run.evidence.get("summary", "")),
    )


def identity_of_row(row: ServerState | Run) -> Identity | None:
    if row.pid is None or row.process_start is None:
        return None
    return Identity(pid=row.pid, start=row.process_start, boot_id=row.boot_id)


def replacement_to_keep(replacement: Replacement) -> dict[str, Any]:
    """Return a restart without a gap as JSON, with what the next supervisor must know of it."""
    identity = replacement.identity
    return {
        "stage": replacement.stage.value,
        "detail": replacement.detail,
        "identity": identity and asdict(identity),
        "port": replacement.port,
    }


def replacement_from_json(data: dict[str, Any] | None) -> Replacement | None:
    if data is None:
        return None
    identity = data["identity"]
    return Replacement(
        stage=Stage(data["stage"]),
        detail=data["detail"],
        identity=identity and Identity(**identity),
        port=data["port"],
    )


_KINDS = {kind.value: kind for kind in FailureKind}


def json_to_keep(failure: Failure) -> dict[str, Any]:
    """Return a failure as JSON, with what the next supervisor must know of it."""
    return {**failure.as_json(), "permanent": failure.permanent, "file": failure.file}


def failure_from_json(data: dict[str, Any] | None) -> Failure | None:
    """The words as they were stored. A kind that another version has written is none of ours."""
    if data is None:
        return None
    kind = _KINDS.get(data["kind"], FailureKind.UNKNOWN)
    return Failure(
        kind=kind,
        permanent=bool(data.get("permanent", failure_of(kind).permanent)),
        title=data["title"],
        detail=data["detail"],
        hint=data["hint"],
        file=data.get("file", ""),
    )
