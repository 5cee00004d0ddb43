"""The contexts of the pages of requests, of one server or of all."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone

from supervisor_app.core.loaded import loaded_from_json
from supervisor_app.fleet.models import Run, ServerState
from supervisor_app.pages.presenters.traffic import flight_rows, queues
from supervisor_app.traffic.live import flight
from supervisor_app.traffic.models import OUTCOME_WORDS, ApiKey, QuarantinedRequest, RequestRecord, UsageDay
from supervisor_app.traffic.search import LOOKED_AT, NO_KEY, SLOW, Search, look

WOKE = timedelta(seconds=1)
"""Time that a wish of a request takes at most until its server asks for room."""
SPAN_WORDS = {"1h": "last hour", "24h": "last 24 h", "7d": "last 7 days", "30d": "last 30 days"}


def first_token_after_load(name: str) -> float | None:
    """Milliseconds from the end of the last load to the first token of a request that waited for it.

    None: no such request is on record, or nobody has measured the load.
    """
    run = Run.objects.filter(server__name=name).open().reached_ready().first()
    loaded = loaded_from_json(run.loaded) if run is not None else None
    if run is None or run.ready_at is None or loaded is None:
        return None
    began = run.ready_at - timedelta(milliseconds=loaded.room_ms + loaded.load_ms) - WOKE
    waited = RequestRecord.objects.filter(
        server=name, at__gte=began, at__lt=run.ready_at, ttft_ms__isnull=False
    ).values_list("at", "ttft_ms")
    after = [1000 * (at - run.ready_at).total_seconds() + first for at, first in waited if first is not None]
    return min((count for count in after if count >= 0), default=None)


def page_url(name: str) -> str:
    """The address of the requests of this server; empty name: of all."""
    return reverse("server-requests", args=[name]) if name else reverse("requests")


def flight_panel(name: str, said: str = "") -> dict[str, Any]:
    """Return the context of `supervisor/_in_flight.html`. `said`: what has just been done."""
    seen = flight(name)
    rows = flight_rows(seen.requests, seen.cancelled)
    states = ServerState.objects.filter(server__name__in=seen.waiting)
    details = dict(states.values_list("server__name", "detail")) if seen.waiting else {}
    return {
        "name": name or None,
        "in_flight_url": reverse("server-in-flight", args=[name]) if name else reverse("in-flight"),
        "flights": rows,
        "unlisted": seen.unlisted,
        "queues": queues(seen.waiting, seen.requests, details),
        "said": said,
        "now": timezone.now().timestamp(),
    }


def quarantine_panel(name: str) -> dict[str, Any]:
    """Return the context of `supervisor/_quarantine.html`."""
    entries = QuarantinedRequest.objects.in_force(timezone.now())
    return {"name": name or None, "quarantine": list(entries.filter(server=name) if name else entries[:100])}


def past_panel(name: str, search: Search) -> dict[str, Any]:
    """Return the context of `supervisor/_past.html`, without the address of the gateway."""
    now = timezone.now()
    found = look(search, now, name)
    return {
        "name": name or None,
        "page_url": page_url(name),
        "search": search,
        "found": found,
        "older_query": replace(search, before=found.older).query if found.older is not None else "",
        "newest_query": replace(search, before=None).query,
        "looked_at": f"{LOOKED_AT:,}".replace(",", "\u202f"),
        "first_token_ms": first_token_after_load(name) if name else None,
        "now": now.timestamp(),
    }


def filters_panel() -> dict[str, Any]:
    """Return the choices of `supervisor/_filters.html`."""
    keys = [(name, name) for name in ApiKey.objects.values_list("name", flat=True)]
    recent = timezone.now().date() - timedelta(days=30)
    models = UsageDay.objects.filter(day__gte=recent).exclude(model="").values_list("model", flat=True)
    return {
        "spans": list(SPAN_WORDS.items()),
        "outcomes": [
            (outcome.value, ", ".join(filter(None, words))) for outcome, words in OUTCOME_WORDS.items()
        ],
        "keys": [(NO_KEY, "no key"), *keys],
        "models": list(models.distinct().order_by("model")[:100]),
        "slow": SLOW,
    }
