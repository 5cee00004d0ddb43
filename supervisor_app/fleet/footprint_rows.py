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


def known_of(row: Footprint) -> Known:
    """Return the best that is known of a launch."""
    own = record_of(row)
    return best(own, others_of(own, load_records(row.node, row.identity)))
