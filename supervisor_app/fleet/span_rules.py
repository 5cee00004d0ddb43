"""Rules by which spans follow each other: the last two, and a new state. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from supervisor_app.core.spans import SpanState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.core.spans import SpanBegan

FLAP_SECONDS = 60.0
"""A span shorter than this is merged into the one before while there are `CROWD` of them in an hour."""
CROWD = 60
"""Spans that may begin in an hour: one that is retried each minute, for ever, makes as many."""
RANK = {state: number for number, state in enumerate(SpanState)}


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A span as a value. Times in Unix seconds."""

    state: SpanState
    began: float
    ended: float | None = None
    """None: it goes on."""
    down: bool = False
    reason: str = ""
    run: int | None = None
    """Number of the run that ended with the reason."""
    pk: int | None = None
    """Number of its row; None: it has none yet."""

    @property
    def rank(self) -> tuple[bool, int]:
        """The lower, the worse."""
        return not self.down, RANK[self.state]

    def is_as(self, other: Piece) -> bool:
        return (self.state, self.down) == (other.state, other.down)


def follow(tail: Sequence[Piece], began: SpanBegan, run: int | None, *, crowded: bool) -> list[Piece]:
    """Return what takes the place of `tail`, the newest pieces of a server, at most two, the older first.

    `crowded`: as many spans as may be have begun in the last hour. Then a short one is merged into the one
    before, which takes the worse state of both: a server that flaps counts as down.
    """
    new = Piece(state=began.state, began=began.at, down=began.down, reason=began.reason, run=run)
    if not tail or tail[-1].ended is not None:
        return [*tail, new]
    before, last = list(tail[:-1]), tail[-1]
    new = replace(new, began=max(began.at, last.began))
    if began.unknown_since is not None and last.state is not SpanState.UNKNOWN:
        lost = min(max(began.unknown_since, last.began), new.began)
        before, last = [*before, replace(last, ended=lost)], Piece(state=SpanState.UNKNOWN, began=lost)
    elif crowded and before and new.began - last.began < FLAP_SECONDS:
        last = _merged(before.pop(), last)
        if not last.is_as(new) and new.rank < last.rank:
            last = _merged(last, new)
            return [*before, last]
    if last.is_as(new):
        return [*before, replace(last, reason=new.reason or last.reason, run=new.run or last.run)]
    return [*before, replace(last, ended=new.began), new]


def _merged(older: Piece, newer: Piece) -> Piece:
    """Return the row of the older piece in the worse state of both, open."""
    worse = min(newer, older, key=lambda piece: piece.rank)
    return replace(worse, began=older.began, ended=None, pk=older.pk)
