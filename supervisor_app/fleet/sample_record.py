"""Samples in the database: written in batches, rolled up, pruned, read. Blocking."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q
from django.db.models.functions import Now

from supervisor_app.fleet.models import LlamaServer
from supervisor_app.fleet.sample_rules import (
    HELD_SECONDS,
    HOUR,
    KEPT,
    MEMORY,
    MINUTE,
    SECOND,
    Mean,
    Point,
    longer,
    minutes_of,
    pack,
    unpack,
)
from supervisor_app.fleet.sample_tables import Pulse, Sample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from django.db.models import QuerySet

    from supervisor_app.fleet.sample_rules import Figures

ROW_SECONDS = 60
"""Longest time from the begin of a row of seconds to its last sample."""
CUTS = 5
"""Batches of old rows of a step that are deleted in one round: more than are written in it."""
PERIODS = 10
"""Minutes or hours that are summed at once: a tenth of a second of 150 servers."""
BATCH = 500
"""Rows that are inserted or deleted at once: some milliseconds."""


def write(node: str, samples: Mapping[str, Sequence[tuple[int, Figures]]]) -> None:
    """Write the samples of servers, in the order of their times. Raises what the database raises.

    A batch may come again, because nobody knows what became of it: rows that are there stay as they are.
    """
    rows = [
        Sample(server_id=server, step=SECOND, at=part[0][0], figures=pack(part))
        for name, server in _numbers(node, samples).items()
        for part in _parts(samples[name])
    ]
    Sample.objects.bulk_create(rows, batch_size=BATCH, ignore_conflicts=True)


def _parts(samples: Sequence[tuple[int, Figures]]) -> list[list[tuple[int, Figures]]]:
    """Cut samples into rows, which are no longer than `ROW_SECONDS` each."""
    parts: list[list[tuple[int, Figures]]] = []
    for sample in samples:
        if not parts or sample[0] - parts[-1][0][0] >= ROW_SECONDS:
            parts.append([])
        parts[-1].append(sample)
    return parts


def write_pulses(
    node: str, pulses: Mapping[str, tuple[list[dict[str, Any]], Sequence[tuple[int, Figures]]]]
) -> None:
    """Write slots, and the samples that no row holds yet. Raises what the database raises."""
    rows = [
        Pulse(server_id=server, seen_at=Now(), slots=slots, figures=_tail(samples))
        for name, server in _numbers(node, pulses).items()
        for slots, samples in [pulses[name]]
    ]
    Pulse.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["server"], update_fields=["seen_at", "slots", "figures"]
    )


def _tail(samples: Sequence[tuple[int, Figures]]) -> dict[str, Any]:
    tail = [sample for sample in samples if sample[0] > samples[-1][0] - ROW_SECONDS]
    return {"at": tail[0][0], **pack(tail)} if tail else {}


def _numbers(node: str, names: Iterable[str]) -> dict[str, int]:
    """Primary keys of servers that still exist."""
    rows = LlamaServer.objects.on_node(node).filter(name__in=list(names)).order_by("name")
    return dict(rows.values_list("name", "pk"))


# --- Roll-up and pruning -------------------------------------------------------------------------------


def roll_up(node: str, now: float) -> None:
    """Sum the minutes that are over, then the hours, of all servers of the node; delete what is too old."""
    if not (_roll(node, SECOND, MINUTE, int(now)) and _roll(node, MINUTE, HOUR, int(now))):
        return
    for step, kept in KEPT.items():
        _delete(node, step, Q(at__lt=int(now) - kept - step))
        _delete(node, step, Q(at__gt=int(now) + HOUR))  # a clock that was ahead has written these


def _delete(node: str, step: int, when: Q) -> None:
    rows = Sample.objects.filter(when, server__node=node, step=step).order_by("at")
    for _ in range(CUTS):
        some = list(rows.values_list("pk", flat=True)[:BATCH])
        Sample.objects.filter(pk__in=some).delete()
        if len(some) < BATCH:
            break


def _roll(node: str, fine: int, coarse: int, now: int) -> bool:
    """Sum what is over and not summed yet, a few periods at most. False: the rest has its turn later."""
    rows = Sample.objects.filter(server__node=node)
    # By order, which the index tells: Min and Max would read every row of the node.
    last = rows.filter(step=coarse).order_by("-at").values_list("at", flat=True).first()
    begin, end = 0 if last is None else last + coarse, now // coarse * coarse
    finer = rows.filter(step=fine).order_by("at")
    begin = max(begin, (finer.values_list("at", flat=True).first() or 0) // coarse * coarse)
    while begin < end:
        stop = min(end, begin + PERIODS * coarse)
        if new := _sums(finer, fine, coarse, begin, stop):
            Sample.objects.bulk_create(new, batch_size=BATCH, ignore_conflicts=True)
            return stop == end
        following = finer.filter(at__gte=stop).values_list("at", flat=True).first()
        if following is None:
            break
        begin = following // coarse * coarse
    return True


def _sums(finer: QuerySet[Sample], fine: int, coarse: int, begin: int, end: int) -> list[Sample]:
    before = HELD_SECONDS + ROW_SECONDS if fine == SECOND else 0
    by_server: dict[int, list[Sample]] = {}
    for row in finer.filter(at__gte=begin - before, at__lt=end):
        by_server.setdefault(row.server_id, []).append(row)
    return [
        Sample(server_id=server, step=coarse, at=point.at, figures=point.figures)
        for server, its in by_server.items()
        for point in _summed(its, fine, begin, end)
    ]


def _summed(rows: Sequence[Sample], fine: int, begin: int, end: int) -> list[Point]:
    if fine == SECOND:
        return minutes_of([each for row in rows for each in unpack(row.at, row.figures)], begin, end)
    return longer(map(point_of, rows), HOUR)


def point_of(row: Sample) -> Point:
    """Return a row of a minute or of an hour as a value."""
    return Point(row.at, {name: Mean(*mean) for name, mean in row.figures.items()})


# --- For pages -----------------------------------------------------------------------------------------


def seconds_since(name: str, since: int) -> list[tuple[int, Figures]]:
    """Return the samples of a server after a moment in Unix seconds, in order. Two queries."""
    rows = Sample.objects.filter(server__name=name, step=SECOND, at__gt=since - ROW_SECONDS).order_by("at")
    found = dict(sample for at, packed in rows.values_list("at", "figures") for sample in unpack(at, packed))
    figures = Pulse.objects.filter(server__name=name).values_list("figures", flat=True).first() or {}
    tail = {key: value for key, value in figures.items() if key != "at"}
    found |= dict(unpack(figures.get("at", 0), tail))
    return [(at, found[at]) for at in sorted(found) if at > since]


def memory_since(since: int) -> dict[str, dict[str, int]]:
    """Return the bytes that servers were last seen to use after a moment, by `Device.id`. Two queries."""
    rows = Sample.objects.filter(step=SECOND, at__gt=since - ROW_SECONDS).order_by("at")
    packed = list(rows.values_list("server__name", "at", "figures"))
    for name, figures in Pulse.objects.values_list("server__name", "figures"):
        packed.append((name, figures.get("at", 0), {key: figures[key] for key in figures if key != "at"}))
    found: dict[str, dict[str, int]] = {}
    for name, begin, columns in packed:
        for at, figures in unpack(begin, columns):
            if at > since:
                seen = {
                    key.removeprefix(MEMORY): int(figures[key]) for key in figures if key.startswith(MEMORY)
                }
                found.setdefault(name, {}).update(seen)
    return found


def points_since(name: str, step: int, since: int) -> list[Point]:
    """Return the minutes or hours of a server since a moment, in order. One query."""
    rows = Sample.objects.filter(server__name=name, step=step, at__gte=since).order_by("at")
    return [point_of(row) for row in rows.only("at", "figures")]


def newest_point(name: str) -> Point | None:
    """Return the last minute, else the last hour, of which something is known. One query."""
    rows = Sample.objects.filter(server__name=name, step__in=[MINUTE, HOUR]).order_by("-at", "step")
    row = rows.first()
    return None if row is None else point_of(row)
