"""A restart without a gap, as the supervisor of one server does it."""

from __future__ import annotations

import asyncio

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.changes import RunClosed, RunOpened, RunReady
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.lifecycle.beside import LINGER_SECONDS, PATIENCE
from supervisor_app.core.shortage import ShortageError
from supervisor_app.core.spec import RestartPolicy
from supervisor_app.core.status import FailureKind, Model, Stage, Status
from supervisor_app.core.testing import make_config
from tests.unit.core.seamless import (
    FIRST_PID,
    LEAVING,
    LOADING,
    NEVER_READY,
    PORT,
    SECOND,
    SECOND_PID,
    THIRD,
    alive,
    config,
    restarts,
    serving,
    stage,
    wishes,
)


async def test_the_new_process_takes_over_and_the_old_one_ends_when_it_is_idle():
    async with serving() as b:
        b.probe.busy.add(PORT)
        await restarts(b)
        assert b.status.status is Status.READY
        assert (b.status.pid, b.status.endpoint.port) == (SECOND_PID, SECOND)
        assert b.status.url.endswith(f":{SECOND}")
        assert (stage(b), b.status.replacement.identity.pid) == (LEAVING, FIRST_PID)
        assert b.status.replacement.as_json()["pid"] == FIRST_PID
        assert f"pid {FIRST_PID}, finishes what it does" in b.status.detail
        await b.clock.advance(LINGER_SECONDS + 5)
        assert alive(b) == [FIRST_PID, SECOND_PID], "it has a request"
        b.probe.busy.clear()
        await b.clock.advance(1)
        assert alive(b) == [SECOND_PID]
        assert b.status.replacement is None
        assert b.words == ["starting", "ready"]


async def test_both_runs_change_places_in_one_transaction():
    async with serving() as b:
        await restarts(b)
        (switch,) = [change for change in b.store.changes if len(change.run_events) == 3]
        closed, opened, ready = switch.run_events
        assert isinstance(closed, RunClosed)
        assert closed.failure is None
        assert isinstance(opened, RunOpened)
        assert opened.identity.pid == SECOND_PID
        assert isinstance(ready, RunReady)
        assert (switch.identity.pid, switch.port) == (SECOND_PID, SECOND)
        await b.clock.advance(60)
        assert len(b.history) == 5, "the end of the old process adds nothing"


async def test_the_next_restart_has_the_next_port_and_a_crash_keeps_the_last():
    async with serving() as b:
        await restarts(b, 10)
        await restarts(b, 10)
        assert b.processes.ports == [PORT, SECOND, PORT]
        b.processes.last.die(signal=9)
        await b.clock.advance(10)
        assert b.processes.ports == [PORT, SECOND, PORT, PORT]


async def test_a_second_wish_is_the_same_while_it_loads_and_the_next_one_while_the_old_process_drains():
    async with serving() as b:
        b.probe.loading.add(SECOND)
        await restarts(b)
        await restarts(b)
        assert len(b.processes.spawned) == 2
        b.probe.loading.clear()
        b.probe.busy.add(PORT)
        await b.clock.advance(1)
        await restarts(b)
        assert len(b.processes.spawned) == 2
        b.probe.busy.clear()
        await b.clock.advance(10)
        assert b.processes.ports == [PORT, SECOND, PORT]
        assert alive(b) == [102]


async def test_nobody_waits_for_an_old_process_for_ever():
    async with serving() as b:
        b.probe.busy.add(PORT)
        await restarts(b)
        await b.clock.advance(PATIENCE * RestartPolicy.drain_seconds + 1)
        assert alive(b) == [SECOND_PID]


async def test_an_old_process_that_cannot_be_asked_counts_as_busy():
    async with serving() as b:
        await restarts(b)
        old = b.supervisor.seats.beside.watched

        async def cannot(timeout):
            raise ShortageError("no descriptor")

        old.requests, asked = cannot, old.requests
        await b.clock.advance(10)
        assert stage(b) is LEAVING
        old.requests = asked
        await b.clock.advance(1)
        assert alive(b) == [SECOND_PID]


async def test_an_old_process_that_dies_while_it_drains_is_no_crash_of_the_server():
    async with serving() as b:
        b.probe.busy.add(PORT)
        await restarts(b)
        b.processes.spawned[0].die(signal=11)
        await b.clock.advance(1)
        assert (b.status.status, b.status.pid, b.status.replacement) == (Status.READY, SECOND_PID, None)


# --- The new process comes to nothing --------------------------------------------------------------------


async def test_a_new_process_that_crashes_leaves_the_old_one_serving():
    async with serving() as b:
        b.probe.loading.add(SECOND)
        await restarts(b)
        b.processes.last.die(code=1)
        await b.clock.advance(60)
        assert (b.status.status, b.status.pid, stage(b)) == (Status.READY, FIRST_PID, Stage.FAILED)
        assert "The new process did not get ready; the process before serves on." in b.status.warnings[-1]
        assert len(b.processes.spawned) == 2, "it is not tried again"
        assert [type(event) for event in b.history] == [RunOpened, RunReady]
        wishes(b, restart_generation=3, restart_seamless=False)
        await b.clock.advance(1)
        assert b.status.replacement is None, "the next wish makes it old news"


async def test_a_new_process_that_is_never_ready_is_ended():
    async with serving(config(health=NEVER_READY)) as b:
        b.probe.silent.add(SECOND)
        await restarts(b, 20)
        assert alive(b) == [FIRST_PID]
        assert stage(b) is Stage.FAILED


async def test_two_that_do_not_fit_are_refused_with_the_reason():
    async with serving() as b:
        b.room.beside = "`default (new)` needs 12 GiB on GPU 0. Free are 3 GiB."
        await restarts(b)
        assert (b.status.status, b.status.pid, stage(b)) == (Status.READY, FIRST_PID, Stage.REFUSED)
        assert b.status.replacement.detail == f"Not restarted without a gap. {b.room.beside}"
        assert len(b.processes.spawned) == 1


async def test_without_a_free_port_it_is_refused():
    async with serving() as b:
        b.processes.taken |= {SECOND, THIRD}
        await restarts(b)
        assert stage(b) is Stage.REFUSED
        assert "no port of its range is free" in b.status.replacement.detail


async def test_a_port_that_another_server_has_chosen_is_left_to_it():
    async with serving() as b:
        b.ports.add(SECOND)
        await restarts(b)
        assert b.processes.ports == [PORT, THIRD]


async def test_nothing_is_begun_that_cannot_be_written_down(monkeypatch):
    async with serving() as b:

        async def away(timeout):
            return False

        monkeypatch.setattr(b.recorder, "saved", away)
        await restarts(b)
        assert stage(b) is Stage.FAILED
        assert "the database is away" in b.status.replacement.detail
        assert len(b.processes.spawned) == 1


async def test_the_old_process_stays_until_it_is_written_down_that_there_is_a_new_one(monkeypatch):
    async with serving() as b:
        b.probe.loading.add(SECOND)
        await restarts(b)
        written = iter([False, False, True])

        async def saved(timeout):
            await b.clock.sleep_until(b.clock.monotonic() + timeout)
            return next(written)

        monkeypatch.setattr(b.recorder, "saved", saved)
        b.probe.loading.clear()
        await b.clock.advance(14)
        assert alive(b) == [FIRST_PID, SECOND_PID]
        await b.clock.advance(5)
        assert alive(b) == [SECOND_PID]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"spare_ports": ()}, "Its port is fixed"),
        ({"desired_running": False}, "It is not ready"),
    ],
)
async def test_a_server_that_cannot_be_restarted_so_is_refused_with_the_reason(given, why):
    async with serving(config(**given)) as b:
        b.supervisor.tell(lifecycle.Restart(seamless=True))
        await b.clock.advance(1)
        assert why in b.status.replacement.detail
        assert len(b.processes.spawned) == given.get("desired_running", True)


# --- The old process comes to nothing --------------------------------------------------------------------


async def test_a_new_process_that_loads_goes_on_when_the_old_one_crashes():
    async with serving() as b:
        b.probe.loading.add(SECOND)
        await restarts(b)
        b.processes.spawned[0].die(signal=11)
        await b.clock.advance(1)
        assert (b.status.status, b.status.pid) == (Status.STARTING, SECOND_PID)
        assert b.status.replacement is None
        b.probe.loading.clear()
        await b.clock.advance(2)
        assert (b.status.status, b.status.retries) == (Status.READY, 1)
        assert len(b.processes.spawned) == 2
        kinds = [type(event) for event in b.history]
        assert kinds == [RunOpened, RunReady, RunClosed, RunOpened, RunReady]


async def never(name, spec):
    """Give no answer to whether there is room for both processes."""
    await asyncio.Event().wait()


async def test_a_new_process_that_does_not_exist_yet_gives_way_to_the_ordinary_road():
    async with serving() as b:
        b.room.fits_beside = never
        await restarts(b)
        assert stage(b) is LOADING
        b.processes.spawned[0].die(signal=11)
        await b.clock.advance(10)
        assert (b.status.status, b.status.replacement) == (Status.READY, None)
        assert b.processes.ports == [PORT, PORT]


@pytest.mark.parametrize("busy", [True, False])
async def test_a_stop_ends_both(busy):
    async with serving() as b:
        (b.probe.busy if busy else b.probe.loading).add(PORT if busy else SECOND)
        await restarts(b)
        assert len(alive(b)) == 2
        b.supervisor.stop("The supervisor was stopped.", spare_adopted=True)
        await b.clock.advance(1)
        await b.supervisor.idle()
        assert alive(b) == []
        assert (b.status.status, b.status.replacement) == (Status.INITIAL, None)


async def test_a_supervisor_that_is_forced_kills_both_and_waits_for_both():
    async with serving() as b:
        b.probe.busy.add(PORT)
        await restarts(b)
        b.supervisor.kill()
        await b.clock.advance(0.5)
        assert alive(b) == []


async def test_an_ordinary_restart_ends_the_new_one_too():
    async with serving() as b:
        b.probe.loading.add(SECOND)
        await restarts(b)
        wishes(b, restart_generation=3, restart_seamless=False)
        await b.clock.advance(5)
        assert b.processes.ports == [PORT, SECOND, PORT]
        assert alive(b) == [102]


async def test_an_ordinary_restart_lets_the_old_one_finish():
    async with serving() as b:
        b.probe.busy.add(PORT)
        await restarts(b)
        wishes(b, restart_generation=3, restart_seamless=False)
        await b.clock.advance(5)
        assert b.processes.ports == [PORT, SECOND, SECOND]
        assert alive(b) == [FIRST_PID, 102]


# --- Looks and signs ------------------------------------------------------------------------------------


async def test_both_processes_are_looked_at_and_both_hear_that_answers_move():
    async with serving() as b:
        b.probe.busy.add(PORT)
        await restarts(b)
        seats = list(b.supervisor.seats)
        for seat in seats:
            seat.watched.moved = False
        b.supervisor.moved()
        assert [seat.watched.moved for seat in seats] == [True, True]
        assert b.supervisor.pids == (SECOND_PID, FIRST_PID)
        assert b.supervisor.second.phase is lifecycle.Phase.SERVING
        await b.clock.advance(1)
        b.clock.freeze(60)
        await b.clock.advance(1)
        assert len(alive(b)) == 2, "time in which nobody looked counts for neither"


async def test_a_server_of_a_router_or_found_running_is_refused():
    from supervisor_app.core.lifecycle.beside import why_not_seamless

    router = Model(id="a", name="a", status="loaded")
    options = {"adopted": False, "draining": False, "port_is_chosen": True}
    assert "router" in why_not_seamless(Status.READY, [router], **options)
    assert "started elsewhere" in why_not_seamless(Status.READY, [], **{**options, "adopted": True})
    assert "makes room" in why_not_seamless(Status.READY, [], **{**options, "draining": True})
    assert why_not_seamless(Status.READY, [], **options) == ""


def test_failures_beside_another_process_are_not_followed_by_a_retry():
    from supervisor_app.core.lifecycle.tries import failed

    state = lifecycle.State(status=Status.STARTING)
    after, _ = failed(state, failure_of(FailureKind.EXITED, "x"), lifecycle.Policy(beside=True), 0.0)
    assert (after.status, after.deadline) == (Status.ERROR, None)
    assert make_config().spare_ports == ()
