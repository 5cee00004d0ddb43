"""What the database knows of servers, as the gateway wants it. Plain functions, for a `DatabaseThread`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePath
from statistics import median

from django.db.models import F, Prefetch

from supervisor_app.conf import Overlay, apply_overlay
from supervisor_app.core.status import Status
from supervisor_app.gateway.servers.facts import End, ServerFacts, end_of
from supervisor_app.models import LlamaServer, Run, ServerState

RUNS = 8
"""Of each server, newest first: for how they ended and how long they took to start."""


def load_facts(overlay: Overlay) -> dict[str, ServerFacts]:
    """All servers of all nodes, by name. Two queries."""
    newest = Run.objects.annotate(served=F("evidence__models")).only(
        "server_id",
        "adopted",
        "pid",
        "started_at",
        "ready_at",
        "ended_at",
        "signal",
        "failure_kind",
        "failure_title",
    )
    servers = LlamaServer.objects.select_related("state").prefetch_related(
        Prefetch("runs", newest.order_by("server_id", "-pk")[:RUNS], to_attr="newest_runs")
    )
    facts = {}
    for server in servers:
        apply_overlay(server, overlay)
        facts[server.name] = _facts_of(server, getattr(server, "newest_runs"))  # noqa: B009  (to_attr)
    return facts


def _facts_of(server: LlamaServer, runs: list[Run]) -> ServerFacts:
    state: ServerState | None = getattr(server, "state", None)
    offered = _offered(server, state, runs)
    starts = [
        (run.ready_at - run.started_at).total_seconds() for run in runs if run.ready_at and not run.adopted
    ]
    return ServerFacts(
        name=server.name,
        node=server.node,
        version=state.version if state else 0,
        status=Status(state.status) if state else Status.INITIAL,
        detail=state.detail if state else "No supervisor has looked at it yet.",
        url=state.url if state else "",
        pid=state.pid if state else None,
        life=next((run.pk for run in runs if run.ended_at is None), None),
        wanted=server.desired_running,
        wakes=server.stopped_for_idleness,
        models=tuple(_names(server, offered)),
        offered=tuple(offered),
        is_router=_is_router(server, state),
        api_key=server.api_key,
        capacity=server.max_concurrent,
        max_queue=server.max_queue,
        hold_seconds=server.hold_seconds,
        start_seconds=median(starts) if starts else None,
        retry_at=state.next_retry_at.timestamp() if state and state.next_retry_at else None,
        ends={run.pid: _end_of(run) for run in reversed(runs) if run.pid and run.ended_at},
    )


ROUTER_FLAGS = frozenset({"--models-dir", "--models-preset"})
OF_A_SINGLE_MODEL = "available"
"""How `core.probe` calls the state of a model of which the server tells none: a router tells it of each."""


def _is_router(server: LlamaServer, state: ServerState | None) -> bool:
    """Configured as one, or it was adopted and lists models as only a router does."""
    served = state.served if state else []
    return (
        bool(server.models_dir)
        or not ROUTER_FLAGS.isdisjoint(map(str, server.args))
        or len(served) > 1
        or any(model.get("status", OF_A_SINGLE_MODEL) != OF_A_SINGLE_MODEL for model in served)
    )


def _end_of(run: Run) -> End:
    return end_of(kind=run.failure_kind, signal=run.signal, adopted=run.adopted, title=run.failure_title)


def _offered(server: LlamaServer, state: ServerState | None, runs: Iterable[Run]) -> list[str]:
    """One name for each model: as the server says while it runs, and as it will say when it does."""
    names = _served(state) or _names_when_down(server, runs)
    return list(dict.fromkeys([*server.aliases, *names]))


def _served(state: ServerState | None) -> list[str]:
    """By the server's own words, one name for each model."""
    return [str(model["id"]) for model in state.served] if state else []


def _served_before(runs: Iterable[Run]) -> list[str]:
    """By a router: nothing of its configuration names its models."""
    return next((served for run in runs if (served := getattr(run, "served", None))), [])


def _names_when_down(server: LlamaServer, runs: Iterable[Run]) -> list[str]:
    """A file without an alias goes by its name with some builds of llama-server, by its path with others."""
    configured, before = _configured_names(server), _served_before(runs)
    if before == [server.model_path] and configured == [PurePath(server.model_path).name]:
        return before
    return configured or before


def _configured_names(server: LlamaServer) -> list[str]:
    args = [str(arg) for arg in server.args]
    for flag, value in pairwise(args):
        if flag in ("-a", "--alias"):
            return [name.strip() for name in value.split(",") if name.strip()]
    return [PurePath(server.model_path).name] if server.model_path else []


def _names(server: LlamaServer, offered: Iterable[str]) -> Iterable[str]:
    """Whatever people call it: also while it is down and cannot say its models."""
    names = {server.name: None, **dict.fromkeys(offered), **dict.fromkeys(_configured_names(server))}
    if server.model_path:
        path = PurePath(server.model_path)
        names |= {server.model_path: None, path.name: None, path.stem: None}
    return names
