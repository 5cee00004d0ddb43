"""Planned work over what a server was: that time is maintenance, whatever happened in it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

from supervisor_app.common.words import iso
from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.span_rules import Piece

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Times = tuple[float, float | None]
"""Begin and end in Unix seconds; None: it goes on."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Maintenance that is in force. Times in Unix seconds."""

    number: int
    server: str | None
    """None: of all servers."""
    since: float
    until: float | None
    by: str
    note: str

    def as_json(self) -> dict[str, Any]:
        """Return it without who and why: readers need no login."""
        return {"since": iso(self.since), "until": iso(self.until), "all": self.server is None}


def joined(times: Iterable[Times]) -> list[tuple[float, float]]:
    """Return times in order, those that touch as one."""
    found: list[tuple[float, float]] = []
    for began, said in sorted(times, key=lambda each: each[0]):
        ended = inf if said is None else said
        if found and began <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], ended))
        else:
            found.append((began, ended))
    return found


def planned(pieces: Sequence[Piece], times: Iterable[Times]) -> list[Piece]:
    """Return the pieces of a server, the oldest first, with what was within the times as maintenance."""
    whole = joined(times)
    if not whole:
        return list(pieces)
    return [part for piece in pieces for part in _cut(piece, whole)]


def _cut(piece: Piece, times: Sequence[tuple[float, float]]) -> Iterator[Piece]:
    at, end = piece.began, inf if piece.ended is None else piece.ended
    is_moment, is_within = at == end, False
    for began, ended in times:
        if ended <= at or began > end or (began == end and not is_moment):
            continue
        if began > at:
            yield replace(piece, began=at, ended=began)
        stop = min(ended, end)
        is_within = True
        yield Piece(
            state=SpanState.MAINTENANCE,
            began=max(at, began),
            ended=None if stop == inf else stop,
            pk=piece.pk,
        )
        at = stop
    if at < end or not is_within:
        yield replace(piece, began=at)
