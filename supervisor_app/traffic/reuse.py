"""Reuse of prompts that servers have in their caches: seen in records, forbidden by keys. Blocking."""

from __future__ import annotations

from datetime import timedelta
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from supervisor_app.common.moments import moment
from supervisor_app.core.diagnosis.named_files import is_router
from supervisor_app.gateway.llama.isolation import is_shared_with
from supervisor_app.traffic.models import ApiKey, RequestRecord

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from supervisor_app.fleet.models import LlamaServer

LONGEST_REQUEST = timedelta(hours=1)
"""A request that began longer before a moment, and ended after it, is not looked for."""


def isolating_rows() -> QuerySet[ApiKey, Any]:
    """Keys whose prompts nobody else may find in a cache, for comparison."""
    keys = ApiKey.objects.filter(isolate_cache=True)
    return keys.order_by("pk").values_list("pk", "allowed_models")


def is_isolated(server: LlamaServer) -> bool:
    """Tell whether a key whose prompts nobody else may find in a cache may use this server."""
    keys = ApiKey.objects.filter(isolate_cache=True)
    names = (server.name, *server.aliases, *server.presets, PurePath(server.model_path).name)
    routes = bool(server.models_dir) or is_router(map(str, server.args))
    return any(
        is_shared_with(frozenset(key.allowed_models), names, is_router=routes)
        for key in keys.only("allowed_models")
    )


def cached_tokens(server: str, since: float, count: int) -> list[int]:
    """Return what the first answers that ended after a moment found in the cache, oldest first.

    `since`: Unix seconds. A request may have waited for the server to start, so it may be older.
    """
    begun = moment(since)
    rows = (
        RequestRecord.objects.filter(
            server=server, at__gte=begun - LONGEST_REQUEST, cached_tokens__isnull=False
        )
        .order_by("at", "pk")
        .values_list("at", "duration_ms", "cached_tokens")
    )
    ended = sorted(
        (at + timedelta(milliseconds=duration), cached or 0)
        for at, duration, cached in rows
        if at + timedelta(milliseconds=duration) >= begun
    )
    return [cached for _, cached in ended[:count]]
