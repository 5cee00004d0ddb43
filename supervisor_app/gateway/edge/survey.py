"""Facts about servers from the database, for the gateway, and what it keeps of them there.

Plain functions, for a `DatabaseThread`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from supervisor_app.common.moments import seconds
from supervisor_app.common.storage import storable
from supervisor_app.core.command_line.argv import spelled_out
from supervisor_app.core.command_line.work import textless_flag
from supervisor_app.core.loaded import loaded_from_json
from supervisor_app.core.machine.sockets import realm
from supervisor_app.core.sightings import Endpoint
from supervisor_app.core.status import AVAILABLE, Status
from supervisor_app.fleet.conf import Overlay, apply_overlay
from supervisor_app.fleet.events import load_of
from supervisor_app.fleet.models import LlamaServer, Run, ServerState
from supervisor_app.fleet.silence import silent_rows, silent_since, with_silence
from supervisor_app.gateway.edge.names import Names, is_router, names_of_all
from supervisor_app.gateway.edge.recent_runs import RecentRuns
from supervisor_app.gateway.llama.isolation import caches_prompts
from supervisor_app.gateway.llama.listing import Listing, listing_of_json, listing_of_names
from supervisor_app.gateway.llama.presets import presets_of
from supervisor_app.gateway.servers.elsewhere import is_elsewhere
from supervisor_app.gateway.servers.facts import End, Load, ServerFacts, end_of
from supervisor_app.traffic.models import ModelList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from django.db.models import QuerySet


def _states() -> QuerySet[ServerState, Any]:
    fields = [field.attname for field in ServerState._meta.concrete_fields if field.name != "seen_at"]
    return ServerState.objects.order_by("pk").values_list(*fields)


ROWS: tuple[Callable[[], QuerySet[Any, Any]], ...] = (
    lambda: LlamaServer.objects.order_by("pk").values_list(),
    _states,
    silent_rows,
    lambda: ModelList.objects.order_by("pk").values_list(),
)
"""All on which facts depend, but for runs, which change with the states, and heartbeats."""


def load_facts(overlay: Overlay, recent: RecentRuns | None = None) -> dict[str, ServerFacts]:
    """All servers of all nodes, by name. One query, and two for those that have changed since `recent`."""
    servers = list(with_silence(LlamaServer.objects.select_related("state", "model_list")))
    runs = (recent or RecentRuns()).of(servers)
    for server in servers:
        apply_overlay(server, overlay)
    listings = {server.name: _listing_of(server, runs[server.pk]) for server in servers}
    names, here = names_of_all(servers, listings), realm()
    return {
        server.name: _facts_of(server, runs[server.pk], names[server.name], here).with_listing(
            listings[server.name]
        )
        for server in servers
    }


def _facts_of(server: LlamaServer, runs: list[Run], names: Names, here: str) -> ServerFacts:
    state = _state_of(server)
    starts = [
        (run.ready_at - run.started_at).total_seconds() for run in runs if run.ready_at and not run.adopted
    ]
    args = [str(arg) for arg in server.args]
    endpoint = Endpoint(**state.endpoint) if state and state.endpoint else None
    open_run = next((run for run in runs if run.ended_at is None), None)
    adopted = bool(state and state.adopted)
    return ServerFacts(
        name=server.name,
        node=server.node,
        version=state.version if state else 0,
        status=Status(state.status) if state else Status.INITIAL,
        detail=state.detail if state else "No supervisor has looked after it yet.",
        url=state.url if state else "",
        pid=state.pid if state else None,
        endpoint=endpoint,
        run=open_run.pk if open_run is not None else None,
        load=_load_of(open_run),
        wanted=server.desired_running,
        wakes=server.stopped_for_idleness,
        draining=bool(state and state.draining),
        unloaded=bool(state and state.unloaded),
        failure=str(((state and state.failure) or {}).get("kind", "")),
        port_is_chosen=server.port_is_chosen,
        models=names.configured,
        offered=(names.id,) if names.id else (),
        configured=names.configured,
        foreign=names.foreign,
        presets=presets_of(server.presets),
        launch=launch_of(server),
        is_router=is_router(server),
        textless="" if adopted or is_router(server) else textless_flag(args),
        is_verbose=_is_verbose(args),
        caches_prompts=caches_prompts(server.args),
        api_key=(server.api_key or "") if adopted else server.key,  # one that was found knows no random key
        adopted=adopted,
        capacity=server.max_concurrent,
        max_queue=server.max_queue,
        hold_seconds=server.hold_seconds,
        start_seconds=median(starts) if starts else None,
        retry_at=state.next_retry_at.timestamp() if state and state.next_retry_at else None,
        ends={run.pid: _end_of(run) for run in reversed(runs) if run.pid and run.ended_at},
        is_elsewhere=bool(state and is_elsewhere(state.url, endpoint, here)),
        silent_since=seconds(silent_since(server)),
    )


def _state_of(server: LlamaServer) -> ServerState | None:
    return getattr(server, "state", None)


VERBOSE_FLAGS = frozenset({"-v", "--verbose", "--log-verbose"})
VERBOSITY_FLAGS = frozenset({"-lv", "--verbosity", "--log-verbosity"})
VERBOSE_FROM = 10
"""The verbosity at which llama-server adds `__verbose` to its answers."""


def _is_verbose(args: list[str]) -> bool:
    flags = spelled_out(args)
    levels = (value for flag, value in pairwise(flags) if flag in VERBOSITY_FLAGS)
    is_high = any(level.isdecimal() and int(level) >= VERBOSE_FROM for level in levels)
    return is_high or not VERBOSE_FLAGS.isdisjoint(flags)


def _load_of(run: Run | None) -> Load | None:
    known = None if run is None else load_of(seconds(run.ready_at), loaded_from_json(run.loaded))
    return None if known is None else Load(**known)


def _end_of(run: Run) -> End:
    return end_of(kind=run.failure_kind, signal=run.signal, adopted=run.adopted, title=run.failure_title)


# Its models


def launch_of(server: LlamaServer) -> str:
    """Write down what its models depend on."""
    return json.dumps([server.model_path, server.models_dir, server.args])


def _listing_of(server: LlamaServer, runs: Iterable[Run]) -> Listing:
    """Find what it said of its models and can still be true; or else the names that are known."""
    kept: ModelList | None = getattr(server, "model_list", None)
    if kept is not None and kept.launch == launch_of(server):
        return _read(kept.said, kept.read_at)
    state = _state_of(server)
    served = state.served if state else []
    if served:
        has_status = any(model["status"] != AVAILABLE for model in served)
        return listing_of_names(_ids(served), is_router=has_status or len(served) > 1)
    return listing_of_names(_served_before(runs) if is_router(server) else (), is_router=False)


@lru_cache(maxsize=1024)
def _read(said: str, read_at: float) -> Listing:
    """Read a listing that is the same nearly every second."""
    return listing_of_json(json.loads(said), read_at)


def _ids(served: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    return (str(model["id"]) for model in served)


def _served_before(runs: Iterable[Run]) -> list[str]:
    """List the models that a router served: nothing of its configuration names them."""
    return next((served for run in runs if (served := getattr(run, "served", None))), [])


def keep_listing(name: str, launch: str, listing: Listing) -> None:
    """Keep what a server said, for when it cannot say it. A server that was deleted meanwhile is ignored."""
    said = json.dumps(storable(listing.as_json()))
    for pk in LlamaServer.objects.filter(name=name).values_list("pk", flat=True):
        ModelList.objects.bulk_create(
            [ModelList(server_id=pk, launch=launch, said=said, read_at=listing.read_at)],
            update_conflicts=True,
            unique_fields=["server"],
            update_fields=["launch", "said", "read_at"],
        )
