"""Hung is not healthy, and slow is not hung."""

from __future__ import annotations

import pytest

from supervisor_app.core.sightings import Canary
from supervisor_app.core.watch.watchdog import Activity, Watch, WorkState, canary_due, hear, look

STALL = 180.0


class Server:
    """Looks at it as often as the watch wants to, on a clock of its own."""

    def __init__(self) -> None:
        self.watch, self.now, self.verdict = Watch(), 0.0, WorkState.IDLE

    def sees(self, *, seconds: float = 0.0, moving: bool = False, **activity) -> Server:
        end = self.now + seconds
        while True:
            if moving:
                activity["mark"] = self.now
            self.watch, self.verdict = look(
                self.watch, Activity(**activity), stall_seconds=STALL, now=self.now
            )
            if self.verdict is WorkState.STALLED or self.now >= end:
                return self
            self.now += self.watch.interval


def test_nothing_to_do_is_never_hung():
    assert Server().sees(seconds=86_400, busy=False).verdict is WorkState.IDLE


def test_work_that_moves_is_never_hung():
    assert Server().sees(seconds=3600, busy=True, moving=True).verdict is WorkState.WORKING


def test_work_that_does_not_move_is_hung_after_the_stall_time():
    server = Server().sees(seconds=1000, busy=True, mark="stuck")
    assert server.verdict is WorkState.STALLED
    assert STALL <= server.now <= STALL + 2


def test_answers_that_pass_a_gateway_are_movement_whatever_its_slots_say():
    assert Server().sees(seconds=3600, busy=True, mark="stuck", moved=True).verdict is WorkState.WORKING
    assert Server().sees(seconds=3600, answered=False, moved=True).verdict is WorkState.WORKING


def test_a_prefill_of_an_hour_is_not_hung():
    # One batch a minute: prompt tokens move once every 60 s.
    server = Server()
    for minute in range(60):
        server.sees(seconds=60, busy=True, mark=minute, cores=2.0)
        assert server.verdict is WorkState.WORKING


def test_a_busy_cpu_extends_the_grace_but_not_for_ever():
    server = Server().sees(seconds=STALL * 4, busy=True, mark="one batch", cores=2.0)
    assert server.verdict is WorkState.WORKING
    server.sees(seconds=STALL * 2, busy=True, mark="one batch", cores=2.0)
    assert server.verdict is WorkState.STALLED
    assert server.now == pytest.approx(STALL * 5, abs=2)


def test_an_old_build_that_does_not_answer_while_it_decodes_is_never_killed():
    server = Server().sees(seconds=7200, answered=False, cores=1.0)
    assert server.verdict is WorkState.WORKING


def test_silence_without_any_computing_is_hung_in_the_end():
    server = Server().sees(seconds=7200, answered=False, cores=0.0)
    assert server.verdict is WorkState.STALLED
    assert server.now == pytest.approx(STALL * 5, abs=2)


def test_an_old_build_that_answers_between_decodes_is_never_killed():
    server = Server()
    for _ in range(100):
        server.sees(busy=False).sees(seconds=600, answered=False)
        assert server.verdict is WorkState.WORKING


def test_silence_of_a_build_that_answers_while_it_works_is_evidence():
    server = Server().sees(seconds=10, busy=True, moving=True).sees(seconds=10, busy=False)
    server.sees(seconds=1000, answered=False)
    assert server.verdict is WorkState.STALLED


def test_a_single_lost_answer_is_forgiven():
    server = Server().sees(seconds=170, busy=True, mark="x").sees(answered=False)
    assert server.verdict is WorkState.WORKING
    server.now += 2
    assert server.sees(busy=True, mark="y").watch.stalled_for(server.now) == 0


def test_work_that_ends_forgets_the_stall():
    server = (
        Server()
        .sees(seconds=170, busy=True, mark="x")
        .sees(busy=False)
        .sees(seconds=170, busy=True, mark="x")
    )
    assert server.verdict is WorkState.WORKING


def test_the_watchdog_asks_at_most_every_two_seconds_and_less_when_idle():
    assert Watch(busy=True).interval == 2.0
    assert Watch().interval > 2.0
    assert Watch(moved_at=1.0).stalled_for(100.0) == 0.0


# The canary


def due(server: Server, minutes: float = 10) -> bool:
    return canary_due(server.watch, minutes, server.now)


def test_a_canary_is_due_after_so_many_idle_minutes():
    assert not due(Server().sees(seconds=590))
    assert due(Server().sees(seconds=600))


def test_no_canary_is_ever_due_without_minutes_for_it():
    assert not due(Server().sees(seconds=86_400), minutes=0)


def test_work_puts_the_canary_off():
    server = Server().sees(seconds=590).sees(busy=True, mark=1).sees(seconds=590)
    assert not due(server)
    assert due(server.sees(seconds=20))


@pytest.mark.parametrize("activity", [{"busy": True, "mark": 1}, {"answered": False}, {"signs": True}])
def test_no_canary_is_due_while_a_server_works_or_may_work(activity):
    server = Server().sees(seconds=700)
    server.watch = hear(server.watch, Canary.SILENT, server.now)
    assert due(server)
    server.watch, _ = look(server.watch, Activity(**activity), stall_seconds=0, now=server.now)
    assert not due(server)
    assert server.watch.silent_canaries == 0


def test_an_answered_canary_is_good_for_as_long_again():
    server = Server().sees(seconds=700)
    server.watch = hear(hear(server.watch, Canary.SILENT, 700), Canary.FINE, server.now)
    assert server.watch.silent_canaries == 0
    assert not due(server.sees(seconds=590))
    assert due(server.sees(seconds=20))


def test_silence_is_counted_and_asked_again_at_once():
    server = Server().sees(seconds=700)
    server.watch = hear(hear(server.watch, Canary.SILENT, 880), Canary.SILENT, 1060)
    assert server.watch.silent_canaries == 2
    assert due(server)


def test_a_server_that_completes_no_text_gets_no_canary_again():
    server = Server().sees(seconds=700)
    server.watch = hear(server.watch, Canary.UNSUPPORTED, server.now)
    assert not due(server.sees(seconds=86_400))
