"""States of a download: which one follows, by what people want and whether its process runs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor_app.modelfiles.models import Desired, State

if TYPE_CHECKING:
    from collections.abc import Iterable

ENDED = (State.DONE, State.FAILED, State.CANCELLED)
WISHES = {
    "pause": (State.WANTED, State.RUNNING),
    "resume": (State.PAUSED,),
    "cancel": (State.WANTED, State.RUNNING, State.PAUSED, State.FAILED),
    "retry": (State.FAILED, State.CANCELLED),
}
"""Wish -> states in which a page offers it."""


def following(state: str, desired: str, *, is_again: bool, has_process: bool) -> State:
    """Return the state that follows. `is_again`: people want a try that was not begun yet."""
    now = State(state)
    match now:
        case State.DONE:
            return now
        case State.FAILED | State.CANCELLED if is_again and desired == Desired.RUN:
            return State.WANTED
        case State.CANCELLED:
            return now
    if desired == Desired.CANCEL:
        return State.CANCELLED
    if now is State.FAILED:
        return now
    if desired == Desired.PAUSE:
        return State.PAUSED
    return State.RUNNING if now is State.RUNNING and has_process else State.WANTED


def chosen_to_start(waiting: Iterable[int], running: int, most: int) -> list[int]:
    """Return which of those that wait start now, in their order."""
    return list(waiting)[: max(0, most - running)]


def wishes_of(state: str) -> list[str]:
    """Return what people may wish of a download in this state."""
    return [wish for wish, states in WISHES.items() if state in states]
