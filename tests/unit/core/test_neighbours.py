"""A port changes hands between servers of a node: nobody gets a process that is being let go."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from supervisor_app.core import lifecycle
from supervisor_app.core.changes import Remembered, RunClosed
from supervisor_app.core.chronicle import RENAMED
from supervisor_app.core.lifecycle import Phase, State
from supervisor_app.core.neighbours import judge, owner_of
from supervisor_app.core.node import NodeSupervisor
from supervisor_app.core.sightings import Identity, PortHolder, Slots
from supervisor_app.core.status import Status
from supervisor_app.core.testing import (
    FakeClock,
    FakeContexts,
    FakeFootprints,
    FakeProbe,
    FakeProcesses,
    InMemoryStore,
    RecordingPublisher,
    make_config,
    make_spec,
    stranger,
)
from tests.unit.core.deciding import Server
from tests.unit.core.running import running

PORT, OTHER_PORT = 8134, 9001
BUSY, IDLE = Slots(answered=True, busy=True, working=2, total=4), Slots(answered=True, total=4)
ME = Identity(pid=42, start=1, boot_id="boot")


@dataclass
class Machine(FakeProcesses):
    """A machine whose processes hold the ports that they were started on."""

    ports: dict[Identity | None, int] = field(default_factory=dict)

    async def port_holder(self, name, spec):
        for process in self.alive:
            if self.ports[process.identity] == spec.port:
                return holder_of(process.identity)
        return self.holder

    async def find(self, name, identity, spec):
        known = any(process.identity == identity for process in self.alive)
        return holder_of(identity) if known else None

    async def spawn(self, name, spec):
        process = await super().spawn(name, spec)
        self.ports[process.identity] = spec.port
        return process


def holder_of(identity, **changes):
    return PortHolder(identity=identity, command="llama-server", is_llama_server=True, **changes)


class Node:
    def __init__(self, *servers):
        self.clock, self.probe = FakeClock(), FakeProbe()
        self.processes = Machine(self.clock)
        self.store = InMemoryStore(servers=list(servers))
        self.publisher = RecordingPublisher()
        self.supervisor = NodeSupervisor(
            store=self.store,
            publisher=self.publisher,
            processes=self.processes,
            probe=self.probe,
            clock=self.clock,
            footprints=FakeFootprints(),
            contexts=FakeContexts(),
        )

    async def has(self, *servers, seconds=2.0):
        """Let the node have these servers from now on."""
        self.store.servers = list(servers)
        self.supervisor.nudge()
        await self.clock.advance(seconds)

    def seen(self, name):
        return next(seen for seen in reversed(self.publisher.snapshots) if seen.name == name)

    def statuses(self, name):
        """Statuses that pages saw of a server, each once."""
        return {seen.status for seen in self.publisher.snapshots if seen.name == name}

    @property
    def pids(self):
        return [process.identity.pid for process in self.processes.alive]


def node(*servers):
    return running(Node(*servers))


def server(name, port=PORT):
    return make_config(name, spec=make_spec(port))


FAILED = {Status.CRASHED, Status.ERROR}
WAITS = "Waiting for port 8134: pid 100 of the server old has it until it has ended."


async def test_a_server_on_the_port_of_a_deleted_one_waits_until_that_has_finished():
    async with node(server("old")) as n:
        n.probe.working = BUSY
        await n.has(server("new"))
        assert (n.seen("new").status, n.seen("new").detail) == (Status.STARTING, WAITS)
        assert (n.pids, n.processes.adopted) == ([100], [])
        n.probe.working = IDLE
        await n.clock.advance(2)
        assert (n.seen("new").status, n.seen("new").pid) == (Status.READY, 101)
        assert not n.statuses("new") & FAILED
        assert n.processes.adopted == []


async def test_a_server_that_was_to_wait_and_is_stopped_waits_no_more():
    async with node(server("old")) as n:
        n.probe.working = BUSY
        await n.has(server("new"))
        await n.has(replace(server("new"), desired_running=False, generation=2))
        assert n.seen("new").status is Status.INITIAL
        n.probe.working = IDLE
        await n.clock.advance(2)
        assert n.pids == []


async def test_a_server_that_moves_to_the_port_of_one_that_still_stops_waits_for_it():
    async with node(server("old"), server("new", OTHER_PORT)) as n:
        n.probe.working = BUSY
        await n.has(server("old", 9002), server("new"))
        n.processes.spawned[1].die(code=0)  # its own process has nothing to finish
        await n.clock.advance(2)
        assert n.seen("new").detail == WAITS.replace("Waiting", "The configuration changed. Waiting")
        n.probe.working = IDLE
        await n.clock.advance(3)
        assert n.seen("old").status is n.seen("new").status is Status.READY
        assert sorted(n.processes.ports[process.identity] for process in n.processes.alive) == [PORT, 9002]
        assert n.processes.adopted == []


async def test_servers_that_swap_their_ports_start_anew_on_them():
    async with node(server("a"), server("b", OTHER_PORT)) as n:
        await n.has(server("a", OTHER_PORT), server("b"), seconds=5)
        assert n.seen("a").status is n.seen("b").status is Status.READY
        assert n.processes.adopted == []
        assert not (n.statuses("a") | n.statuses("b")) & FAILED


async def test_a_renamed_server_starts_once_its_process_under_the_old_name_has_ended():
    async with node(server("old")) as n:
        n.probe.working = BUSY
        n.store.memory["new"] = Remembered(
            status=Status.READY, generation=1, identity=n.processes.last.identity, run_open=True
        )
        await n.has(server("new"))
        assert (n.seen("new").detail, n.processes.adopted) == (WAITS, [])
        n.probe.working = IDLE
        await n.clock.advance(2)
        assert (n.seen("new").status, n.seen("new").pid) == (Status.READY, 101)
        assert not n.statuses("new") & FAILED
        events = [event for change in n.store.changes for event in change.run_events]
        ends = [(event.failure, event.note) for event in events if isinstance(event, RunClosed)]
        assert (None, RENAMED) in ends


async def test_a_process_of_another_server_that_stays_is_named_and_not_adopted():
    async with node(server("old")) as n:
        await n.has(server("old"), server("new"))
        assert n.seen("new").status is Status.ERROR
        said = "Address not available: pid 100 (llama-server), a process of the server old, listens on it"
        assert said in n.seen("new").detail
        assert n.processes.adopted == []


def test_a_port_is_looked_at_again_and_said_to_be_waited_for_once():
    waits = lifecycle.PortAwaited(1, WAITS)
    inspecting = Server().send(lifecycle.Start())
    assert inspecting.send(waits).logs() == [f"⏳ [LLAMA] {WAITS}"]
    assert inspecting.to_next_deadline().effects == [lifecycle.InspectPort(1)]
    assert inspecting.send(waits).effects == []
    assert inspecting.send(lifecycle.Inspected(1, None)).state.awaits == ""


def test_an_answer_about_a_port_that_comes_too_late_changes_nothing():
    ready = Server().ready()
    before = ready.state
    assert ready.send(lifecycle.PortAwaited(before.attempt, WAITS)).state == before


@dataclass
class Seat:
    state: State
    config: object

    @property
    def pids(self):
        return () if self.state.identity is None else (self.state.identity.pid,)


@dataclass
class Other:
    """Another server, with one process."""

    seats: tuple[Seat, ...]
    config: object
    leaving: bool = False
    has_begun: bool = True


def other(phase=Phase.SERVING, status=Status.READY, *, port=PORT, now=None, identity=ME, **changes):
    """Make a server whose process was started on `port`, and which is to be on the port `now`."""
    state = State(status=status, phase=phase, identity=identity)
    seat = Seat(state, make_config(spec=make_spec(port)))
    return {"old": Other((seat,), make_config(spec=make_spec(now or port)), **changes)}


def look(holder, neighbours):
    return judge(lifecycle.Inspected(1, holder), PORT, neighbours)


@pytest.mark.parametrize(
    ("neighbours", "waits"),
    [
        ({}, False),
        (other(), False),
        (other(leaving=True), True),
        (other(Phase.ENDING, Status.STOPPING), True),
        (other(Phase.SPAWNING, Status.STOPPING, identity=None), True),
        (other(now=OTHER_PORT), True),
        (other(leaving=True, port=OTHER_PORT), False),
        (other(Phase.IDLE, Status.INITIAL, leaving=True, identity=None), False),
    ],
    ids=["nobody", "stays", "deleted", "stops", "spawns", "moves", "elsewhere", "gone"],
)
def test_a_port_is_waited_for_while_a_process_is_to_leave_it_also_before_it_listens(neighbours, waits):
    assert isinstance(look(None, neighbours), lifecycle.PortAwaited) is waits


def test_a_process_without_a_number_yet_is_a_process():
    said = look(None, other(Phase.SPAWNING, Status.STOPPING, identity=None)).why
    assert said == "Waiting for port 8134: a process of the server old has it until it has ended."


def test_a_process_on_another_port_than_it_was_to_be_is_known_by_its_log():
    resumed = other(port=OTHER_PORT)  # its port was changed while nobody supervised
    child = holder_of(Identity(pid=43, start=1, boot_id="boot"), server="old")
    assert isinstance(look(child, resumed), lifecycle.PortAwaited)


def test_nobody_is_adopted_before_all_have_found_out_what_is_theirs():
    found = stranger(llama=True)
    waiting = look(found, other(Phase.IDLE, Status.INITIAL, identity=None, has_begun=False))
    assert waiting == lifecycle.PortAwaited(1, "Looking whose process listens on port 8134.")
    assert look(found, other(identity=None)).holder == found


@pytest.mark.parametrize("holder", [stranger(llama=False), replace(stranger(llama=True), ours=True)])
def test_a_process_of_no_other_server_is_as_it_was_seen(holder):
    assert look(holder, other(has_begun=False, port=OTHER_PORT)).holder is holder


def test_a_process_belongs_to_the_server_that_has_it():
    assert owner_of(ME, other()) == "old"
    assert owner_of(Identity(pid=43, start=1, boot_id="boot"), other()) == ""
    assert owner_of(None, other(identity=None)) == ""
