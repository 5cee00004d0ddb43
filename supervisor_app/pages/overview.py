"""The first page: all servers, or the one that there is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from supervisor_app.common.words import roughly, size
from supervisor_app.core.placement.world import Source
from supervisor_app.fleet.availability import bars_of
from supervisor_app.fleet.conf import apply_overlay
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.events import in_pieces, rendered
from supervisor_app.fleet.footprint_rows import known_needs
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.uptime import Window
from supervisor_app.pages.door import page
from supervisor_app.pages.parts import pushed
from supervisor_app.pages.presenters.overview import Figures, Overview, Place, model_of, overview_of
from supervisor_app.traffic.live import in_flight
from supervisor_app.web.rights import Right

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.fleet.footprint_record import Known
    from supervisor_app.fleet.snapshots import ServerView

FIGURES_SECONDS = 2
"""Time for which figures are shown to others who ask."""
BARS_SECONDS = 10
"""The same of bars: a slice of them is half an hour."""


def load_overview(views: Sequence[ServerView]) -> Overview:
    """Add to the servers what their rows show beside the status. More servers need no more queries."""
    if len(views) < 2:
        return overview_of(views, {})
    needs = known_needs()
    names = {(node.node, device.id): device.name for node in known_devices() for device in node.devices}
    overlay, places = last_good(), {}
    for row in LlamaServer.objects.all():
        apply_overlay(row, overlay)
        places[row.name] = Place(
            node=row.node,
            group=row.group,
            model=model_of(row.model_path, row.models_dir, row.args),
            **_memory(row.node, needs.get(row.name), names),
        )
    return overview_of(views, places, load_figures([view.status.name for view in views]))


def load_figures(names: Sequence[str]) -> dict[str, Figures]:
    """Read what changes all the time. Four queries at most, for any number of servers."""
    bars, counts = bars_of(names, Window.DAY, timezone.now()), in_flight(names)
    return {name: Figures(bar=bars.get(name), counts=counts.get(name)) for name in names}


def load_flights() -> list[dict[str, Any]]:
    """Return what `supervisor/_row_flight.html` shows of each server. Two queries."""
    found = in_flight(_names())
    return [{"name": name, "figures": Figures(counts=counts)} for name, counts in found.items()]


def load_bars() -> list[dict[str, Any]]:
    """Return what `supervisor/_row_bar.html` shows of each server. Four queries at most."""
    names = _names()
    found = bars_of(names, Window.DAY, timezone.now())
    return [{"name": name, "figures": Figures(bar=found.get(name))} for name in names]


@pushed("supervisor/_row_flight.html", lambda _asked, _may: load_flights())
@page(Right.READ)
def figures(request: HttpRequest) -> HttpResponse:
    """Answer with what is in flight for each server. All who ask within a moment share an answer."""
    return HttpResponse(cache.get_or_set("overview-figures", _render_flights, FIGURES_SECONDS))


@pushed("supervisor/_row_bar.html", lambda _asked, _may: load_bars(), pause=BARS_SECONDS)
@page(Right.READ)
def bars(request: HttpRequest) -> HttpResponse:
    """Answer with the last day of each server. All who ask within a while share an answer."""
    return HttpResponse(cache.get_or_set("overview-bars", _render_bars, BARS_SECONDS))


def _render_flights() -> str:
    return _render_rows("supervisor/_row_flight.html", load_flights())


def _render_bars() -> str:
    return _render_rows("supervisor/_row_bar.html", load_bars())


def _render_rows(template: str, rows: Sequence[dict[str, Any]]) -> str:
    return "".join(rendered(template, {**row, "pushed": True}) for row in rows)


def _names() -> list[str]:
    return list(LlamaServer.objects.values_list("name", flat=True))


def _memory(node: str, known: Known | None, names: dict[tuple[str, str], str]) -> dict[str, Any]:
    if known is None or not known.devices:
        return {}
    is_guess = known.source is Source.ESTIMATED
    memory = {
        names.get((node, device), device): f"about {roughly(count)}" if is_guess else size(count)
        for device, count in sorted(known.devices.items())
    }
    devices = ", ".join(f"{count} of {device}" for device, count in memory.items())
    return {"memory": memory, "memory_said": f"{known.sentence}: {devices}"}


def render_overview(overview: Overview) -> list[str]:
    """Render which servers there are, in order, then each: an open page keeps the rest as it is."""
    context = {"overview": overview, "now": time.time(), "oob": True}
    texts = [rendered("supervisor/_overview.html", context)]
    if overview.only is None:
        texts += [
            rendered("supervisor/_overview_entry.html", {**context, "row": row}) for row in overview.rows
        ]
    return in_pieces(texts)
