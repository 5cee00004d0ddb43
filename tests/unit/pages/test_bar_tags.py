"""Stretches of a bar, as its partial shows them."""

from __future__ import annotations

import re

import pytest

from supervisor_app.core.spans import SpanState
from supervisor_app.fleet.uptime import Bar, Slice, Tally
from supervisor_app.pages.templatetags.bar_tags import bar, month, share, stretches, uptime_sentence

READY, CRASHED = SpanState.READY, SpanState.CRASHED


def a_bar(*told) -> Bar:
    """(state, seconds down) of each half hour."""
    parts = []
    for number, (state, down) in enumerate(told):
        tally = Tally(seconds={state: 1800} if state else {}, down=down, begun=1 if down else 0)
        began = 1800.0 * number
        parts.append(Slice(began=began, ended=began + 1800, state=state, seconds=down, run=7, tally=tally))
    return Bar(slices=tuple(parts))


def test_slices_in_which_nothing_happened_are_one_stretch():
    shown_bar = a_bar((None, 0), (READY, 0), (READY, 0), (CRASHED, 600), (CRASHED, 1), (SpanState.STOPPED, 0))
    shown = [(part.tone, part.slices) for part in stretches(shown_bar, "chat", True)]
    assert shown == [("none", 1), ("up", 2), ("bad", 1), ("warn", 1), ("calm", 1)]


@pytest.mark.parametrize(
    ("can_control", "state", "down", "address"),
    [
        (True, CRASHED, 60, "/servers/chat/runs/7/"),
        (True, READY, 0, "/servers/chat/runs/?from=0&to=1800"),
        (False, CRASHED, 60, "/servers/chat/availability"),
    ],
)
def test_a_stretch_leads_to_what_happened(can_control, state, down, address):
    (part,) = stretches(a_bar((state, down)), "chat", can_control)
    assert part.href == address


def test_figures_are_told_in_words():
    assert month(1_764_244_800.0) == "Nov 2025"
    assert (share(None), share(0.5)) == ("", "50 %")
    assert uptime_sentence(Tally()) == "It was not to be ready in this time."


def test_a_bar_can_be_walked_by_keyboard_and_says_no_more_than_text():
    broken = Slice(
        began=0.0, ended=1800.0, state=CRASHED, seconds=9, reason='"><b>', tally=Tally(down=9, begun=1)
    )
    shown = str(bar(Bar(slices=(broken, a_bar((READY, 0)).slices[0])), "chat", False))
    assert re.findall(r'<a class="slice"[^>]*?( tabindex="-1")?></a>', shown) == [' tabindex="-1"', ""]
    assert "<b>" not in shown
    assert 'aria-label="Last 24 hours: ' in shown
