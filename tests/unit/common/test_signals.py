"""Signals that ask for an end: how many wishes they are."""

from __future__ import annotations

import asyncio
import os
import signal

from supervisor_app.common.signals import AT_ONCE_SECONDS, Heard, on_ends

SOON, LATER = AT_ONCE_SECONDS / 2, AT_ONCE_SECONDS


def test_a_signal_that_comes_twice_at_once_is_one_wish_and_later_another():
    heard = Heard()
    assert heard.is_new(signal.SIGTERM, 10.0)
    assert not heard.is_new(signal.SIGTERM, 10.0 + SOON)
    assert heard.is_new(signal.SIGTERM, 10.0 + SOON + LATER)


def test_a_signal_that_others_heard_counts_as_the_first():
    heard = Heard(since=10.0)
    assert not heard.is_new(signal.SIGINT, 10.0 + SOON)
    assert heard.is_new(signal.SIGTERM, 10.0 + LATER)


def test_another_signal_is_another_wish():
    heard = Heard()
    assert heard.is_new(signal.SIGTERM, 10.0)
    assert heard.is_new(signal.SIGINT, 10.0)


async def test_a_process_that_is_signalled_with_its_group_is_asked_once(monkeypatch):
    """As `timeout` does it. SIGINT comes last, so all before it was heard."""
    loop, acts, all_heard = asyncio.get_running_loop(), [], asyncio.Event()
    now = loop.time()

    def act():
        acts.append(len(acts))
        if len(acts) == 2:
            all_heard.set()

    monkeypatch.setattr(loop, "time", lambda: now)
    on_ends(loop, act)
    try:
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        await all_heard.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    assert acts == [0, 1]
