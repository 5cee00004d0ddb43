"""Parts of a log that people ask for, as the address of a page or of the API says it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from supervisor_app.logs.history import Place
from supervisor_app.logs.lines import LEVELS
from supervisor_app.logs.search import Filter

if TYPE_CHECKING:
    from collections.abc import Mapping


class BadQueryError(Exception):
    """A mistake in a query, as a sentence."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Part of a log; without any place its end."""

    wanted: Filter = field(default_factory=Filter)
    before: Place | None = None
    after: Place | None = None
    around: Place | None = None
    at: float | None = None
    """Unix seconds."""
    run: int | None = None
    """Number of a run: where that ended."""


def query_of(given: Mapping[str, str]) -> Query:
    """Return the query that parameters tell. Raises BadQueryError."""
    return Query(
        wanted=filter_of(given),
        before=_place(given, "before"),
        after=_place(given, "after"),
        around=_place(given, "around"),
        at=_moment(given.get("at", "")),
        run=_number(given.get("run", "")),
    )


def filter_of(given: Mapping[str, str]) -> Filter:
    """Return the filter that parameters tell. Raises BadQueryError."""
    levels = frozenset(given.get("levels", "").upper()) or frozenset(LEVELS)
    if unknown := levels - set(LEVELS):
        raise BadQueryError(
            f"levels: {''.join(sorted(unknown))!r} is no level; use some of {''.join(LEVELS)}."
        )
    return Filter(
        text=given.get("q", ""),
        is_pattern=given.get("pattern") == "1",
        is_inverse=given.get("inverse") == "1",
        levels=levels,
    )


def _place(given: Mapping[str, str], name: str) -> Place | None:
    try:
        return Place.parse(given[name]) if given.get(name) else None
    except ValueError as error:
        raise BadQueryError(f"{name}: {error}") from error


def _moment(text: str) -> float | None:
    """Parse Unix milliseconds, or a moment as ISO 8601 writes it, in UTC where it names no zone."""
    try:
        if not text:
            return None
        if text.isascii() and text.isdigit() and len(text) < 16:
            return int(text) / 1000
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise BadQueryError(f"at: {text[:80]!r} is no time; write 2026-11-29T15:04:05Z.") from error


def _number(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadQueryError(f"run: {text[:80]!r} is not the number of a run.")
    return int(text)
