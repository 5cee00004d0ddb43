"""The words of an act in the audit."""

from __future__ import annotations

import pytest

from supervisor_app.pages.presenters.audit import Touched, touched_by


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"port": 8134}, {"port": 8200}, ("8134", "8200")),
        ({"args": []}, {"args": ["-c", "4096"]}, ("none", "-c 4096")),
        ({"pinned": False}, {"pinned": True}, ("no", "yes")),
        ({"note": ""}, {"note": "for the team"}, ("none", "for the team")),
        ({"limit": None}, {"limit": 0}, ("none", "0")),
        ({"presets": {}}, {"presets": {"short": {"max_tokens": 9}}}, ("none", "short: max_tokens: 9")),
    ],
)
def test_a_change_is_told_in_words(before, after, words):
    name = next(iter(after))
    assert touched_by(before, after) == [Touched(name=name, before=words[0], after=words[1])]


def test_an_addition_has_nothing_before_and_a_removal_nothing_after():
    assert touched_by({}, {"port": 8134}) == [Touched(name="port", before="", after="8134")]
    assert touched_by({"port": 8134}, {}) == [Touched(name="port", before="8134", after="")]


def test_a_name_that_one_side_lacks_is_none_there():
    assert touched_by({"a": 1}, {"b": 2}) == [
        Touched(name="b", before="none", after="2"),
        Touched(name="a", before="1", after="none"),
    ]
