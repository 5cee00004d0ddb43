"""Two processes of one server: when the new one takes the place of the old one, and when one of them goes.

Each of the two is a `State` of its own, decided by `decide`. This module only says what follows from where
both stand: `next_move` after each step of either.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING

from supervisor_app.core.lifecycle.state import Phase, State
from supervisor_app.core.status import Stage, Status

if TYPE_CHECKING:
    from collections.abc import Iterable

    from supervisor_app.core.status import Model

LINGER_SECONDS = 2.0
"""Time for gateways to hear of the new process: one without news reads the database every second."""
PATIENCE = 20
"""Factor of `drain_seconds` for the old process: nobody waits for its end, the new one serves.

By default these are 10 minutes. A process that hangs counts as busy.
"""
WITHOUT = frozenset({Phase.IDLE, Phase.BACKOFF})
"""Phases without a process, in which none is on its way."""
TAKEABLE = frozenset({Phase.WAITING, Phase.READING_MODELS, Phase.SERVING})
"""Phases of a process that can go on as the server's own."""
COMING_BACK = frozenset({Phase.SPAWNING, Phase.WAITING, Phase.READING_MODELS})
"""Phases in which a process that was taken over is on its way to be ready again."""

NOT_READY = "It is not ready, so there is nothing to keep up: restart it as usual."
ADOPTED = "It was started elsewhere, so nobody knows what a second one needs: restart it as usual."
ROUTER = "It is a router, whose models come and go, so nobody knows whether two fit: restart it as usual."
FIXED_PORT = (
    "Its port is fixed, and two processes cannot share one: describe it in llamaproxy.toml without `port`, "
    "so that one is chosen, or restart it as usual."
)
MAKES_ROOM = "It makes room for another server now."


class Move(Enum):
    """The next step of two processes."""

    WAIT = auto()
    SWITCH = auto()
    """Both are ready: the new process becomes the server's own, and the old one finishes what it does."""
    TAKE_OVER = auto()
    """The server's own process has died: the new one goes on in its place, ready or not."""
    END = auto()
    """The process beside is to end now."""
    FAIL = auto()
    """The new process has come to nothing."""
    FORGET = auto()
    """The old process has gone."""


def why_not_seamless(
    status: Status, models: Iterable[Model], *, adopted: bool, draining: bool, port_is_chosen: bool
) -> str:
    """Say why a server cannot be restarted without a gap now, as a sentence; empty: that may begin."""
    if not port_is_chosen:
        return FIXED_PORT
    if status is not Status.READY:
        return NOT_READY
    if adopted:
        return ADOPTED
    if any(model.comes_and_goes for model in models):
        return ROUTER
    return MAKES_ROOM if draining else ""


def next_move(stage: Stage, main: State, beside: State) -> Move:
    """Return what follows. `main`: the server's own process. `beside`: the other one, at this `stage`."""
    if beside.phase in WITHOUT:
        return Move.FAIL if stage is Stage.LOADING else Move.FORGET
    if beside.status is Status.STOPPING:
        return Move.WAIT
    if main.status in (Status.STOPPING, Status.INITIAL):
        return Move.WAIT if stage is Stage.LEAVING and main.start_next else Move.END
    if stage is Stage.LEAVING or main.phase in COMING_BACK or main.phase is Phase.ENDING:
        return Move.WAIT
    if main.phase is Phase.SERVING:
        return Move.SWITCH if beside.phase is Phase.SERVING else Move.WAIT
    return Move.TAKE_OVER if beside.phase in TAKEABLE else Move.END


def may_leave(beside: State, requests: int, seconds: float, drain_seconds: int) -> bool:
    """May the old process end, which has had so many `seconds` for `requests` that are still in flight?

    Requests are counted of a process that serves. One that was found loading, or hangs, has none to finish.
    """
    if seconds < LINGER_SECONDS:
        return False
    return beside.phase is not Phase.SERVING or not requests or seconds >= PATIENCE * drain_seconds
