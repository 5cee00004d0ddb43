"""Columns of a request's record, as pages and the admin show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.common import words

if TYPE_CHECKING:
    from supervisor_app.traffic.models import RequestRecord


def spent(milliseconds: float | None) -> str:
    """Return `words.milliseconds`; nothing when the time is not known."""
    return "" if milliseconds is None else words.milliseconds(milliseconds)


def held_for(record: RequestRecord) -> str:
    """Return `120 ms room, 1.6 s load`: for which part of a load a request was held."""
    parts = [(record.room_ms, "room"), (record.load_ms, "load")]
    return ", ".join(f"{spent(time)} {word}" for time, word in parts if round(time))


def tokens(record: RequestRecord) -> str:
    """Return `1204 in, 86 out`; counts that the server did not report are left out."""
    counts = [(record.prompt_tokens, "in"), (record.generated_tokens, "out")]
    return ", ".join(f"{count} {word}" for count, word in counts if count is not None)
