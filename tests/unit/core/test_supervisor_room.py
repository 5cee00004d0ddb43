"""A server's supervisor where servers share memory: what it asks for, and what it tells of its server."""

from __future__ import annotations

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.changes import RunClosed
from supervisor_app.core.diagnosis.explanations import failure_of
from supervisor_app.core.shortage import ShortageError
from supervisor_app.core.sightings import ProcessUsage, Slots
from supervisor_app.core.status import FailureKind, Status
from supervisor_app.core.testing import make_config
from tests.unit.core.supervising import bench


def shares_memory(built):
    built.room.is_on = True


def listens_unseen(built, why):
    """Have it not be seen, for this reason, whose the sockets of new processes are; empty: it is."""
    spawn = built.processes.spawn

    async def spawn_unseen(name, spec):
        process = await spawn(name, spec)
        process.unseen = why
        return process

    built.processes.spawn = spawn_unseen


async def test_nothing_is_spawned_before_there_is_room():
    async with bench(prepare=shares_memory) as b:
        assert (b.status.status, b.processes.spawned) == (Status.STARTING, [])
        assert b.room.nudges
        b.supervisor.tell(lifecycle.RoomGiven(b.supervisor.state.attempt))
        await b.clock.advance(1)
        assert b.status.status is Status.READY


async def test_a_server_that_was_refused_asks_again_once_it_may_fit():
    async with bench(prepare=shares_memory) as b:
        too_big = failure_of(FailureKind.DOES_NOT_FIT, "`default` needs 22.4 GiB")
        b.supervisor.tell(lifecycle.RoomRefused(b.supervisor.state.attempt, too_big))
        await b.clock.advance(10)
        assert b.status.status is Status.ERROR
        b.room.fits = True
        await b.clock.advance(10)
        assert b.status.status is Status.STARTING


async def test_a_server_that_does_not_run_has_no_requests():
    async with bench(make_config(desired_running=False)) as b:
        assert await b.supervisor.requests() == 0


@pytest.mark.parametrize(
    ("slots", "connections", "requests"),
    [
        (Slots(answered=True, busy=True, working=3, total=4), 5, 3),
        (Slots(answered=True, total=4), 5, 0),
        (Slots(answered=True), 5, 1),
        (Slots(answered=True), 0, 0),
        (Slots(answered=False), 0, 1),
    ],
    ids=["busy", "idle", "tells no slots, has clients", "tells no slots, has none", "silent"],
)
async def test_requests_in_flight_are_counted_by_slots_and_else_by_clients(slots, connections, requests):
    async with bench() as b:
        b.probe.working = slots
        b.processes.last.used = ProcessUsage(connections=connections)
        assert await b.supervisor.requests() == requests


@pytest.mark.parametrize(
    ("unseen", "requests"), [("", 0), ("It cannot be seen whose this is.", 2)], ids=["seen", "unseen"]
)
async def test_a_server_without_clients_is_not_asked_if_it_is_seen_where_it_listens(unseen, requests):
    async with bench(prepare=lambda b: listens_unseen(b, unseen)) as b:
        b.processes.last.connected = False
        b.probe.working = Slots(answered=True, busy=True, working=2, total=4)
        assert await b.supervisor.requests() == requests


async def test_a_question_that_cannot_be_asked_counts_as_a_request():
    async with bench() as b:

        async def no_descriptor(spec, timeout, *, may_wake):
            raise ShortageError

        b.probe.slots = no_descriptor
        assert await b.supervisor.requests() == 1


async def test_a_request_that_was_seen_is_the_last_use():
    async with bench() as b:
        await b.clock.advance(100)
        before = b.supervisor.use.last_used
        b.probe.working = Slots(answered=True, busy=True, working=1, total=4)
        await b.supervisor.requests()
        assert b.supervisor.use.last_used > before


@pytest.mark.parametrize("wanted_again", [False, True])
async def test_a_server_that_made_room_gets_its_post_mortem_once_the_other_had_time_to_start(wanted_again):
    async with bench(prepare=shares_memory) as b:
        b.supervisor.tell(lifecycle.RoomGiven(b.supervisor.state.attempt))
        await b.clock.advance(1)
        b.processes.last.stubborn, before = True, b.processes.rests
        b.supervisor.tell(lifecycle.Unload(b.supervisor.state.attempt, "Room is made.", "Not loaded."))
        if wanted_again:
            b.supervisor.tell(lifecycle.Start(generation=2))
        await b.clock.advance(0)
        b.processes.last.die(code=0)
        ended_at = b.clock.time()
        await b.clock.advance(0)
        assert b.processes.rests - before == int(wanted_again)
        assert b.supervisor.state.gone is not wanted_again
        await b.clock.advance(1)
        assert b.processes.rests - before == 1
        assert [event.at for event in b.history if isinstance(event, RunClosed)] == [ended_at]
