"""A request in short words: its outcome with remarks, its tokens, its times."""

from __future__ import annotations

import pytest

from supervisor_app.gateway.records.record import Outcome
from supervisor_app.pages.templatetags.gateway_tags import (
    cached,
    drafted,
    outcome_remarks,
    outcome_tone,
    outcome_word,
    speed,
    spent,
)
from supervisor_app.traffic.models import RequestRecord


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_word_and_its_colour(outcome):
    assert outcome_word(outcome.value)
    assert outcome_tone(outcome.value) in {"up", "busy", "calm", "warn", "bad"}


@pytest.mark.parametrize(
    ("fields", "remarks"),
    [
        ({"outcome": "ok", "status": 200}, ""),
        ({"outcome": "replayed", "status": 200}, "after a crash"),
        ({"outcome": "upstream_error", "status": 400}, "400"),
        ({"outcome": "refused", "status": 429}, "429"),
        ({"outcome": "client_left", "status": None}, ""),
    ],
)
def test_an_outcome_has_its_remarks(fields, remarks):
    assert outcome_remarks(RequestRecord(**fields)) == remarks


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, ("", "", "")),
        ({"cached_tokens": 0, "tokens_per_second": 0.25}, ("", "0.2/s", "")),
        ({"cached_tokens": 7, "tokens_per_second": 9.94}, ("7 cached", "9.9/s", "")),
        ({"tokens_per_second": 9.96}, ("", "10/s", "")),
        ({"drafted_tokens": 60, "accepted_tokens": 41}, ("", "", "41 of 60 drafted")),
    ],
)
def test_tokens_have_their_remarks(fields, said):
    record = RequestRecord(**fields)
    assert (cached(record), speed(record), drafted(record)) == said


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(None, ""), (0, "0 ms"), (0.4, "0 ms"), (999.4, "999 ms"), (999.6, "1.0 s"), (61_000, "1 m 01 s")],
)
def test_times_are_said_as_short_as_they_are(milliseconds, words):
    assert spent(milliseconds) == words
