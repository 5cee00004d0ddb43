"""Wishes in a configuration, and the events that they become."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.lifecycle import Restart, Start, Stop
from supervisor_app.core.testing import make_config
from supervisor_app.core.wishes import event_of


@pytest.mark.parametrize(
    ("known", "asked", "event"),
    [
        (3, {"generation": 3}, None),
        (0, {"generation": 1}, Start(generation=1, preload=True)),
        (0, {"generation": 2}, Start(generation=2)),
        (1, {"generation": 2}, Start(generation=2)),
        (5, {"generation": 2}, Start(generation=2)),
        (2, {"generation": 3, "restart_generation": 3}, Restart(generation=3)),
        (
            2,
            {"generation": 3, "restart_generation": 3, "restart_seamless": True},
            Restart(generation=3, seamless=True),
        ),
        (2, {"generation": 3, "desired_running": False}, Stop("", generation=3)),
        (
            2,
            {"generation": 3, "desired_running": False, "at_once": True},
            Stop("", generation=3, at_once=True),
        ),
    ],
    ids=[
        "no news",
        "a server that was just made",
        "made, and asked for since",
        "a start",
        "an older database",
        "a restart",
        "a restart without a gap",
        "a stop",
        "a stop at once",
    ],
)
def test_a_wish_becomes_the_event_that_it_asks_for(known, asked, event):
    assert event_of(replace(make_config(), **asked), known) == event


def test_a_stop_of_an_idle_server_says_why():
    asked = event_of(replace(make_config(generation=2, desired_running=False), idle_seconds=600), 1)
    assert isinstance(asked, Stop)
    assert "10 m" in asked.note
