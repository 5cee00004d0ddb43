"""Filters of the pages: the fate of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template

from supervisor_app.common import words
from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.models import OUTCOME_WORDS, RequestRecord
from supervisor_app.traffic.shown import held_for, spent, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from supervisor_app.traffic.search import Search

register = template.Library()
register.filter(held_for)
register.filter(spent)
register.filter(tokens)

TONES: dict[Outcome, str] = {
    Outcome.OK: "up",
    Outcome.HELD: "busy",
    Outcome.REPLAYED: "busy",
    Outcome.CLIENT_LEFT: "calm",
    Outcome.REFUSED: "warn",
    Outcome.CANCELLED: "calm",
    Outcome.UPSTREAM_ERROR: "warn",
}


@register.filter
def outcome_word(outcome: str) -> str:
    return OUTCOME_WORDS[Outcome(outcome)][0]


@register.filter
def outcome_remarks(record: RequestRecord) -> str:
    """`after waiting`, `503`."""
    remark = OUTCOME_WORDS[Outcome(record.outcome)][1]
    status = str(record.status) if record.status and record.status >= 400 else ""
    return ", ".join(said for said in (remark, status) if said)


@register.filter
def outcome_tone(outcome: str) -> str:
    """The colour of an outcome: `up`, `busy`, `calm`, `warn` or `bad`."""
    return TONES.get(Outcome(outcome), "bad")


@register.filter
def cached(record: RequestRecord) -> str:
    """`900 cached`."""
    return f"{record.cached_tokens} cached" if record.cached_tokens else ""


@register.filter
def speed(record: RequestRecord) -> str:
    """`41/s`."""
    per_second = record.tokens_per_second
    if per_second is None:
        return ""
    return f"{per_second:.0f}/s" if per_second >= 9.95 else f"{per_second:.1f}/s"


@register.filter
def drafted(record: RequestRecord) -> str:
    """`40 of 60 drafted`: so many were accepted."""
    return (
        f"{record.accepted_tokens or 0} of {record.drafted_tokens} drafted" if record.drafted_tokens else ""
    )


@register.filter
def sorted_query(search: Search, column: str) -> str:
    """The query of the same search in the order of this column."""
    return search.sorted_by(column).query


@register.filter
def with_words(counts: Sequence[int], words: Sequence[str]) -> list[tuple[int, str]]:
    """Pair each count with the word of its column."""
    return list(zip(counts, words, strict=True))


@register.filter
def thousands(count: int) -> str:
    """`1 204 332`, with spaces that do not break."""
    return words.thousands(count)
