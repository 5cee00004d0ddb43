"""The first page: all servers, or the one that there is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import size
from supervisor_app.fleet.conf import apply_overlay
from supervisor_app.fleet.config_source import last_good
from supervisor_app.fleet.devices import known_devices
from supervisor_app.fleet.events import LISTINGS, Listing, in_pieces, rendered
from supervisor_app.fleet.footprint_rows import known_needs
from supervisor_app.fleet.models import LlamaServer
from supervisor_app.pages.presenters.overview import Overview, Place, model_of, overview_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.fleet.footprint_record import Known
    from supervisor_app.fleet.snapshots import ServerView


def load_overview(views: Sequence[ServerView]) -> Overview:
    """Add to the servers what their rows show beside the status. Four queries at most, for any number."""
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
    return overview_of(views, places)


def _memory(node: str, known: Known | None, names: dict[tuple[str, str], str]) -> dict[str, Any]:
    if known is None or not known.devices:
        return {}
    memory = {names.get((node, device), device): count for device, count in sorted(known.devices.items())}
    devices = ", ".join(f"{size(count)} of {device}" for device, count in memory.items())
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


LISTINGS["rows"] = Listing(render_overview, load_overview)
