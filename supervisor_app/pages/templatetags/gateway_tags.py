"""Filters of the pages: the fate of a request."""

from __future__ import annotations

from django import template

from supervisor_app.gateway.records.record import Outcome
from supervisor_app.traffic.models import OUTCOME_WORDS, RequestRecord
from supervisor_app.traffic.shown import held_for, spent, tokens

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
def tokens_more(record: RequestRecord) -> str:
    """`900 cached, 41/s`."""
    said = []
    if record.cached_tokens:
        said.append(f"{record.cached_tokens} cached")
    if record.tokens_per_second is not None:
        speed = record.tokens_per_second
        said.append(f"{speed:.0f}/s" if speed >= 9.95 else f"{speed:.1f}/s")
    return ", ".join(said)
