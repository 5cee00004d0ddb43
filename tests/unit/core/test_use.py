"""Use of a server, and the steps that those who wait for room have to hear of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor_app.core.lifecycle import Phase, State, Tick
from supervisor_app.core.status import Status
from supervisor_app.core.testing import FakeClock
from supervisor_app.core.use import Use, concerns_room

WAITING = State(status=Status.STARTING, phase=Phase.WAITING)
SERVING = State(status=Status.READY, phase=Phase.SERVING)
IDLE = State()


def test_a_server_is_used_from_the_moment_at_which_it_got_ready():
    clock = FakeClock()
    use = Use(clock)
    clock.freeze(5)
    use.follow(WAITING, SERVING, Tick())
    assert use.ready_since == use.last_used == clock.monotonic()
    clock.freeze(5)
    use.follow(SERVING, SERVING, Tick())
    assert use.last_used == clock.monotonic() - 5
    use.follow(SERVING, IDLE, Tick())
    assert use.ready_since is None


@pytest.mark.parametrize(
    ("before", "after", "beside", "concerns"),
    [
        (IDLE, WAITING, False, False),
        (IDLE, WAITING, True, True),
        (WAITING, SERVING, False, True),
        (SERVING, SERVING, False, False),
        (SERVING, SERVING, True, False),
        (SERVING, replace(SERVING, gone=True), False, True),
        (SERVING, replace(SERVING, gone=True), True, False),
    ],
)
def test_a_step_concerns_others_when_it_frees_room_or_needs_some(before, after, beside, concerns):
    assert concerns_room(before, after, beside=beside) is concerns
