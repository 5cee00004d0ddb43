"""Records of what launches need, as rows. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from supervisor_app.common.moments import moment, seconds
from supervisor_app.common.storage import storable
from supervisor_app.fleet.footprint_record import Known, Record, best, others_of
from supervisor_app.fleet.models import Footprint, ServerState

if TYPE_CHECKING:
    from collections.abc import Mapping

Link = tuple[str, str]
"""Identity and build of a record."""
_PLAIN = ("identity", "build", "model", "flags", "estimated", "told", "measured", "runs", "run", "raised")


def record_of(row: Footprint) -> Record:
    return Record(
        **{name: getattr(row, name) for name in _PLAIN},
        measured_at=seconds(row.measured_at),
        died_at=seconds(row.died_at),
    )


def load_records(node: str, identity: str) -> list[Record]:
    """Read all that is kept of the same files and flags, one record for each build."""
    return [record_of(row) for row in Footprint.objects.filter(node=node, identity=identity)]


@transaction.atomic
def save_records(node: str, records: Mapping[Link, Record], links: Mapping[str, Link]) -> list[str]:
    """Save records, and by which of them servers go. Return the servers that have no state yet."""
    for (identity, build), record in records.items():
        columns = {name: getattr(record, name) for name in _PLAIN}
        Footprint.objects.update_or_create(
            node=node,
            identity=identity,
            build=build,
            defaults={
                **storable(columns),
                "measured_at": moment(record.measured_at),
                "died_at": moment(record.died_at),
                "used_at": timezone.now(),
            },
        )
    missing = []
    for name, (identity, build) in links.items():
        row = Footprint.objects.filter(node=node, identity=identity, build=build).first()
        states = ServerState.objects.filter(server__name=name, server__node=node)
        if row is None or not states.update(footprint=row):
            missing.append(name)
        else:
            Footprint.objects.filter(pk=row.pk).update(used_at=timezone.now())
    return missing


def known_needs(name: str | None = None) -> dict[str, Known]:
    """Return the best that is known of all servers' needs, or of one, as their supervisors left it; by name.

    Two queries. A server that has not been looked at yet is missing.
    """
    states = ServerState.objects.exclude(footprint=None).select_related("server", "footprint")
    if name is not None:
        states = states.filter(server__name=name)
    found = {state.server.name: state.footprint for state in states if state.footprint is not None}
    kept: dict[Link, list[Record]] = {}
    for row in Footprint.objects.filter(identity__in={row.identity for row in found.values()}):
        kept.setdefault((row.node, row.identity), []).append(record_of(row))
    needs = {}
    for server, row in found.items():
        own = record_of(row)
        needs[server] = best(own, others_of(own, kept.get((row.node, row.identity), [])))
    return needs
