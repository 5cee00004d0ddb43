"""Parameters of an address become a query, or a sentence that says what is wrong with them."""

from __future__ import annotations

import pytest

from supervisor_app.logs.history import Place
from supervisor_app.logs.query import BadQueryError, Query, query_of
from supervisor_app.logs.search import Filter


@pytest.mark.parametrize(
    ("given", "query"),
    [
        ({}, Query()),
        ({"before": "n1n.5"}, Query(before=Place("n1n", 5))),
        ({"at": "2023-11-14T22:13:20Z"}, Query(at=1_700_000_000.0)),
        ({"at": "2023-11-14T22:13:20"}, Query(at=1_700_000_000.0)),
        ({"at": "1700000000500"}, Query(at=1_700_000_000.5)),
        ({"run": "17"}, Query(run=17)),
        ({"q": "a", "pattern": "1"}, Query(wanted=Filter(text="a", is_pattern=True))),
        ({"q": "a", "inverse": "1"}, Query(wanted=Filter(text="a", is_inverse=True))),
        ({"levels": "ew-"}, Query(wanted=Filter(levels=frozenset("EW-")))),
    ],
)
def test_a_query(given, query):
    assert query_of(given) == query


@pytest.mark.parametrize(
    "given",
    [
        {"before": "x"},
        {"at": "yesterday"},
        {"at": "9" * 40},
        {"run": "-1"},
        {"run": "9" * 30},
        {"levels": "x"},
    ],
)
def test_a_query_that_makes_no_sense_is_explained(given):
    (name,) = given
    with pytest.raises(BadQueryError, match=f"^{name}: "):
        query_of(given)
